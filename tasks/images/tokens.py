"""The image tokens that `encode` stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def token_matrix(column: pa.ChunkedArray) -> NDArray[np.float16]:
    """A ``tokens`` column whose rows all have as many tokens: float16 (rows, tokens, width)."""
    lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    vectors = lists.flatten()
    if not len(lists):
        return np.zeros((0, 0, vectors.type.list_size), np.float16)
    values: NDArray[np.float16] = vectors.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(lists), -1, vectors.type.list_size)


class MissingTokensError(ValueError):
    """The store lacks the tokens of an image at some size: the stage `encode` has to run again."""


class StoredTokens:
    """The tokens of whole pictures in a table of ``features``, by image and size."""

    def __init__(self, features: pa.Table) -> None:
        self._features = features
        self._of_size: dict[int, tuple[dict[str, int], NDArray[np.float16]]] = {}

    @property
    def least_size(self) -> int:
        """The smallest image size, in pixels, that tokens are stored at; 0: there are none."""
        return int(pc.min(self._features["image_size"]).as_py() or 0)

    def at(self, image_ids: Sequence[str], size: int) -> NDArray[np.float16]:
        """(B, 1 + N, C), the mean token first, of these images at ``size`` pixels. Raises :class:`MissingTokensError`
        where one has none."""
        if size not in self._of_size:
            features = self._features
            features = features.filter(pc.and_(pc.equal(features["image_size"], size), pc.equal(features["view"], 0)))
            places = {image_id: row for row, image_id in enumerate(features["image_id"].to_pylist())}
            self._of_size[size] = places, token_matrix(features["tokens"])
        places, matrix = self._of_size[size]
        lacking = [image_id for image_id in image_ids if image_id not in places]
        if lacking:
            raise MissingTokensError(
                f"features: image {lacking[0]} has no tokens at {size} pixels; run the stage encode again"
            )
        return matrix[[places[image_id] for image_id in image_ids]]
