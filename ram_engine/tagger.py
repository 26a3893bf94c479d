"""The tagger on its own: images in, tags with scores out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from models import Label, load_tagger
from models.onnx_tagger import OnnxTagger, is_onnx_folder
from models.weights import model_folder
from models.zero_shot import ClipZeroShot, ZeroShot
from ram_engine.answerers import CAPTIONERS, Answerer, Graph, Model, Teacher, picture_of
from ram_engine.explain import beyond, sheet
from ram_engine.runs import latest_model
from storage.store import Snapshot, Store, StoreError

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

    def __init__(self, answerer: Answerer) -> None:
        self.answerer = answerer

    @classmethod
    def from_pretrained(cls, name: str | Path) -> Tagger:
        """A model folder, an exported ONNX folder, which is faster on a CPU, or a model of the hub (hub:OWNER/NAME).

        Raises FileNotFoundError for what is neither, WeightsError where the hub does not give the model.
        """
        return cls(_trained(model_folder(name), str(name)))

    @classmethod
    def from_store(cls, url: str) -> Tagger:
        """The best model of a store: fine-tuned, retrained or baseline; the zero-shot teacher where there is none."""
        store = Store(url, create=None)
        snapshot = latest_model(store)
        if snapshot is None:
            return cls.zero_shot()
        return cls(_of_store(store, snapshot))

    @classmethod
    def baseline_of(cls, url: str) -> Tagger:
        """The baseline of a store, which writes captions. Raises StoreError where there is none."""
        store = Store(url, create=None)
        snapshot = store.snapshot("baseline")
        if snapshot is None:
            raise StoreError(f"nothing writes captions yet: {CAPTIONERS}")
        return cls(_of_store(store, snapshot))

    @classmethod
    def zero_shot(cls, clip: str = "") -> Tagger:
        """ImageNet classifiers in everyday words, or ``clip`` (``open_clip:MODEL:PRETRAINED``): nothing is trained."""
        return cls(Teacher(ClipZeroShot(clip) if clip else ZeroShot()))

    @property
    def name(self) -> str:
        """What answers, for people."""
        return self.answerer.name

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
        asked = None if labels is None else [Label(name, "") for name in labels]
        return [tags for batch in _batches(images) for tags in self._tag(batch, asked, threshold)]

    def scores(self, images: Iterable[Any], labels: Sequence[Label]) -> NDArray[np.float32]:
        """(images, labels): the score of each label; NaN for one that the model cannot answer for.

        Labels that it was trained on are answered for as in tagging; others by RAM with the teacher's help.
        """
        with torch.inference_mode():
            return np.concatenate([self.answerer.scores(batch, labels) for batch in _batches(images)])

    def thresholds(self, labels: Sequence[Label]) -> NDArray[np.float32]:
        """(labels,): the model's threshold of each label that it was trained on, a probability; else infinite."""
        own = self.answerer.known(labels)
        thresholds = np.full(len(labels), np.inf, np.float32)
        thresholds[own >= 0] = self.answerer.thresholds().cpu().numpy()[own[own >= 0]]
        return thresholds

    def captions(self, images: Iterable[Any]) -> list[str]:
        """A caption an image. Raises ValueError where the model has no captioner."""
        return [text for batch in _batches(images) for text in self.answerer.captions(batch)]

    @torch.inference_mode()
    def explain(self, image: Any, tags: Sequence[Tag]) -> tuple[Image.Image, list[str]]:
        """Where the model sees each of ``tags``, its own or any labels: the picture with a map for each of them, and
        the names of those for which it cannot tell.

        What a map shares with all the model's labels says where it looks at all, not where it sees this one, and is
        taken out. Raises ValueError for ONNX graphs.
        """
        picture = picture_of(image)
        seen, told = beyond(*self.answerer.maps(picture, [Label(tag.name, tag.type) for tag in tags]))
        texts = [f"{tag.name} {tag.score:.2f}" for tag in tags]
        return sheet(picture, texts, seen, told), [tag.name for tag, tells in zip(tags, told, strict=True) if not tells]

    @torch.inference_mode()
    def _tag(self, batch: list[Any], asked: Sequence[Label] | None, threshold: float | None) -> list[list[Tag]]:
        """The tags of each image: those ``asked`` for, else the model's own."""
        if asked is None:
            scores, labels = self.answerer.own_scores(batch), self.answerer.labels
            limits = self.answerer.thresholds() if threshold is None else torch.full((len(labels),), threshold)
            return [_sorted(row, labels, limits) for row in scores]
        scores = torch.from_numpy(self.answerer.scores(batch, asked))
        if unknown := [label.name for label, missing in zip(asked, scores[0].isnan().tolist(), strict=True) if missing]:
            raise ValueError(
                f"this model answers for its own tags only, and has no {', '.join(unknown)}: use a RAM model"
            )
        limits = torch.full((len(asked),), -1.0 if threshold is None else threshold)
        return [_sorted(row, asked, limits) for row in scores]


def _trained(path: Path, name: str) -> Answerer:
    """What lies in a model folder or in an exported one."""
    if (path / "whole").is_dir():
        path = path / "whole"
    return Graph(OnnxTagger(path), name) if is_onnx_folder(path) else Model(load_tagger(path), name)


def _of_store(store: Store, snapshot: Snapshot) -> Answerer:
    folder = store.model_folder(snapshot) / "whole"
    return Model(load_tagger(folder, own_encoders=True), f"{snapshot.artifact} of {store.url}")


def _sorted(scores: torch.Tensor, labels: Sequence[Label], limits: torch.Tensor) -> list[Tag]:
    reached = (scores >= limits).nonzero().flatten().tolist()
    tags = [Tag(labels[place].name, labels[place].type, float(scores[place])) for place in reached]
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
