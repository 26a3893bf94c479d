"""Ids of images, held compactly: a corpus has millions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ImageIds:
    """Ids of images as the numbers whose sixteen hexadecimal digits they are: eight bytes each."""

    numbers: NDArray[np.uint64]  # (images,)

    @classmethod
    def of(cls, image_ids: Iterable[str]) -> ImageIds:
        """The same ids, in their order."""
        if isinstance(image_ids, ImageIds):
            return image_ids
        return cls(np.frombuffer(bytes.fromhex("".join(image_ids)), ">u8").astype(np.uint64))

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, at: int) -> str:
        return f"{int(self.numbers[at]):016x}"

    def __iter__(self) -> Iterator[str]:
        return (self[at] for at in range(len(self)))

    def subset(self, indices: Indices | slice) -> ImageIds:
        """Some of them, in the order of ``indices``."""
        return ImageIds(self.numbers[indices])

    def folds(self, count: int) -> NDArray[np.uint64]:
        """The :func:`fold_of` each, (images,)."""
        return self.numbers % np.uint64(count)

    def finder(self) -> Callable[[Iterable[str]], Indices]:
        """A function that tells where ids stand among these; -1: nowhere."""
        order = np.argsort(self.numbers)

        def places(image_ids: Iterable[str]) -> Indices:
            wanted = ImageIds.of(image_ids).numbers
            if not len(order):
                return np.full(len(wanted), -1)
            near = order[np.searchsorted(self.numbers, wanted, sorter=order).clip(max=len(order) - 1)]
            return np.where(self.numbers[near] == wanted, near, -1)

        return places


def fold_of(image_id: str, folds: int) -> int:
    """The fold that an image is in: its model has not seen it."""
    return int(image_id, 16) % folds
