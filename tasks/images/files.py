"""The image files of some pairs, as stages read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa
from PIL import Image

from storage.images import ImageRecord
from storage.store import StoreError
from tasks.images.decoding import picture


class ImageFiles:
    """The image files of a table of ``images``, which is read when the first is asked for."""

    def __init__(self, read: Callable[[], pa.Table]) -> None:
        self._read = read

    @cached_property
    def _table(self) -> pa.Table:
        return self._read()

    @cached_property
    def _place(self) -> Mapping[str, int]:
        return {image_id: row for row, image_id in enumerate(self._table["image_id"].to_pylist())}

    def record(self, image_id: str) -> ImageRecord:
        """The file of an image. Raises :class:`~storage.store.StoreError` where there is none."""
        if image_id not in self._place:
            raise StoreError(f"images: image {image_id} has no file; run the stage ingest again")
        record: ImageRecord = self._table["image"][self._place[image_id]].as_py()
        return record

    def pictures(self, pairs: pa.Table, side: int = 0) -> list[Image.Image]:
        """The decoded pictures of rows of ``pairs``, RGB; ``side`` is as for :func:`~tasks.images.decoding.picture`.

        Raises ImageError where a file cannot be decoded.
        """
        return [picture(pair, side) for pair in self.rows(pairs, ["width", "height"])]

    def rows(self, pairs: pa.Table, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The rows of ``pairs``, ``columns`` of them, each with the record of its ``image``."""
        for pair in pairs.select(list(dict.fromkeys(["image_id", *columns]))).to_pylist():
            yield {**pair, "image": self.record(pair["image_id"])}
