"""The annotator that the engine trains: each image is answered about by a model that has not been trained on it.

Its folder holds ``whole``, trained on all images, and with folds ``fold-0``, ..: each without the images of its fold.
Further encoders have the same models again, in ``at-260``, say; the logits of a model are the mean of all encoders'.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import Label, Tagger, load_tagger, tagger_folder
from models.config import Decoding
from models.regions import CrossAttentionProposer, region_tokens
from storage.bare import are_bare
from tasks.annotators.base import REGIONS_AT_ONCE, Annotator, AnnotatorContext, Answers, Batch, Regions, in_parts
from tasks.annotators.evidence import AnnotatorEvidence, counted
from tasks.settings.generate import GenerateSettings
from tasks.training.calibration import FILE, Calibration, Evidence
from tasks.training.data import TagColumns
from tasks.training.ids import fold_of
from tasks.training.jobs import WHOLE, learnt_bare, read_record
from tasks.training.ridge import Ridge

FURTHER = "at-"  # a folder of the models that look with a further encoder, and their image size


@dataclass(frozen=True)
class TrainedModel:
    """The model of a folder, on its device.

    ``columns`` are its labels' places among the columns of the label system, which may have grown since. Its logits are
    the mean of its own and its ``partners``', models of the same labels that look with other encoders. ``ridges`` has
    for the model and each partner what leaves an image out of it, where they are ridge regressions; ``active`` are the
    numbers of its labels among those that it was trained on.
    """

    model: Tagger
    columns: NDArray[np.intp]
    frozen_encoder: bool
    partners: tuple[Tagger, ...] = ()
    ridges: tuple[Ridge | None, ...] = (None,)
    active: NDArray[np.intp] | None = None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def tokens(self, batch: Batch) -> Tensor:
        """The image tokens (B, 1 + N, C) of the whole pictures: the stored ones at the model's resolution.

        Where its encoder was trained too they are computed anew.
        """
        if self.frozen_encoder:
            return self._stored(self.model, batch)
        prepare = self.model.preprocessing.transform()
        pictures = batch.files.pictures(batch.pairs, self.model.preprocessing.image_size)
        images = torch.stack([prepare(picture) for picture in pictures]).to(self.device)
        with torch.inference_mode():
            return self.model.encode_image(images)

    @torch.inference_mode()
    def logits(self, batch: Batch, tokens: Tensor) -> NDArray[np.float32]:
        """The logits (B, labels) of the model with its partners, of images whose tokens it has (:meth:`tokens`)."""
        seen = [tokens, *(self._stored(partner, batch) for partner in self.partners)]
        logits = torch.zeros(len(batch), len(self.columns), device=self.device)
        for number, (model, own) in enumerate(zip((self.model, *self.partners), seen, strict=True)):
            mean = own[:, 0]
            logits += model.tag_logits(own)
            logits += self.unseen(mean, mean, batch.ids, batch.named, number)
        return (logits / len(seen)).cpu().numpy()

    @torch.inference_mode()
    def region_logits(self, batch: Batch, tokens: Tensor, regions: Regions) -> NDArray[np.float32]:
        """The model's own logit (R,) of one label a region, of images whose tokens it has."""
        images, boxes, labels = (
            torch.from_numpy(values).to(self.device) for values in (regions.images, regions.boxes, regions.columns)
        )
        logits = []
        parts = (values.split(REGIONS_AT_ONCE) for values in (images, boxes, labels))
        for of, where, asked in zip(*parts, strict=True):
            seen = region_tokens(tokens, of, where)
            said = self.model.tag_logits(seen, tag_ids=asked[:, None])[:, 0]
            ids, named = [batch.ids[at] for at in of.tolist()], batch.named[of.cpu().numpy()]
            unseen = self.unseen(seen[:, 0], tokens[of, 0], ids, named)
            logits.append((said + unseen.gather(1, asked[:, None])[:, 0]).cpu().numpy())
        return np.concatenate(logits)

    def unseen(
        self, tokens: Tensor, own: Tensor, ids: Sequence[str], named: NDArray[np.bool_], model: int = 0
    ) -> Tensor:
        """What to add to the logits (B, labels) of the mean ``tokens`` (B, C), so that no model answers about an image
        that it learnt from.

        ``own`` (B, C) are the mean tokens of the images ``ids`` as wholes, and ``named`` (B, columns) is whether their
        captions name a tag. ``model`` counts the partners from 1. Zeros where fold models do that.
        """
        ridge = self.ridges[model]
        if ridge is None:
            return torch.zeros(len(tokens), len(self.columns), device=tokens.device)
        learnt = ridge.learnt_from(ids)
        active = torch.from_numpy(np.arange(len(self.columns)) if self.active is None else self.active).to(
            tokens.device
        )
        target = torch.zeros(len(tokens), len(ridge.frequencies), device=tokens.device)
        target[:, active] = torch.from_numpy(named[:, self.columns]).to(tokens)
        return ridge.left_out(tokens, own, target)[:, active] * learnt[:, None]

    def _stored(self, model: Tagger, batch: Batch) -> Tensor:
        return torch.from_numpy(batch.tokens(model.config.image_size)).to(self.device)


def load_model(folder: Path, tags: TagColumns, device: torch.device, partners: Sequence[Path] = ()) -> TrainedModel:
    """The model in ``folder``. It answers for those of its labels that are active tags; raises ValueError where none
    is."""
    model, *others = (
        load_tagger(path, own_encoders=True).requires_grad_(False).to(device) for path in (folder, *partners)
    )
    active, columns = _columns(model.labels, tags, folder)
    if len(active) < len(model.labels):  # a person has switched tags off since
        for tagger in (model, *others):
            tagger.keep_labels(active.tolist(), [tagger.labels[label] for label in active])
    ridges = tuple(Ridge.load(path, device) for path in (folder, *partners))
    return TrainedModel(model, columns, read_record(folder)[0].frozen_encoder, tuple(others), ridges, active)


def token_batches(model: TrainedModel, batch: Batch) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
    """The rows of a batch and the model's tokens of them, some images at a time."""
    for rows in in_parts(len(batch)):
        yield rows, model.tokens(batch.subset(rows))


class TrainedAnnotator(Annotator):
    """The models of a training's folder. Captions, attention and regions are those of its first encoder."""

    def __init__(self, context: AnnotatorContext) -> None:
        folder, device = context.folder, torch.device(context.device)
        count = sum(1 for _ in folder.glob("fold-*"))
        self.whole, *self.folds = (
            load_model(folder / name, context.tags, device, partners_of(folder / name))
            for name in (WHOLE, *(f"fold-{fold}" for fold in range(count)))
        )
        self._learnt_bare = bool(self.folds) and learnt_bare(folder / WHOLE)
        self.columns = self.whole.columns
        self.writes = self.whole.model.captioner is not None
        self._names = [context.tags.labels[column].name for column in self.columns]
        self._writing = context.writing
        self._calibration: Calibration | None = None
        if context.bars is not None:
            known = [context.tags.ids[column] for column in self.columns]
            self._calibration = Calibration.of_bars(context.bars, known)
        self._last: tuple[Batch, Tensor] | None = None

    def parts(self, batch: Batch) -> Iterator[NDArray[np.intp]]:
        """Training images by fold, since the model of a fold has not seen them."""
        folds = self._folds(batch)
        for fold in range(-1, len(self.folds)):
            rows = np.flatnonzero(folds == fold)
            for of_part in in_parts(len(rows)):
                yield rows[of_part]

    def annotate(self, batch: Batch) -> Answers:
        model, tokens = self.model_of(batch), self.tokens(batch)
        logits = model.logits(batch, tokens)
        if not (self.writes and self._writing.captions):
            return Answers(logits)
        steering: list[list[str]] = [[] for _ in batch.ids]
        if self._calibration is not None:
            above = self._calibration.added(logits, are_bare(batch.pairs))
            steering = [[self._names[at] for at in np.flatnonzero(row)] for row in above]
        return Answers(logits, _write(model, tokens, steering, batch.ids, self._writing))

    def tokens(self, batch: Batch) -> Tensor:
        if self._last is None or self._last[0] is not batch:  # of one batch, several things are asked in a row
            self._last = batch, self.model_of(batch).tokens(batch)
        return self._last[1]

    def find(
        self, batch: Batch, columns: Sequence[Sequence[int]], max_regions: int
    ) -> list[list[tuple[int, tuple[float, float, float, float], float]]]:
        proposer = CrossAttentionProposer(self.model_of(batch).model, max_regions)
        return [list(proposed) for proposed in proposer.propose(self.tokens(batch), columns)]

    def look(self, batch: Batch, regions: Regions) -> NDArray[np.floating]:
        return self.model_of(batch).region_logits(batch, self.tokens(batch), regions)

    def model_of(self, batch: Batch) -> TrainedModel:
        """The model that has seen none of the batch's images. Raises ValueError where there is not one."""
        folds = np.unique(self._folds(batch))
        if len(folds) > 1:
            raise ValueError("the images are of several folds: ask about the parts of the batch")
        fold = int(folds[0]) if len(folds) else -1
        return self.whole if fold < 0 else self.folds[fold]

    def _folds(self, batch: Batch) -> NDArray[np.int64]:
        """(images,): the fold whose model each image needs; -1: any model does, as none has learnt from the image."""
        folds = np.full(len(batch), -1, np.int64)
        if self.folds:
            learnt = np.array(batch.pairs["split"].to_pylist(), object) == "train"
            if not self._learnt_bare:
                learnt &= ~are_bare(batch.pairs)
            folds[learnt] = [fold_of(batch.ids[at], len(self.folds)) for at in np.flatnonzero(learnt)]
        return folds


def evidence(folder: Path, tags: TagColumns) -> AnnotatorEvidence:
    """The evidence in an annotator's ``folder``: of its fold models about their own folds, or of all its models about
    the same held-out images. No images where it was not calibrated."""
    labels = tagger_folder.read(folder / WHOLE, own_encoders=True)[1]
    active, columns = _columns(labels, tags, folder / WHOLE)
    paths = [path for path in (folder / WHOLE, *sorted(folder.glob("fold-*"))) if (path / FILE).is_file()]
    if len(paths) > 1 and not Evidence.is_described(paths[0]):
        paths = paths[1:]  # what the whole model said of a few held-out images is little beside the folds
    of_models = (said for path in paths if (said := evidence_of(path, partners_of(path))) is not None)
    return counted(of_models, len(paths), active, columns)


def evidence_of(folder: Path, partners: Sequence[Path]) -> Evidence | None:
    """What a model says with its partners, by the mean of their logits: they all were asked about the same images."""
    own = Evidence.load(folder)
    if own is None:
        return None
    others = [said.logits for path in partners if (said := Evidence.load(path)) is not None]
    return replace(own, logits=np.mean([own.logits, *others], axis=0, dtype=np.float32))


def partners_of(folder: Path) -> list[Path]:
    """The same model as that of ``folder``, as the annotator's further encoders have it."""
    return sorted(path / folder.name for path in folder.parent.glob(f"{FURTHER}*"))


def _columns(labels: Sequence[Label], tags: TagColumns, folder: Path) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The numbers of a model's labels that are active tags, and where these stand among the label system's columns."""
    place = {(label.name, label.type): column for column, label in enumerate(tags.labels)}
    columns = np.array([place.get((label.name, label.type), -1) for label in labels], np.intp)
    active = np.flatnonzero(columns >= 0)
    if not len(active):
        names = ", ".join(label.name for label in labels[:5])
        raise ValueError(f"the model in {folder} has labels that are not active tags: {names}")
    return active, columns[active]


def _write(
    model: TrainedModel, tokens: Tensor, tags: Sequence[Sequence[str]], ids: Sequence[str], settings: GenerateSettings
) -> list[list[str]]:
    """The captions of each image; a sampled one depends on the image and its number alone."""
    written: list[list[str]] = [[] for _ in ids]
    for number in range(settings.captions):
        by = settings.decoding if number == 0 else "nucleus"
        decoding = Decoding(by, beams=settings.beams, max_length=settings.max_length)
        seeds = [zlib.crc32(f"{image_id}/{number}".encode()) for image_id in ids]
        texts = model.model.generate_captions(tokens, tags, decoding, seeds)
        for captions, text in zip(written, texts, strict=True):
            captions.append(text)
    return written
