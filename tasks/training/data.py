"""What a training reads: its tags, and the images as stored tokens or as pictures.

Both kinds of images are written once into a scratch file, in the order in which the store has them: several trainings
share it, and it may be larger than the memory.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from models import Label
from models.image_encoder import Preprocessing
from tasks.images.decoding import may_mirror, picture
from tasks.images.tokens import token_matrix
from tasks.images.vector_file import stored_vectors
from tasks.machine.inputs import Inputs
from tasks.settings.encode import EncodeSettings
from tasks.stages.encode import views_of
from tasks.training.ids import ImageIds, Indices
from tasks.training.scratch import StoredRows, Targets, store_rows

MAP_BATCH = 64


@dataclass(frozen=True)
class TagColumns:
    """The active tags of a label system, each a column of every (images, tags) array, by ascending id."""

    ids: tuple[int, ...]
    labels: tuple[Label, ...]

    @cached_property
    def column(self) -> Mapping[int, int]:
        """Tag id -> column."""
        return {tag_id: column for column, tag_id in enumerate(self.ids)}

    @property
    def types(self) -> list[str]:
        return [label.type for label in self.labels]

    @property
    def query_texts(self) -> list[str]:
        """What a text encoder is given for each tag: its name, and its type where two tags have one name."""
        names = [label.name for label in self.labels]
        return [f"{label.name} ({label.type})" if names.count(label.name) > 1 else label.name for label in self.labels]


def tag_columns(label_system: pa.Table) -> TagColumns:
    """The columns of a ``label_system``."""
    rows = sorted(label_system.filter(label_system["active"]).to_pylist(), key=lambda row: row["tag_id"])
    return TagColumns(tuple(row["tag_id"] for row in rows), tuple(Label(row["name"], row["type"]) for row in rows))


@dataclass(frozen=True)
class TokenImages:
    """Stored image tokens: a float16 file (rows, tokens, width); an image's views are rows that follow each other.

    ``teacher`` may be a second file of float16, (rows, teacher width): what a teacher says about each row.
    """

    file: Path
    shape: tuple[int, int, int]
    first: Indices  # (images,) the row of the first view
    views: NDArray[np.integer]  # (images,) how many
    teacher: Path | None = None

    def __len__(self) -> int:
        return len(self.first)

    def _tokens(self, rows: NDArray[np.float16]) -> Tensor:
        """Float32 tokens (B, tokens, width) of rows of the file."""
        return torch.from_numpy(rows.astype(np.float32).reshape(-1, *self.shape[1:]))

    def batches(self, order: Sequence[Indices], seed: int, pieces: Iterable[Indices] | None = None) -> Iterator[Tensor]:
        """Float32 tokens (B, tokens, width) of ``pieces``, by default of the whole batches of ``order``.

        Each image shows one of its views, by chance: which, follows from ``order`` and ``seed`` alone.
        """
        shown = self._shown(order, seed)
        with stored_vectors(self.file, self.shape[0]) as tokens:
            for indices in order if pieces is None else pieces:
                yield self._tokens(tokens[shown[indices]])

    def taught(self, order: Sequence[Indices], seed: int, pieces: Iterable[Indices] | None = None) -> Iterator[Tensor]:
        """What the teacher says about the views that :meth:`batches` shows for the same arguments."""
        if self.teacher is None:
            raise ValueError("these tokens were stored without a teacher")
        shown = self._shown(order, seed)
        with stored_vectors(self.teacher, self.shape[0]) as said:
            for indices in order if pieces is None else pieces:
                yield torch.from_numpy(said[shown[indices]].astype(np.float32))

    def _shown(self, order: Sequence[Indices], seed: int) -> Indices:
        """The row of the view that each image shows, (images,)."""
        chance, shown = np.random.default_rng(seed), self.first.copy()
        for indices in order:  # an image may come more than once in an epoch: it shows one view then
            shown[indices] = self.first[indices] + chance.integers(self.views[indices])
        return shown

    def mapped(self, change: Callable[[Tensor], Tensor], file: Path) -> tuple[int, ...]:
        """Writes ``change`` of all rows' tokens, batch by batch, into ``file`` as float16; returns the shape there.

        That may be the file that they are in, where ``change`` makes no row larger.
        """
        changed = torch.zeros(0)
        with (
            stored_vectors(self.file, self.shape[0]) as tokens,
            file.open("r+b" if file == self.file else "wb") as written,
        ):
            for start in range(0, self.shape[0], MAP_BATCH):
                changed = change(self._tokens(tokens[start : start + MAP_BATCH]))
                written.write(changed.numpy().astype(np.float16).tobytes())
            written.truncate()
        return self.shape[0], *changed.shape[1:]

    def whole(self, order: Iterable[Indices]) -> Iterator[Tensor]:
        """The tokens of the whole pictures."""
        with stored_vectors(self.file, self.shape[0]) as tokens:
            for indices in order:
                yield self._tokens(tokens[self.first[indices]])

    def subset(self, indices: Indices | slice) -> TokenImages:
        return replace(self, first=self.first[indices], views=self.views[indices])


def store_tokens(
    inputs: Inputs, image_ids: ImageIds, image_size: int, file: Path, only_mean: bool = False
) -> TokenImages:
    """Copies the tokens of ``image_ids`` at ``image_size`` into ``file``, view after view; with ``only_mean`` the mean
    token alone. The features are read once.

    Raises ValueError where they lack an image.
    """
    find, shape = image_ids.finder(), (0, 0, 0)
    first, views = np.zeros(len(image_ids), np.int64), np.zeros(len(image_ids), np.uint8)
    with file.open("wb") as stored:
        for part in inputs.parts("features", ["image_id", "view", "image_size", "tokens"]):
            images = find(part["image_id"].to_pylist())
            wanted = (images >= 0) & (part["image_size"].to_numpy() == image_size)
            if not wanted.any():
                continue
            part, images = part.filter(pa.array(wanted)), images[wanted]
            order = np.lexsort((part["view"].to_numpy(), images))
            tokens = token_matrix(part["tokens"])[order, : 1 if only_mean else None]
            stored.write(tokens.tobytes())
            images, starts, counts = np.unique(images[order], return_index=True, return_counts=True)
            first[images], views[images] = shape[0] + starts, counts
            shape = (shape[0] + len(tokens), tokens.shape[1], tokens.shape[2])
    if not views.all():
        lacking = image_ids[int(np.argmin(views))]
        raise ValueError(f"features: image {lacking} has no tokens at {image_size} pixels; run the stage encode again")
    return TokenImages(file, shape, first, views)


def stored_views(inputs: Inputs, image_ids: ImageIds, images: TokenImages) -> Iterator[tuple[int, list[Image.Image]]]:
    """The pictures that were encoded: for each of ``image_ids`` the row of its first view, and all its views."""
    settings = EncodeSettings(**inputs.snapshots["features"].settings)
    for places, part in _records(inputs, image_ids):
        for at, pair in zip(places[places >= 0], part.filter(pa.array(places >= 0)).to_pylist(), strict=True):
            yield int(images.first[at]), views_of(pair, {settings.image_size: int(images.views[at])}, settings)


def _records(inputs: Inputs, image_ids: ImageIds) -> Iterator[tuple[Indices, pa.Table]]:
    """The pairs with their images, and where each stands among ``image_ids``."""
    find = image_ids.finder()
    for part in inputs.with_files(["image_id", "captions", "width", "height"]):
        yield find(part["image_id"].to_pylist()), part


@dataclass(frozen=True)
class PictureImages:
    """Pictures for end-to-end training: stored image records, decoded and augmented when they are needed.

    Augmentation as in RAM: a random crop of 20 to 100% of the area, mirroring, and RandAugment of two operations.
    """

    records: StoredRows
    preprocessing: Preprocessing
    workers: int = 0

    def __len__(self) -> int:
        return len(self.records)

    def batches(self, order: Sequence[Indices], seed: int, pieces: Iterable[Indices] | None = None) -> Iterator[Tensor]:
        """Normalised pictures (B, 3, H, W) of ``pieces``, by default of the whole batches of ``order``."""
        sampler = (indices.tolist() for indices in (order if pieces is None else pieces))
        yield from DataLoader(_Pictures(self, seed), batch_sampler=sampler, num_workers=self.workers)

    def whole(self, order: Iterable[Indices]) -> Iterator[Tensor]:
        """The whole pictures, normalised, without augmentation."""
        prepare, side = self.preprocessing.transform(), self.preprocessing.image_size
        for indices in order:
            yield torch.stack([prepare(picture(pair, side)) for pair in self.records.read(indices)])

    def subset(self, indices: Indices | slice) -> PictureImages:
        return replace(self, records=self.records.subset(indices))


def store_pictures(
    inputs: Inputs, image_ids: ImageIds, preprocessing: Preprocessing, file: Path, workers: int = 0
) -> PictureImages:
    """Copies the image records of ``image_ids`` into ``file``."""
    return PictureImages(store_rows(_records(inputs, image_ids), len(image_ids), file), preprocessing, workers)


class _Pictures(Dataset[Tensor]):
    """One epoch's pictures; what an image looks like depends on the seed and on nothing that was drawn before."""

    def __init__(self, images: PictureImages, seed: int) -> None:
        self.images = images
        self.seed = seed
        self.augment = v2.Compose([v2.RandAugment(2, 5), images.preprocessing.to_tensor()])
        size = [images.preprocessing.image_size] * 2
        self.crop = v2.RandomResizedCrop(size, (0.2, 1), interpolation=v2.InterpolationMode.BICUBIC)

    def __getitem__(self, index: int) -> Tensor:
        (pair,) = self.images.records.read(np.array([index]))
        shown = picture(pair)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed * 1_000_003 + index)
            if may_mirror(pair["captions"]) and torch.rand(()) < 0.5:
                shown = ImageOps.mirror(shown)
            image: Tensor = self.augment(self.crop(shown))
        return image


@dataclass(frozen=True)
class Examples:
    """The images of a training and what is taught about them."""

    image_ids: ImageIds
    images: TokenImages | PictureImages
    targets: Targets
    captions: StoredRows | None = None  # ``captions``, and ``tags``: the names of each one's; None: none are taught
    weights: NDArray[np.float64] | None = None  # (images,), how often each is seen; None: all alike
    bare: NDArray[np.bool_] | None = None  # (images,), which came without a caption (storage.bare); None: none

    def __len__(self) -> int:
        return len(self.image_ids)

    def subset(self, indices: Indices | slice) -> Examples:
        """Some of the images, in the order of ``indices``."""
        return Examples(
            self.image_ids.subset(indices),
            self.images.subset(indices),
            self.targets[indices],
            self.captions.subset(indices) if self.captions is not None else None,
            self.weights[indices] if self.weights is not None else None,
            self.bare[indices] if self.bare is not None else None,
        )

    def captioned(self) -> Examples:
        """Those of the images that are not bare."""
        return self if self.bare is None else self.subset(np.flatnonzero(~self.bare))

    def texts(self) -> Iterator[str]:
        """All captions, in the order of their file."""
        if self.captions is not None:
            for row in self.captions.read(np.argsort(self.captions.first)):
                yield from row["captions"]

    def caption_choice(self, indices: Indices, chance: random.Random) -> tuple[list[str], list[list[str]]]:
        """One of each image's captions, by chance, and the tags that it names; "" and none where it has no caption."""
        if self.captions is None:
            raise ValueError("these examples have no captions")
        texts, tags = [], []
        for row in self.captions.read(indices):
            which = chance.randrange(len(row["captions"])) if row["captions"] else None
            texts.append("" if which is None else row["captions"][which])
            tags.append([] if which is None else row["tags"][which])
        return texts, tags
