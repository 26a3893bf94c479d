"""Brings together what a training stage needs from its inputs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack

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
from tasks.training.targets import caption_targets, split_ids
from tasks.training.whitening import Whitening


@dataclass(frozen=True)
class Material:
    """A training's examples, and the pairs that are held out to calibrate it."""

    tags: TagColumns
    image_encoder: str
    image_size: int
    examples: Examples
    held_out: Examples
    described: bool  # whether the captions of the held-out images name everything
    whitening: Whitening | None  # what stored tokens went through; None for pictures

    def teaching(self, targets: csr_matrix) -> Examples:
        """The same images with other targets, without the bare ones of which these say nothing: they teach nothing."""
        examples = replace(self.examples, targets=targets)
        known = np.ones(len(examples.image_ids), bool) if examples.bare is None else ~examples.bare
        known |= targets.getnnz(axis=1) > 0
        return examples if known.all() else examples.subset(np.flatnonzero(known))


@contextmanager
def gather(
    inputs: Inputs,
    settings: TrainSettings,
    folder: Path,
    split: str,
    at: int = 0,
    bare: bool = False,
) -> Iterator[Material]:
    """The images of ``split`` and those of ``calibrate``, with what their captions name; bare ones
    (:mod:`storage.bare`) are among the former where ``bare`` asks for them.

    Images are at the lower of the resolutions that are stored, or at the higher one; with ``at`` as another encoder of
    the annotator sees them, at that size. Tokens or pictures lie in a scratch folder within ``folder`` that is gone
    afterwards. Raises ValueError where the split has no image.
    """
    tags = tag_columns(inputs.table("label_system"))
    train, calibrate = split_ids(inputs, split, bare=bare), split_ids(inputs, "calibrate")
    if not train:
        raise ValueError(f"no picture of the split '{split}' has a caption to train on: see docs/annotators.md")
    stored = inputs.sql("SELECT DISTINCT image_encoder, image_size FROM features ORDER BY image_size").to_pylist()
    if not stored:
        raise ValueError("there are no features, so no image to train on: look at the rejected rows of ingest")
    others = further_sizes(inputs)
    own = [encoded for encoded in stored if encoded["image_size"] not in others]
    origin = own[-1] if settings.high_resolution else own[0]
    if at:
        if at not in others:
            raise ValueError(
                f"no further encoder looks at {at} pixels; encode.annotator_encoders has {others or 'none'}"
            )
        origin = next(encoded for encoded in stored if encoded["image_size"] == at)
    encoder, size = str(origin["image_encoder"]), int(origin["image_size"])
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(mkdtemp(prefix="scratch-", dir=folder))  # machines that share a training share the folder
    try:
        everyone = [*train, *calibrate]
        images: TokenImages | PictureImages
        whitening = None
        if settings.frozen_encoder:
            images = store_tokens(inputs, everyone, size, scratch / "tokens", settings.only_mean)
            if settings.distillation != "none":
                images = _taught(images, inputs, everyone, settings, encoder, size)
            images, whitening = _whitened(images, settings)
        else:
            images = store_pictures(inputs, everyone, preprocessing(encoder, size), scratch / "pictures")
        taught, named = (caption_targets(inputs, ids, tags) for ids in (train, calibrate))
        captions, caption_tags = _captions(inputs, everyone, tags) if settings.caption else ((), ())
        weights = _weights(inputs, everyone, settings)
        alone = _bare(inputs, train, calibrate, split) if bare else None
        both = Examples(
            tuple(everyone), images, vstack([taught, named]).tocsr(), captions, caption_tags, weights, alone
        )
        first = np.arange(len(train))
        rest = np.arange(len(train), len(everyone))
        # a source that has pairs to fine-tune on describes them, and those to calibrate on, fully
        described = bool(split_ids(inputs, "fine_tune"))
        yield Material(tags, encoder, size, both.subset(first), both.subset(rest), described, whitening)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _bare(inputs: Inputs, train: Sequence[str], calibrate: Sequence[str], split: str) -> NDArray[np.bool_] | None:
    """Which of both are bare, (images,); None where none is."""
    captioned = {*split_ids(inputs, split), *calibrate}
    bare = np.array([image_id not in captioned for image_id in (*train, *calibrate)])
    return bare if bare.any() else None


def further_sizes(inputs: Inputs) -> list[int]:
    """The image sizes of the annotator's further encoders, ascending."""
    return sorted(EncodeSettings(**inputs.snapshots["features"].settings).further())


def _whitened(raw: TokenImages, settings: TrainSettings) -> tuple[TokenImages, Whitening]:
    """The tokens as heads read them; the plain ones are removed."""
    whitening = Whitening.of_tokens(raw, settings.components)
    file = raw.file.with_name("whitened")
    shape = raw.mapped(whitening, file).shape
    raw.file.unlink()
    return replace(raw, file=file, shape=(shape[0], shape[1], shape[2])), whitening


def _taught(
    raw: TokenImages, inputs: Inputs, image_ids: Sequence[str], settings: TrainSettings, encoder: str, size: int
) -> TokenImages:
    """The same tokens, and what the teacher says of each view."""
    file = raw.file.with_name("teacher")
    small = replace(small_config("ram", 1, encoder, size), text_encoder=settings.text_encoder)
    teacher_of(settings.distillation, small).store(raw, stored_views(inputs, image_ids, raw), file)
    return replace(raw, teacher=file)


def _weights(inputs: Inputs, image_ids: Sequence[str], settings: TrainSettings) -> NDArray[np.float64] | None:
    """How often each image is seen, (images,): as its heaviest source asks. None where all are alike.

    Raises ValueError where a weight is given to a source that there is not.
    """
    if not settings.source_weights:
        return None
    weights = settings.weight_of()
    pairs = inputs.table("pairs", ["image_id", "sources"]).to_pylist()
    sources = {pair["image_id"]: pair["sources"] for pair in pairs}
    known = {name for names in sources.values() for name in names}
    if unknown := sorted(set(weights) - known):
        raise ValueError(f"source_weights: there is no source '{unknown[0]}'; there are: {', '.join(sorted(known))}")
    return np.array([max(weights.get(name, 1.0) for name in sources[image_id]) for image_id in image_ids])


def _captions(
    inputs: Inputs, image_ids: Sequence[str], tags: TagColumns
) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[tuple[str, ...], ...], ...]]:
    """The captions of each image, and the names of the tags that each caption names."""
    place = {image_id: at for at, image_id in enumerate(image_ids)}
    pairs = inputs.table("pairs", ["image_id", "captions"]).to_pylist()
    captions: list[tuple[str, ...]] = [()] * len(image_ids)
    for pair in pairs:
        if pair["image_id"] in place:
            captions[place[pair["image_id"]]] = tuple(pair["captions"])
    names: list[list[tuple[str, ...]]] = [[()] * len(texts) for texts in captions]
    for row in inputs.table("caption_tags").to_pylist():
        if row["image_id"] in place:
            named = tuple(tags.labels[tags.column[tag]].name for tag in row["tag_ids"] if tag in tags.column)
            if row["caption_index"] >= 0:  # else tags that the source gives the image, and no caption
                names[place[row["image_id"]]][row["caption_index"]] = named
    return tuple(captions), tuple(map(tuple, names))
