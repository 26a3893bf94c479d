"""What a training keeps in files beside its images, which are opened where they are read.

The objects hold a few bytes an image, which is all that is in memory, and all that is sent to other processes.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tasks.training.ids import Indices

ENTRY = np.dtype([("tag", np.int32), ("target", np.float32)])
BLOCK = 4096  # images whose targets are in memory at once, where all are gone through


@dataclass(frozen=True, eq=False)
class StoredTargets:
    """A sparse (images, tags) matrix of float32: an image's entries follow each other in a file of :data:`ENTRY`."""

    file: Path
    first: Indices  # (images,) an image's first entry
    counts: NDArray[np.int32]  # (images,)
    tags: int

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.first), self.tags

    def __getitem__(self, images: Indices | slice) -> StoredTargets:
        return replace(self, first=self.first[images], counts=self.counts[images])

    def tocsr(self) -> csr_matrix:
        """The same matrix in memory."""
        ends = np.cumsum(self.counts, dtype=np.int64)
        count = int(ends[-1]) if len(ends) else 0
        places = np.repeat(self.first - ends + self.counts, self.counts) + np.arange(count)
        entries = np.memmap(self.file, ENTRY, "r")[places] if count else np.zeros(0, ENTRY)
        return csr_matrix((entries["target"], entries["tag"], np.append(0, ends)), shape=self.shape)

    def toarray(self) -> NDArray[np.float32]:
        array: NDArray[np.float32] = self.tocsr().toarray()
        return array


Targets: TypeAlias = csr_matrix | StoredTargets  # (images, tags), float32 in 0..1


def mean_targets(targets: Targets) -> NDArray[np.float64]:
    """(tags,): how much of each tag is taught, on average over the images."""
    count, tags = targets.shape
    total = np.zeros(tags)
    for at in range(0, count, BLOCK):
        total += np.asarray(targets[at : at + BLOCK].tocsr().sum(axis=0, dtype=np.float64)).ravel()
    return total / max(1, count)


def is_soft(targets: Targets) -> bool:
    """Whether any of the targets is less than 1, and not 0."""
    blocks = (targets[at : at + BLOCK].tocsr() for at in range(0, targets.shape[0], BLOCK))
    return any(bool((block.data < 1).any()) for block in blocks)


@dataclass(frozen=True, eq=False)
class StoredRows:
    """Rows of tables, one an image, in a file: each is a pickled dictionary."""

    file: Path
    first: Indices  # (images,) the byte where a row begins

    def __len__(self) -> int:
        return len(self.first)

    def read(self, images: Indices) -> Iterator[dict[str, Any]]:
        """The rows of some of the images, one after the other."""
        with self.file.open("rb") as stored:
            for first in self.first[images].tolist():
                stored.seek(first)
                yield pickle.load(stored)

    def subset(self, images: Indices | slice) -> StoredRows:
        return replace(self, first=self.first[images])


def store_rows(tables: Iterable[tuple[Indices, pa.Table]], count: int, file: Path) -> StoredRows:
    """Writes the rows of ``count`` images into ``file``: ``tables`` with the image of each row, -1: it is left out."""
    first = np.zeros(count, np.int64)
    with file.open("wb") as stored:
        for images, table in tables:
            own = images >= 0
            for image, row in zip(images[own].tolist(), table.filter(pa.array(own)).to_pylist(), strict=True):
                first[image] = stored.tell()
                pickle.dump(row, stored)
    return StoredRows(file, first)
