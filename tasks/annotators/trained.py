"""A trained model that annotates images: each image by a model that has not been trained on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import Label, Tagger, load_tagger, tagger_folder
from tasks.images.decoding import pictures
from tasks.images.tokens import token_matrix
from tasks.training.calibration import Calibration, Evidence, TagCounts
from tasks.training.data import TagColumns, fold_of
from tasks.training.jobs import WHOLE, read_record
from tasks.training.ridge import Ridge, image_numbers

BATCH = 32
FURTHER = "at-"  # a folder of the annotator's members that look with another encoder, and their image size


@dataclass(frozen=True)
class Member:
    """The model of a folder, on its device, with its calibration on images that it had not seen.

    ``columns`` are its labels' places among the columns of the label system, which may have grown since. Its logits are
    the mean of its own and its ``partners``', models of the same labels that look with other encoders. ``ridges`` has
    for the model and each partner what leaves an image out of it, where they are ridge regressions; ``active`` are the
    numbers of its labels among those that it was trained on.
    """

    model: Tagger
    columns: NDArray[np.intp]
    frozen_encoder: bool
    calibration: Calibration
    partners: tuple[Tagger, ...] = ()
    ridges: tuple[Ridge | None, ...] = (None,)
    active: NDArray[np.intp] | None = None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

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
        learnt = torch.isin(torch.from_numpy(image_numbers(ids)).to(tokens.device), ridge.seen)
        active = torch.from_numpy(np.arange(len(self.columns)) if self.active is None else self.active).to(
            tokens.device
        )
        target = torch.zeros(len(tokens), len(ridge.frequencies), device=tokens.device)
        target[:, active] = torch.from_numpy(named[:, self.columns]).to(tokens)
        return ridge.left_out(tokens, own, target)[:, active] * learnt[:, None]


def load_member(
    folder: Path,
    tags: TagColumns,
    device: torch.device,
    bars: pa.Table | None = None,
    partners: Sequence[Path] = (),
) -> Member:
    """The model in ``folder``, calibrated as ``bars`` (``tag_bars``) say; without them by its own thresholds.

    It answers for those of its labels that are active tags. Raises ValueError where none of them is.
    """
    model, *others = (load_tagger(each).requires_grad_(False).to(device) for each in (folder, *partners))
    active, columns = _columns(model.labels, tags, folder)
    if len(active) < len(model.labels):  # a person has switched tags off since
        for each in (model, *others):
            each.keep_labels(active.tolist(), [each.labels[label] for label in active])
    if bars is None:
        calibration = Calibration.identity(model.thresholds().tolist())
    else:
        calibration = _calibration(bars, [tags.ids[column] for column in columns])
    ridges = tuple(Ridge.load(each, device) for each in (folder, *partners))
    return Member(model, columns, read_record(folder)[0].frozen_encoder, calibration, tuple(others), ridges, active)


def _columns(labels: Sequence[Label], tags: TagColumns, folder: Path) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The numbers of a model's labels that are active tags, and where these stand among the label system's columns."""
    place = {(label.name, label.type): column for column, label in enumerate(tags.labels)}
    columns = np.array([place.get((label.name, label.type), -1) for label in labels], np.intp)
    active = np.flatnonzero(columns >= 0)
    if not len(active):
        names = ", ".join(label.name for label in labels[:5])
        raise ValueError(f"the model in {folder} has labels that are not active tags: {names}")
    return active, columns[active]


def _calibration(bars: pa.Table, tag_ids: Sequence[int]) -> Calibration:
    """What ``tag_bars`` say of these tags; of those that they lack nothing is ever predicted."""
    row_of = {tag_id: row for row, tag_id in enumerate(bars["tag_id"].to_pylist())}
    rows = np.array([row_of.get(tag_id, -1) for tag_id in tag_ids], np.intp)
    known = rows >= 0

    def column(name: str, otherwise: float) -> NDArray[np.float64]:
        values = np.append(bars[name].to_numpy().astype(np.float64), otherwise)
        return np.where(known, values[rows], otherwise)

    described = bool(bars.num_rows) and bool(bars["described"][0].as_py())
    return Calibration(
        column("slope", 1), column("intercept", 0), column("mention_rate", 1), column("cut", np.inf), described
    )


@dataclass(frozen=True)
class AnnotatorEvidence:
    """What an annotator says of images that it did not learn from, counted by tag.

    ``columns`` (labels,) are its labels' places among the label system's columns; ``halves`` are the counts of every
    other image, and of the rest, out of ``images``; ``described``: whether captions of these name all that is there,
    of which those of training images name the share ``mentioned`` (labels,).
    """

    columns: NDArray[np.intp]
    halves: tuple[TagCounts, TagCounts]
    images: int
    described: bool
    mentioned: NDArray[np.floating]


def annotator_evidence(folder: Path, tags: TagColumns) -> AnnotatorEvidence:
    """The evidence in an annotator's ``folder``: of its fold models about their own folds, or of all its models about
    the same held-out images. No images where it was not calibrated."""
    labels = tagger_folder.read(folder / WHOLE)[1]
    active, columns = _columns(labels, tags, folder / WHOLE)
    models = [folder / WHOLE, *sorted(folder.glob("fold-*"))]
    found = [evidence for each in models if (evidence := _evidence(each, partners_of(each))) is not None]
    described = bool(found) and found[0].described
    if len(found) > 1 and not described:
        found = found[1:]  # what the whole model said of a few held-out images is little beside the folds
    weight = 1 / len(found) if described else 1.0
    nothing = TagCounts.of(np.zeros((0, len(active))), np.zeros((0, len(active)), bool))
    halves = (nothing, nothing)
    for evidence in found:
        logits, named = evidence.logits[:, active], evidence.named[:, active]
        parts = [TagCounts.of(logits[at::2], named[at::2], weight) for at in (0, 1)]
        halves = (halves[0] + parts[0], halves[1] + parts[1])
    images = round(sum(len(evidence.logits) for evidence in found) * weight)
    mentioned = found[0].mentioned[active] if found else np.zeros(len(active))
    return AnnotatorEvidence(columns, halves, images, described, mentioned)


def _evidence(folder: Path, partners: Sequence[Path]) -> Evidence | None:
    """What a model says with its partners, by the mean of their logits: they all were asked about the same images."""
    evidence = Evidence.load(folder)
    if evidence is None:
        return None
    others = [found.logits for each in partners if (found := Evidence.load(each)) is not None]
    return replace(evidence, logits=np.mean([evidence.logits, *others], axis=0, dtype=np.float32))


def partners_of(folder: Path) -> list[Path]:
    """The same model as that of ``folder``, as the annotator's further encoders have it."""
    return sorted(each / folder.name for each in folder.parent.glob(f"{FURTHER}*"))


class Annotator:
    """The whole model and the fold models of a training's folder."""

    def __init__(self, folder: Path, tags: TagColumns, device: torch.device, bars: pa.Table | None = None) -> None:
        count = sum(1 for _ in folder.glob("fold-*"))
        self.whole, *self.folds = (
            load_member(folder / name, tags, device, bars, partners_of(folder / name))
            for name in (WHOLE, *(f"fold-{fold}" for fold in range(count)))
        )

    def members(self, pairs: pa.Table) -> Iterator[tuple[Member, NDArray[np.intp]]]:
        """Each model with the rows of ``pairs`` that it annotates: training images by the model of their fold."""
        ids, splits = pairs["image_id"].to_pylist(), pairs["split"].to_pylist()
        folds = np.array(
            [
                fold_of(image_id, len(self.folds)) if self.folds and split == "train" else -1
                for image_id, split in zip(ids, splits, strict=True)
            ]
        )
        for fold, member in [(-1, self.whole), *enumerate(self.folds)]:
            rows = np.flatnonzero(folds == fold)
            if len(rows):
                yield member, rows


def whole_tokens(
    member: Member, pairs: pa.Table, features: pa.Table, rows: Sequence[int] | NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
    """Batches of ``rows`` of ``pairs`` with the image tokens (B, 1 + N, C) of the whole pictures.

    Tokens are the stored ones at the model's resolution, or, where its encoder was trained too, computed anew.
    """
    stored = _Stored(pairs, features, member.model) if member.frozen_encoder else None
    prepare = member.model.preprocessing.transform()
    for start in range(0, len(rows), BATCH):
        batch = np.asarray(rows[start : start + BATCH], np.intp)
        if stored is not None:
            yield batch, stored.tokens(batch).to(member.device)
        else:
            images = torch.stack([prepare(image) for image in pictures(pairs.take(batch))]).to(member.device)
            with torch.inference_mode():
                yield batch, member.model.encode_image(images)


def answers(
    member: Member,
    pairs: pa.Table,
    features: pa.Table,
    rows: Sequence[int] | NDArray[np.intp],
    named: NDArray[np.bool_],
) -> Iterator[tuple[NDArray[np.intp], Tensor, NDArray[np.float32]]]:
    """As :func:`whole_tokens`, and the logits (B, labels) of the member with its partners.

    ``named`` (pairs, columns) is whether the captions of an image name a tag: what ridge regressions leave out.
    """
    ids = pairs["image_id"].to_pylist()
    looks = [_Stored(pairs, features, partner) for partner in member.partners]
    for batch, tokens in whole_tokens(member, pairs, features, rows):
        with torch.inference_mode():
            seen = [tokens, *(stored.tokens(batch).to(member.device) for stored in looks)]
            logits = torch.zeros(len(batch), len(member.columns), device=member.device)
            for number, (model, own) in enumerate(zip((member.model, *member.partners), seen, strict=True)):
                mean = own[:, 0]
                logits += model.tag_logits(own)
                logits += member.unseen(mean, mean, [ids[row] for row in batch], named[batch], number)
        yield batch, tokens, (logits / len(seen)).cpu().numpy()


def named_tags(ids: Sequence[str], caption_tags: pa.Table, tags: TagColumns) -> NDArray[np.bool_]:
    """(images, tags): what the captions of each of ``ids`` name."""
    place = {image_id: row for row, image_id in enumerate(ids)}
    named = np.zeros((len(ids), len(tags.ids)), bool)
    for row in caption_tags.select(["image_id", "tag_ids"]).to_pylist():
        if row["image_id"] in place:
            named[place[row["image_id"]], [tags.column[tag] for tag in row["tag_ids"] if tag in tags.column]] = True
    return named


class _Stored:
    """The stored tokens of the whole pictures of ``pairs``, as ``model`` reads them."""

    def __init__(self, pairs: pa.Table, features: pa.Table, model: Tagger) -> None:
        size = model.config.image_size
        whole = features.filter(pc.and_(pc.equal(features["image_size"], size), pc.equal(features["view"], 0)))
        self.matrix = token_matrix(whole["tokens"])
        place = pc.index_in(pairs["image_id"], whole["image_id"].combine_chunks())
        self.place = pc.fill_null(place, -1).to_numpy()
        self.ids, self.size = pairs["image_id"], size

    def tokens(self, rows: NDArray[np.intp]) -> Tensor:
        """(B, 1 + N, C) of these rows of the pairs. Raises ValueError where one was not stored."""
        places = self.place[rows]
        if (places < 0).any():
            lacking = self.ids[int(rows[places < 0][0])].as_py()
            raise ValueError(
                f"features: image {lacking} has no tokens at {self.size} pixels; run the stage encode again"
            )
        return torch.from_numpy(self.matrix[places].astype(np.float32))
