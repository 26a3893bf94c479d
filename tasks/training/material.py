"""Brings together what a training stage needs from its inputs."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models import small_config
from models.image_encoder import preprocessing
from tasks.machine.inputs import Inputs
from tasks.settings.encode import EncodeSettings
from tasks.settings.training import TrainSettings
from tasks.training.data import (
    Examples,
    PictureImages,
    TagColumns,
    TokenImages,
    store_pictures,
    store_tokens,
    stored_views,
    tag_columns,
)
from tasks.training.distillation import teacher_of
from tasks.training.ids import ImageIds, Indices
from tasks.training.scratch import store_rows
from tasks.training.targets import BY_CAPTIONS, are_described, ids_by_split, store_targets
from tasks.training.whitening import Whitening


@dataclass(frozen=True)
class Material:
    """A training's examples, and the pairs that are held out to calibrate it; ``scratch`` holds their files."""

    tags: TagColumns
    image_encoder: str
    image_size: int
    examples: Examples
    held_out: Examples
    described: bool  # whether the captions of the held-out images name everything
    whitening: Whitening | None  # what stored tokens went through; None for pictures
    scratch: Path

    def teaching(self, tables: Iterable[pa.Table], name: str) -> Material:
        """The same images, taught rows (image_id, tag_id, target), which are kept under ``name``; bare ones of which
        these say nothing are left out: they teach nothing."""
        targets = store_targets(tables, self.examples.image_ids, self.tags, self.scratch / name)
        examples = replace(self.examples, targets=targets)
        if examples.bare is not None:
            examples = examples.subset(np.flatnonzero(~examples.bare | (targets.counts > 0)))
        return replace(self, examples=examples)


@contextmanager
def gather(
    inputs: Inputs, settings: TrainSettings, folder: Path, split: str, at: int = 0, bare: bool = False
) -> Iterator[Material]:
    """The images of ``split`` and those of ``calibrate``, with what their captions name; bare ones
    (:mod:`storage.bare`) are among the former where ``bare`` asks for them.

    Images are at the lower of the resolutions that are stored, or at the higher one; with ``at`` as another encoder of
    the annotator sees them, at that size. Tokens or pictures, targets and captions lie in a scratch folder within
    ``folder`` that is gone afterwards. Raises ValueError where the split has no image.
    """
    tags = tag_columns(inputs.table("label_system"))
    ids = ids_by_split(inputs)
    alone = ids_by_split(inputs, bare=True)[split] if bare else ImageIds.of(())
    train, calibrate = ImageIds(np.union1d(ids[split].numbers, alone.numbers)), ids["calibrate"]
    if not len(train):
        raise ValueError(f"no picture of the split '{split}' has a caption to train on: see docs/annotators.md")
    if not inputs.has("features"):
        raise ValueError("there are no features, so no image to train on: look at the rejected rows of ingest")
    encoder, size = _looks(EncodeSettings(**inputs.snapshots["features"].settings), settings, at)
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(mkdtemp(prefix="scratch-", dir=folder))  # machines that share a training share the folder
    try:
        everyone = ImageIds(np.concatenate([train.numbers, calibrate.numbers]))
        images: TokenImages | PictureImages
        whitening = None
        if settings.frozen_encoder:
            images = store_tokens(inputs, everyone, size, scratch / "tokens", settings.only_mean)
            if settings.distillation != "none":
                images = _taught(images, inputs, everyone, settings, encoder, size)
            whitening = Whitening.of_tokens(images, settings.components)
            rows, tokens, width = images.mapped(whitening, images.file)
            images = replace(images, shape=(rows, tokens, width))
        else:
            images = store_pictures(inputs, everyone, preprocessing(encoder, size), scratch / "pictures")
        targets = store_targets(inputs.sql_by_piece(BY_CAPTIONS), everyone, tags, scratch / "targets")
        captions = None
        if settings.caption:
            captions = store_rows(_captions(inputs, everyone, tags), len(everyone), scratch / "captions")
        weights = _weights(inputs, everyone, settings)
        are_bare = np.isin(everyone.numbers, alone.numbers) if len(alone) else None
        both = Examples(everyone, images, targets, captions, weights, are_bare)
        examples, held_out = both.subset(slice(len(train))), both.subset(slice(len(train), None))
        # many captions say more of the annotator than a few labels
        described = len(ids["fine_tune"]) > 0 if len(ids[split]) else are_described(inputs, ids)
        yield Material(tags, encoder, size, examples, held_out, described, whitening, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _looks(encoded: EncodeSettings, settings: TrainSettings, at: int) -> tuple[str, int]:
    """The encoder whose tokens a training reads, and its image size."""
    others = encoded.further()
    if at and at not in others:
        raise ValueError(
            f"no further encoder looks at {at} pixels; encode.annotator_encoders has {sorted(others) or 'none'}"
        )
    if at:
        return others[at], at
    choose = max if settings.high_resolution else min
    return encoded.image_encoder, choose(encoded.image_size, encoded.fine_tune_size or encoded.image_size)


def further_sizes(inputs: Inputs) -> list[int]:
    """The image sizes of the annotator's further encoders, ascending."""
    return sorted(EncodeSettings(**inputs.snapshots["features"].settings).further())


def _taught(
    raw: TokenImages, inputs: Inputs, image_ids: ImageIds, settings: TrainSettings, encoder: str, size: int
) -> TokenImages:
    """The same tokens, and what the teacher says of each view."""
    file = raw.file.with_name("teacher")
    small = replace(small_config("ram", 1, encoder, size), text_encoder=settings.text_encoder)
    teacher_of(settings.distillation, small).store(raw, stored_views(inputs, image_ids, raw), file)
    return replace(raw, teacher=file)


def _weights(inputs: Inputs, image_ids: ImageIds, settings: TrainSettings) -> NDArray[np.float64] | None:
    """How often each image is seen, (images,): as its heaviest source asks. None where all are alike.

    Raises ValueError where a weight is given to a source that there is not.
    """
    if not settings.source_weights:
        return None
    asked, known = settings.weight_of(), set[str]()
    find, weights = image_ids.finder(), np.ones(len(image_ids))
    for part in inputs.parts("pairs", ["image_id", "sources"]):
        sources = part["sources"].to_pylist()
        known.update(name for names in sources for name in names)
        places = find(part["image_id"].to_pylist())
        heaviest = np.array([max(asked.get(name, 1.0) for name in names) for names in sources])
        weights[places[places >= 0]] = heaviest[places >= 0]
    if unknown := sorted(set(asked) - known):
        raise ValueError(f"source_weights: there is no source '{unknown[0]}'; there are: {', '.join(sorted(known))}")
    return weights


def _captions(inputs: Inputs, image_ids: ImageIds, tags: TagColumns) -> Iterator[tuple[Indices, pa.Table]]:
    """The captions of images, and the names of the tags that each caption names, with the images' places."""
    find = image_ids.finder()
    for piece in inputs.pieces():
        named = {
            (row["image_id"], row["caption_index"]): [
                tags.labels[tags.column[tag]].name for tag in row["tag_ids"] if tag in tags.column
            ]
            for row in piece.table("caption_tags", ["image_id", "caption_index", "tag_ids"]).to_pylist()
        }
        pairs = piece.table("pairs", ["image_id", "captions"])
        ids, captions = pairs["image_id"].to_pylist(), pairs["captions"].to_pylist()
        names = [
            [named.get((image_id, number), []) for number in range(len(texts))]
            for image_id, texts in zip(ids, captions, strict=True)
        ]
        type_ = pa.list_(pa.list_(pa.string()))
        yield find(ids), pa.table({"captions": pairs["captions"], "tags": pa.array(names, type_)})
