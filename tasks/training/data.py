"""What a training reads: its tags, and the images as stored tokens or as pictures.

Both kinds of images are written once into a scratch file that is then memory-mapped: several trainings share it, and
it may be larger than the memory.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from models import Label
from models.image_encoder import Preprocessing
from tasks.images.decoding import may_mirror, picture
from tasks.images.tokens import token_matrix
from tasks.machine.inputs import Inputs
from tasks.settings.encode import EncodeSettings
from tasks.stages.encode import View, picture_of

Indices = NDArray[np.int64]
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
    views: Indices  # (images,) how many
    teacher: Path | None = None

    def __len__(self) -> int:
        return len(self.first)

    def _open(self) -> NDArray[np.float16]:
        # not kept: an object that holds an open map would pickle all of its contents
        return np.memmap(self.file, np.float16, "r", shape=self.shape)

    def batches(self, order: Sequence[Indices], seed: int, pieces: Sequence[Indices] | None = None) -> Iterator[Tensor]:
        """Float32 tokens (B, tokens, width) of ``pieces``, by default of the whole batches of ``order``.

        Each image shows one of its views, by chance: which, follows from ``order`` and ``seed`` alone.
        """
        shown, tokens = self._shown(order, seed), self._open()
        for indices in order if pieces is None else pieces:
            yield torch.from_numpy(tokens[shown[indices]].astype(np.float32))

    def taught(self, order: Sequence[Indices], seed: int, pieces: Sequence[Indices] | None = None) -> Iterator[Tensor]:
        """What the teacher says about the views that :meth:`batches` shows for the same arguments."""
        if self.teacher is None:
            raise ValueError("these tokens were stored without a teacher")
        shown = self._shown(order, seed)
        said = np.memmap(self.teacher, np.float16, "r").reshape(self.shape[0], -1)
        for indices in order if pieces is None else pieces:
            yield torch.from_numpy(said[shown[indices]].astype(np.float32))

    def _shown(self, order: Sequence[Indices], seed: int) -> Indices:
        """The row of the view that each image shows, (images,)."""
        chance, shown = np.random.default_rng(seed), self.first.copy()
        for indices in order:  # an image may come more than once in an epoch: it shows one view then
            shown[indices] = self.first[indices] + chance.integers(self.views[indices])
        return shown

    def mapped(self, change: Callable[[Tensor], Tensor], file: Path) -> NDArray[np.float16]:
        """Writes ``change`` of all rows' tokens, batch by batch, into ``file`` as float16."""
        tokens = self._open()
        written: NDArray[np.float16] | None = None
        for start in range(0, self.shape[0], MAP_BATCH):
            rows = change(torch.from_numpy(tokens[start : start + MAP_BATCH].astype(np.float32))).numpy()
            if written is None:
                written = np.memmap(file, np.float16, "w+", shape=(self.shape[0], *rows.shape[1:]))
            written[start : start + MAP_BATCH] = rows
        if written is None:
            raise ValueError("there are no tokens")
        if isinstance(written, np.memmap):
            written.flush()
        return written

    def whole(self, order: Sequence[Indices]) -> Iterator[Tensor]:
        """The tokens of the whole pictures."""
        tokens = self._open()
        for indices in order:
            yield torch.from_numpy(tokens[self.first[indices]].astype(np.float32))

    def subset(self, indices: Indices) -> TokenImages:
        return replace(self, first=self.first[indices], views=self.views[indices])


def store_tokens(
    inputs: Inputs, image_ids: Sequence[str], image_size: int, file: Path, only_mean: bool = False
) -> TokenImages:
    """Copies the tokens of ``image_ids`` at ``image_size`` into ``file``, in that order, view after view; with
    ``only_mean`` the mean token alone.

    Raises ValueError where the features lack an image.
    """
    index = inputs.table("features", ["image_id", "view", "image_size"])
    index = index.filter(pc.equal(index["image_size"], image_size))
    place = {image_id: at for at, image_id in enumerate(image_ids)}
    views = np.zeros(len(image_ids), np.int64)
    for image_id in index["image_id"].to_pylist():
        if image_id in place:
            views[place[image_id]] += 1
    if not views.all():
        lacking = image_ids[int(np.argmin(views))]
        raise ValueError(f"features: image {lacking} has no tokens at {image_size} pixels; run the stage encode again")
    first = np.concatenate([[0], np.cumsum(views)[:-1]])
    stored: NDArray[np.float16] | None = None
    for part in inputs.parts("features", ["image_id", "view", "image_size", "tokens"]):
        wanted = pc.and_(
            pc.equal(part["image_size"], image_size), pc.is_in(part["image_id"], pa.array(image_ids, pa.string()))
        )
        part = part.filter(wanted)
        if not part.num_rows:
            continue
        tokens = token_matrix(part["tokens"])[:, : 1 if only_mean else None]
        if stored is None:
            stored = np.memmap(file, np.float16, "w+", shape=(int(views.sum()), *tokens.shape[1:]))
        images = np.array([place[image_id] for image_id in part["image_id"].to_pylist()])
        stored[first[images] + part["view"].to_numpy()] = tokens
    if stored is None:
        raise ValueError(f"features: no image of this training has tokens at {image_size} pixels")
    shape = stored.shape
    del stored  # writes what is still in memory
    return TokenImages(file, (shape[0], shape[1], shape[2]), first, views)


def stored_views(
    inputs: Inputs, image_ids: Sequence[str], images: TokenImages
) -> Iterator[tuple[int, list[Image.Image]]]:
    """The pictures that were encoded: for each of ``image_ids`` the row of its first view, and all its views."""
    settings = EncodeSettings(**inputs.snapshots["features"].settings)
    place = {image_id: at for at, image_id in enumerate(image_ids)}
    for part in inputs.with_files(["image_id", "captions", "width", "height"]):
        for pair in part.filter(pc.is_in(part["image_id"], pa.array(image_ids, pa.string()))).to_pylist():
            at = place[pair["image_id"]]
            views = [picture_of(View(pair, number), settings) for number in range(images.views[at])]
            yield int(images.first[at]), views


@dataclass(frozen=True)
class PictureImages:
    """Pictures for end-to-end training: an Arrow file with image records, decoded and augmented when they are needed.

    Augmentation as in RAM: a random crop of 20 to 100% of the area, mirroring, and RandAugment of two operations.
    """

    file: Path
    rows: Indices  # (images,)
    preprocessing: Preprocessing
    workers: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, order: Sequence[Indices], seed: int, pieces: Sequence[Indices] | None = None) -> Iterator[Tensor]:
        """Normalised pictures (B, 3, H, W) of ``pieces``, by default of the whole batches of ``order``."""
        sampler = [indices.tolist() for indices in (order if pieces is None else pieces)]
        yield from DataLoader(_Pictures(self, seed), batch_sampler=sampler, num_workers=self.workers)

    def whole(self, order: Sequence[Indices]) -> Iterator[Tensor]:
        """The whole pictures, normalised, without augmentation."""
        table, prepare = _open_pictures(self.file), self.preprocessing.transform()
        for indices in order:
            yield torch.stack([prepare(picture(_pair(table, self.rows[at]))) for at in indices])

    def subset(self, indices: Indices) -> PictureImages:
        return replace(self, rows=self.rows[indices])


def store_pictures(
    inputs: Inputs, image_ids: Sequence[str], preprocessing: Preprocessing, file: Path, workers: int = 0
) -> PictureImages:
    """Copies the image records of ``image_ids`` into an Arrow file that can be memory-mapped."""
    row_of: dict[str, int] = {}
    wanted = pa.array(image_ids, pa.string())
    writer: pa.ipc.RecordBatchFileWriter | None = None
    for part in inputs.with_files(["image_id", "captions", "width", "height"]):
        part = part.filter(pc.is_in(part["image_id"], wanted))
        writer = writer or pa.ipc.new_file(str(file), part.schema)
        for image_id in part["image_id"].to_pylist():
            row_of[image_id] = len(row_of)
        writer.write_table(part)
    if writer is not None:
        writer.close()
    return PictureImages(file, np.array([row_of[image_id] for image_id in image_ids]), preprocessing, workers)


class _Pictures(Dataset[Tensor]):
    """One epoch's pictures; what an image looks like depends on the seed and on nothing that was drawn before."""

    def __init__(self, images: PictureImages, seed: int) -> None:
        self.images = images
        self.seed = seed
        self.augment = v2.Compose([v2.RandAugment(2, 5), images.preprocessing.to_tensor()])
        size = [images.preprocessing.image_size] * 2
        self.crop = v2.RandomResizedCrop(size, (0.2, 1), interpolation=v2.InterpolationMode.BICUBIC)

    @cached_property
    def table(self) -> pa.Table:
        return _open_pictures(self.images.file)

    def __getitem__(self, index: int) -> Tensor:
        pair = _pair(self.table, self.images.rows[index])
        shown = picture(pair)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed * 1_000_003 + index)
            if may_mirror(pair["captions"]) and torch.rand(()) < 0.5:
                shown = ImageOps.mirror(shown)
            image: Tensor = self.augment(self.crop(shown))
        return image


def _open_pictures(file: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def _pair(table: pa.Table, row: np.integer) -> dict[str, Any]:
    pair: dict[str, Any] = table.slice(int(row), 1).to_pylist()[0]
    return pair


@dataclass(frozen=True)
class Examples:
    """The images of a training and what is taught about them."""

    image_ids: tuple[str, ...]
    images: TokenImages | PictureImages
    targets: csr_matrix  # (images, tags), float32 in 0..1
    captions: tuple[tuple[str, ...], ...] = ()  # of each image; empty: no captioner is trained
    caption_tags: tuple[tuple[tuple[str, ...], ...], ...] = ()  # the tags' names of each of the captions
    weights: NDArray[np.float64] | None = None  # (images,), how often each is seen; None: all alike
    bare: NDArray[np.bool_] | None = None  # (images,), which came without a caption (storage.bare); None: none

    def subset(self, indices: Indices) -> Examples:
        """Some of the images, in the order of ``indices``."""
        return Examples(
            tuple(self.image_ids[at] for at in indices),
            self.images.subset(indices),
            self.targets[indices],
            tuple(self.captions[at] for at in indices) if self.captions else (),
            tuple(self.caption_tags[at] for at in indices) if self.caption_tags else (),
            self.weights[indices] if self.weights is not None else None,
            self.bare[indices] if self.bare is not None else None,
        )

    def captioned(self) -> Examples:
        """Those of the images that are not bare."""
        return self if self.bare is None else self.subset(np.flatnonzero(~self.bare))

    def caption_choice(self, indices: Indices, chance: random.Random) -> tuple[list[str], list[tuple[str, ...]]]:
        """One of each image's captions, by chance, and the tags that it names; "" and none where it has no caption."""
        chosen = [(at, chance.randrange(len(self.captions[at])) if self.captions[at] else -1) for at in indices]
        return (
            [self.captions[at][which] if which >= 0 else "" for at, which in chosen],
            [self.caption_tags[at][which] if which >= 0 else () for at, which in chosen],
        )


def fold_of(image_id: str, folds: int) -> int:
    """The fold that an image is in: its model has not seen it."""
    return int(image_id, 16) % folds
