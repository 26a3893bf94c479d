"""The tagger on its own: images in, tags with scores out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from models import RAM, Label, label_queries, load_tagger
from models import Tagger as TaggerModel
from models.conse import ConSE, open_logits
from models.onnx_tagger import OnnxTagger, is_onnx_folder
from models.weights import model_folder
from models.zero_shot import ClipZeroShot, ZeroShot
from ram_engine.automatic import MANY
from ram_engine.explain import GRID, beyond, sheet
from ram_engine.runs import latest_model
from storage.store import Store, StoreError
from tasks.images.decoding import decode_image

CAPTIONERS = (
    f"`ram-engine run` trains a captioner from {MANY:,} captions on, with a GPU or with --set effort=thorough, and "
    "`make demo` one on drawings; --model takes a published checkpoint that `ram-engine import-checkpoint` converted"
)

BATCH = 16


@dataclass(frozen=True)
class Tag:
    """A tag of an image. ``score``, 0..1: a trained model's probability, or what share of their belief the zero-shot
    teacher's classifiers put on the kinds of this tag."""

    name: str
    type: str
    score: float


class Tagger:
    """Tags images with a trained model, or with the zero-shot teacher where there is none yet."""

    def __init__(self, model: TaggerModel | ZeroShot | OnnxTagger, name: str) -> None:
        self.model = model
        self.name = name
        cuda = torch.cuda.is_available() and not isinstance(model, OnnxTagger)
        self.device = torch.device("cuda" if cuda else "cpu")
        if not isinstance(model, OnnxTagger):
            model.eval().to(self.device)
        self.transform = None if isinstance(model, ZeroShot) else model.preprocessing.transform()

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path) -> Tagger:
        """A model folder on this machine, an exported ONNX folder, which is faster on a CPU, or a hub id (OWNER/NAME).

        Raises FileNotFoundError for what is neither, WeightsError where the hub does not give the model.
        """
        path = model_folder(folder_or_hub_id)
        if (path / "whole").is_dir():
            path = path / "whole"
        if is_onnx_folder(path):
            graph = OnnxTagger(path)
            return cls(graph, f"{folder_or_hub_id}, by {graph.runtime}")
        return cls(load_tagger(path), str(folder_or_hub_id))

    @classmethod
    def from_store(cls, url: str) -> Tagger:
        """The best model of a store: fine-tuned, retrained or baseline; the zero-shot teacher where there is none."""
        try:
            store = Store(url, create=False)
        except StoreError:
            return cls.zero_shot()
        snapshot = latest_model(store)
        if snapshot is None:
            return cls.zero_shot()
        tagger = cls.from_pretrained(store.model_folder(snapshot))
        tagger.name = f"{snapshot.artifact} of {url}"
        return tagger

    @classmethod
    def baseline_of(cls, url: str) -> Tagger:
        """The baseline of a store, which writes captions. Raises StoreError where there is none."""
        try:
            snapshot = (store := Store(url, create=False)).snapshot("baseline")
        except StoreError:
            snapshot = None
        if snapshot is None:
            raise StoreError(f"nothing writes captions yet: {CAPTIONERS}")
        tagger = cls.from_pretrained(store.model_folder(snapshot))
        tagger.name = f"baseline of {url}"
        return tagger

    @classmethod
    def zero_shot(cls, clip: str = "") -> Tagger:
        """ImageNet classifiers in everyday words, or ``clip`` (``open_clip:MODEL:PRETRAINED``): nothing is trained."""
        model = ClipZeroShot(clip) if clip else ZeroShot()
        return cls(model, model.name)

    @property
    def is_zero_shot(self) -> bool:
        """Whether the zero-shot teacher answers."""
        return isinstance(self.model, ZeroShot)

    def __call__(
        self,
        images: Iterable[Any],
        labels: Sequence[str] | None = None,
        threshold: float | None = None,
    ) -> list[list[Tag]]:
        """The tags of each image, the highest score first.

        ``images`` are paths, PIL images, arrays (H, W, 3) of uint8, or encoded bytes, or a single one of these. With
        ``labels`` the scores of just these are returned, whatever they are, unless a ``threshold`` is given; else the
        model's own tags that reach their thresholds. Raises ImageError for an image that cannot be read.
        """
        return [tags for batch in _batches(images) for tags in self._tag(batch, labels, threshold)]

    def scores(self, images: Iterable[Any], labels: Sequence[Label]) -> NDArray[np.float32]:
        """(images, labels): the score of each label; NaN for one that the model cannot answer for.

        Labels that it was trained on are answered for as in tagging; others by RAM with the teacher's help.
        """
        return np.concatenate([self._scores(batch, labels) for batch in _batches(images)])

    def known(self, labels: Sequence[Label]) -> NDArray[np.intp]:
        """(labels,): the place of each among the model's own, by name and type or else by name; -1: not trained on."""
        if isinstance(self.model, ZeroShot):
            return np.full(len(labels), -1, np.intp)
        by_name = {label.name: place for place, label in reversed(list(enumerate(self.model.labels)))}
        exact = {(label.name, label.type): place for place, label in enumerate(self.model.labels)}
        places = [exact.get((label.name, label.type), by_name.get(label.name, -1)) for label in labels]
        return np.array(places, np.intp)

    def captions(self, images: Iterable[Any]) -> list[str]:
        """A caption an image. Raises ValueError where the model has no captioner."""
        if isinstance(self.model, ZeroShot):
            raise ValueError(f"the zero-shot teacher writes no captions: {CAPTIONERS}")
        if isinstance(self.model, OnnxTagger):
            raise ValueError("an ONNX graph writes no captions: take the model folder that it was exported from")
        if self.model.captioner is None:
            raise ValueError(f"the {self.name} tags only, it has no captioner: {CAPTIONERS}")
        return [text for batch in _batches(images) for text in self.model.generate_captions(self._tokens(batch))]

    @torch.inference_mode()
    def explain(self, image: Any, tags: Sequence[Tag]) -> tuple[Image.Image, list[str]]:
        """Where the model sees each of ``tags``, its own or any labels: the picture with a map for each of them, and
        the names of those for which it cannot tell.

        What a map shares with all the model's labels says where it looks at all, not where it sees this one, and is
        taken out. Raises ValueError for ONNX graphs.
        """
        if isinstance(self.model, OnnxTagger):
            raise ValueError("an ONNX graph tells no attention: take the model folder that it was exported from")
        picture = _picture(image)
        maps, usual = self._word_maps(picture, tags) if self.is_zero_shot else self._tag_maps(picture, tags)
        seen, told = beyond(maps, usual)
        texts = [f"{tag.name} {tag.score:.2f}" for tag in tags]
        return sheet(picture, texts, seen, told), [tag.name for tag, tells in zip(tags, told, strict=True) if not tells]

    def _word_maps(self, picture: Image.Image, tags: Sequence[Tag]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        assert isinstance(self.model, ZeroShot)
        maps = self.model.label_maps(picture, [tag.name for tag in tags], GRID)
        return maps.numpy(), torch.zeros(GRID, GRID).numpy()

    def _tag_maps(self, picture: Image.Image, tags: Sequence[Tag]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        assert isinstance(self.model, TaggerModel)
        tokens = self._tokens([picture])
        own = self.known([Label(tag.name, tag.type) for tag in tags])
        every = self.model.tag_attention(tokens)[0]
        maps = every[torch.from_numpy(own.clip(0)).to(every.device)].clone()
        new = np.flatnonzero(own < 0)
        if len(new):
            queries = self._queries(self.model, [tags[int(place)].name for place in new])
            maps[torch.from_numpy(new).to(maps.device)] = self.model.tag_attention(tokens, label_queries=queries)[0]
        return maps.float().cpu().numpy(), every.mean(0).float().cpu().numpy()

    @torch.inference_mode()
    def _scores(self, batch: list[Any], labels: Sequence[Label]) -> NDArray[np.float32]:
        """(B, labels): the score of each; NaN where the model cannot answer."""
        names, own = [label.name for label in labels], self.known(labels)
        if isinstance(self.model, ZeroShot):
            return torch.stack([self.model.label_probabilities(_picture(each), names) for each in batch]).numpy()
        found = np.full((len(batch), len(labels)), np.nan, np.float32)
        trained, new = np.flatnonzero(own >= 0), np.flatnonzero(own < 0)
        seen = self._pixels(batch) if isinstance(self.model, OnnxTagger) else self._tokens(batch)
        if len(trained):  # the model holds their queries: no text encoder is asked
            found[:, trained] = self.model.tag_logits(seen).sigmoid().cpu().numpy()[:, own[trained]]
        if len(new) and self.model.config.architecture == "ram":
            asked = [names[place] for place in new]
            queries = self._queries(self.model, asked)
            if isinstance(self.model, RAM) and self.model.config.text_encoder == label_queries.MINILM:
                logits = open_logits(self.model, self._teacher, seen, queries)
            else:
                logits = self.model.tag_logits(seen, queries)
            found[:, new] = logits.sigmoid().cpu().numpy()
        return found

    @torch.inference_mode()
    def _tag(self, batch: list[Any], labels: Sequence[str] | None, threshold: float | None) -> list[list[Tag]]:
        if labels is not None:
            asked = [Label(name, "") for name in labels]
            scores = torch.from_numpy(self._scores(batch, asked))
            unknown = [name for name, answer in zip(labels, scores[0].tolist(), strict=True) if np.isnan(answer)]
            if unknown:
                raise ValueError(
                    f"this model answers for its own tags only, and has no {', '.join(unknown)}: use a RAM model"
                )
            limits = torch.full((len(labels),), -1.0 if threshold is None else threshold)
            return [_sorted(row, [(name, "") for name in labels], limits) for row in scores]
        if isinstance(self.model, ZeroShot):
            scores = torch.stack([self.model.probabilities(_picture(each)) for each in batch])
            known = [(word, "") for word in self.model.words]
        else:
            seen = self._pixels(batch) if isinstance(self.model, OnnxTagger) else self._tokens(batch)
            scores = self.model.tag_logits(seen).sigmoid().cpu()
            known = [(label.name, label.type) for label in self.model.labels]
        limits = self.model.thresholds() if threshold is None else torch.full((len(known),), threshold)
        return [_sorted(row, known, limits) for row in scores]

    def _queries(self, model: TaggerModel | OnnxTagger, labels: Sequence[str]) -> torch.Tensor:
        """Queries (T, D) of labels that ``model`` does not hold; (T, K, D) where it takes K descriptions a label."""
        queries = label_queries.build(list(labels), model.config.text_encoder).to(self.device)
        return queries if model.config.descriptions == 1 else queries[:, None].expand(-1, model.config.descriptions, -1)

    @cached_property
    def _teacher(self) -> ConSE:
        assert isinstance(self.model, TaggerModel)
        return ConSE(self.model.image_encoder.name, label_queries.MINILM).to(self.device)

    def _pixels(self, batch: list[Any]) -> torch.Tensor:
        assert self.transform is not None
        return torch.stack([self.transform(_picture(image)) for image in batch]).to(self.device)

    def _tokens(self, batch: list[Any]) -> torch.Tensor:
        assert isinstance(self.model, TaggerModel)
        with torch.inference_mode():
            return self.model.encode_image(self._pixels(batch))


def _picture(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if isinstance(image, bytes):
        return decode_image(image)
    if isinstance(image, str | Path):
        return decode_image(Path(image).read_bytes())
    return Image.fromarray(image).convert("RGB")


def _sorted(scores: torch.Tensor, known: list[tuple[str, str]], limits: torch.Tensor) -> list[Tag]:
    chosen = (scores >= limits).nonzero().flatten().tolist()
    tags = [Tag(known[index][0], known[index][1], float(scores[index])) for index in chosen]
    return sorted(tags, key=lambda tag: -tag.score)


def _batches(images: Any) -> Iterator[list[Any]]:
    alone = isinstance(images, str | Path | bytes | Image.Image) or getattr(images, "ndim", 4) == 3
    if alone:
        images = [images]
    batch: list[Any] = []
    for image in images:
        batch.append(image)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
