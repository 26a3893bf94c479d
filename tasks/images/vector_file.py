"""Vectors in a scratch file, read where they are compared: a file that is mapped counts as memory once it is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float16]
Places = NDArray[np.integer]


class VectorFile:
    """Vectors (count, width), half floats: ``[places]`` reads those (n,) or a slice, ``[places] = rows`` writes them.

    Raises OSError where the file cannot be read or written: a full disk, say.
    """

    def __init__(self, descriptor: int, count: int, width: int) -> None:
        self._descriptor, self._count, self._width = descriptor, count, width
        self._row = np.dtype(np.float16).itemsize * width  # bytes

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, places: Places | slice) -> Vectors:
        places = self._places(places)
        rows = np.empty((len(places), self._width), np.float16)
        for start, end in _runs(places):
            asked = rows[start:end].view(np.uint8).data
            if os.preadv(self._descriptor, [asked], int(places[start]) * self._row) < asked.nbytes:
                raise OSError("a scratch file of vectors is cut off")
        return rows

    def __setitem__(self, places: Places | slice, rows: Vectors) -> None:
        places, rows = self._places(places), np.ascontiguousarray(rows, np.float16)
        if rows.shape != (len(places), self._width):
            raise ValueError(f"{rows.shape} are not {len(places)} vectors of the width {self._width}")
        for start, end in _runs(places):
            written = rows[start:end].tobytes()
            if os.pwrite(self._descriptor, written, int(places[start]) * self._row) < len(written):
                raise OSError("a scratch file of vectors cannot be written to its end: is the disk full?")

    def _places(self, places: Places | slice) -> Places:
        return np.arange(*places.indices(self._count)) if isinstance(places, slice) else places


def new_vectors(file: Path, count: int, width: int) -> AbstractContextManager[VectorFile]:
    """A new file of so many vectors."""
    return _open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, count, width)


def stored_vectors(file: Path, count: int) -> AbstractContextManager[VectorFile]:
    """The ``count`` vectors of a file that is there."""
    width = file.stat().st_size // np.dtype(np.float16).itemsize // max(1, count)
    return _open(file, os.O_RDONLY, count, width)


@contextmanager
def _open(file: Path, flags: int, count: int, width: int) -> Iterator[VectorFile]:
    descriptor = os.open(file, flags, 0o600)
    try:
        yield VectorFile(descriptor, count, width)
    finally:
        os.close(descriptor)


def _runs(places: Places) -> Iterator[tuple[int, int]]:
    """Where places that follow each other start and end: they lie in the file in a row."""
    ends = [*(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)] if len(places) else []
    yield from zip([0, *ends], ends, strict=False)
