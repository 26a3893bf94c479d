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
from models.image_encoder import preprocessing
from models.onnx_tagger import OnnxTagger, is_onnx_folder
from ram_engine.explain import sheet
from ram_engine.runs import latest_model
from storage.store import Store, StoreError
from tasks.images import decode_image

BATCH = 16
ZERO_SHOT_TAGS = 5


@dataclass(frozen=True)
class Tag:
    """A tag of an image. ``score``: a trained model's probability, or the zero-shot teacher's cosine similarity."""

    name: str
    type: str
    score: float


class Tagger:
    """Tags images with a trained model, or with the zero-shot teacher where there is none yet."""

    def __init__(self, model: TaggerModel | ConSE | OnnxTagger, name: str) -> None:
        self.model = model
        self.name = name
        cuda = torch.cuda.is_available() and not isinstance(model, OnnxTagger)
        self.device = torch.device("cuda" if cuda else "cpu")
        if not isinstance(model, OnnxTagger):
            model.eval().to(self.device)
        if isinstance(model, ConSE):
            prepared = preprocessing(model.image_encoder.name, model.image_encoder.image_size)
        else:
            prepared = model.preprocessing
        self.transform = prepared.transform()

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path) -> Tagger:
        """A model folder on this machine, an exported ONNX folder, which is faster on a CPU, or a hub id."""
        path = Path(folder_or_hub_id)
        if (path / "whole").is_dir():
            path = path / "whole"
        if is_onnx_folder(path):
            graph = OnnxTagger(path)
            return cls(graph, f"{folder_or_hub_id}, by {graph.runtime}")
        model = load_tagger(path) if path.is_dir() else TaggerModel.from_pretrained(str(folder_or_hub_id))
        return cls(model, str(folder_or_hub_id))

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
        store = Store(url, create=False)
        snapshot = store.snapshot("baseline")
        if snapshot is None:
            raise StoreError(f"the store {url} has no baseline yet: `ram-engine run --store {url}` trains one")
        tagger = cls.from_pretrained(store.model_folder(snapshot))
        tagger.name = f"baseline of {url}"
        return tagger

    @classmethod
    def zero_shot(cls) -> Tagger:
        """ConSE: an ImageNet classifier and a sentence encoder; nothing is trained."""
        return cls(ConSE(), "zero-shot teacher (ConSE; nothing was trained)")

    @property
    def is_zero_shot(self) -> bool:
        """Whether the zero-shot teacher answers."""
        return isinstance(self.model, ConSE)

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
        if isinstance(self.model, ConSE):
            return np.full(len(labels), -1, np.intp)
        by_name = {label.name: place for place, label in reversed(list(enumerate(self.model.labels)))}
        exact = {(label.name, label.type): place for place, label in enumerate(self.model.labels)}
        places = [exact.get((label.name, label.type), by_name.get(label.name, -1)) for label in labels]
        return np.array(places, np.intp)

    def captions(self, images: Iterable[Any]) -> list[str]:
        """A caption an image. Raises ValueError where the model has no captioner."""
        if isinstance(self.model, ConSE):
            raise ValueError("the zero-shot teacher writes no captions: train a baseline first (`ram-engine run`)")
        if isinstance(self.model, OnnxTagger):
            raise ValueError("an ONNX graph writes no captions: take the model folder that it was exported from")
        return [text for batch in _batches(images) for text in self.model.generate_captions(self._tokens(batch))]

    @torch.inference_mode()
    def explain(self, image: Any, tags: Sequence[Tag]) -> Image.Image:
        """Where the model sees each of ``tags``, its own or any labels: the picture with a map for each of them.

        Raises ValueError for the zero-shot teacher, which looks at the picture as a whole, and for ONNX graphs.
        """
        if isinstance(self.model, ConSE):
            raise ValueError("the zero-shot teacher looks at a picture as a whole: there is nothing to explain")
        if isinstance(self.model, OnnxTagger):
            raise ValueError("an ONNX graph tells no attention: take the model folder that it was exported from")
        numbers = {(label.name, label.type): number for number, label in enumerate(self.model.labels)}
        tokens = self._tokens([image])
        if all((tag.name, tag.type) in numbers for tag in tags):
            asked = torch.tensor([numbers[tag.name, tag.type] for tag in tags], device=self.device)
            maps = self.model.tag_attention(tokens, asked)
        else:
            queries = label_queries.build([tag.name for tag in tags], self.model.config.text_encoder)
            maps = self.model.tag_attention(tokens, label_queries=queries.to(self.device))
        return sheet(_picture(image), [f"{tag.name} {tag.score:.2f}" for tag in tags], maps[0].float().cpu().numpy())

    @torch.inference_mode()
    def _scores(self, batch: list[Any], labels: Sequence[Label]) -> NDArray[np.float32]:
        names, own = [label.name for label in labels], self.known(labels)
        if isinstance(self.model, ConSE):
            queries = label_queries.build(names).to(self.device)
            return self.model.scores(self._tokens(batch), queries).cpu().numpy().astype(np.float32)
        found = np.full((len(batch), len(labels)), np.nan, np.float32)
        trained, new = np.flatnonzero(own >= 0), np.flatnonzero(own < 0)
        tokens = None if isinstance(self.model, OnnxTagger) else self._tokens(batch)
        if len(trained):
            logits = self._logits(self.model, batch) if tokens is None else self.model.tag_logits(tokens)
            found[:, trained] = logits.sigmoid().cpu().numpy()[:, own[trained]]
        if len(new) and self.model.config.architecture == "ram":
            asked = [names[place] for place in new]
            if isinstance(self.model, RAM) and tokens is not None:
                queries = label_queries.build(asked, self.model.config.text_encoder).to(self.device)
                found[:, new] = self._any_label(self.model, tokens, asked, queries).cpu().numpy()
            else:
                found[:, new] = self._asked(self.model, batch, asked).cpu().numpy()
        return found

    @torch.inference_mode()
    def _tag(self, batch: list[Any], labels: Sequence[str] | None, threshold: float | None) -> list[list[Tag]]:
        if isinstance(self.model, ConSE):
            return self._zero_shot(self.model, self._tokens(batch), labels, threshold)
        if labels is None:
            scores = self._logits(self.model, batch).sigmoid()
            limits = self.model.thresholds() if threshold is None else torch.full((scores.shape[1],), threshold)
            known = [(label.name, label.type) for label in self.model.labels]
        else:
            scores = self._asked(self.model, batch, labels)
            limits = torch.full((len(labels),), -1.0 if threshold is None else threshold)
            known = [(name, "") for name in labels]
        return [_sorted(row, known, limits) for row in scores.cpu()]

    def _logits(
        self, model: TaggerModel | OnnxTagger, batch: list[Any], queries: torch.Tensor | None = None
    ) -> torch.Tensor:
        if isinstance(model, OnnxTagger):
            return model.tag_logits(self._pixels(batch), queries)
        return model.tag_logits(self._tokens(batch), queries)

    def _asked(self, model: TaggerModel | OnnxTagger, batch: list[Any], labels: Sequence[str]) -> torch.Tensor:
        """Probabilities (B, T) of ``labels``."""
        if model.config.architecture == "ram":
            queries = label_queries.build(list(labels), model.config.text_encoder).to(self.device)
            if isinstance(model, RAM):
                return self._any_label(model, self._tokens(batch), labels, queries)
            return self._logits(model, batch, queries).sigmoid()
        names = {label.name: index for index, label in enumerate(model.labels)}
        unknown = [name for name in labels if name not in names]
        if unknown:
            raise ValueError(
                f"this model answers for its own tags only, and has no {', '.join(unknown)}: use a RAM model"
            )
        return self._logits(model, batch).sigmoid()[:, [names[name] for name in labels]]

    def _any_label(
        self, model: RAM, tokens: torch.Tensor, labels: Sequence[str], queries: torch.Tensor
    ) -> torch.Tensor:
        """Labels it was trained on are answered for by the model alone, others with the teacher's help."""
        logits = model.tag_logits(tokens, queries)
        known = {label.name for label in model.labels}
        new = torch.tensor([name not in known for name in labels], device=self.device)
        if bool(new.any()) and model.config.text_encoder == label_queries.MINILM:
            logits = torch.where(new, open_logits(model, self._teacher, tokens, queries), logits)
        return logits.sigmoid()

    @cached_property
    def _teacher(self) -> ConSE:
        assert not isinstance(self.model, OnnxTagger)
        return ConSE(self.model.image_encoder.name, label_queries.MINILM).to(self.device)

    def _zero_shot(
        self, model: ConSE, tokens: torch.Tensor, labels: Sequence[str] | None, threshold: float | None
    ) -> list[list[Tag]]:
        names = list(labels) if labels is not None else model.class_names
        queries = label_queries.build(names).to(self.device)
        scores = model.scores(tokens, queries).cpu()
        limits = torch.full((len(names),), -1.0 if threshold is None else threshold)
        found = [_sorted(row, [(name, "") for name in names], limits) for row in scores]
        return found if labels is not None or threshold is not None else [tags[:ZERO_SHOT_TAGS] for tags in found]

    def _pixels(self, batch: list[Any]) -> torch.Tensor:
        return torch.stack([self.transform(_picture(image)) for image in batch]).to(self.device)

    def _tokens(self, batch: list[Any]) -> torch.Tensor:
        assert not isinstance(self.model, OnnxTagger)
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
