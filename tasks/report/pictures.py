"""Small JPEG pictures as data URIs, so that the report needs no file beside it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from PIL import Image

from tasks.images.decoding import OVERSAMPLING, ImageError, picture
from tasks.report.views import Views

QUALITY = 72
KEPT = 200  # thumbnails: some 3 MB
MARGIN = 0.1  # of a crop's larger side, so that one sees where the region lies


_thumbnails: dict[tuple[str, int], str] = {}  # the pages of a run's stages show the same pictures; by digest and size


class Pictures:
    """The images of some ids, decoded when they are asked for and no larger than they are shown, the last one kept."""

    def __init__(self, views: Views, image_ids: Iterable[str]) -> None:
        self._views, self._ids = views, sorted(set(image_ids))
        self._last: tuple[tuple[str, int], Image.Image | None] = (("", 0), None)

    @cached_property
    def _records(self) -> dict[str, dict[str, Any]]:
        sizes = self._views.rows(
            "SELECT image_id, width, height FROM pairs SEMI JOIN (SELECT unnest($ids) AS image_id) USING (image_id)",
            ids=self._ids,
        )
        files = self._views.files(self._ids)
        return {row["image_id"]: {**row, "image": files[row["image_id"]]} for row in sizes if row["image_id"] in files}

    def thumbnail(self, image_id: str, size: int) -> str:
        """The whole picture within ``size`` x ``size`` pixels; empty where it cannot be read any more."""
        if (image_id, size) in _thumbnails:
            return _thumbnails[image_id, size]
        picture = self._decoded(image_id, size)
        if picture is None:
            return ""
        if len(_thumbnails) == KEPT:
            _thumbnails.pop(next(iter(_thumbnails)))
        return _thumbnails.setdefault((image_id, size), to_data_uri(picture, size))

    def crop(self, image_id: str, box: Sequence[float], size: int) -> str:
        """The region x0, y0, x1, y1 (shares of width and height) with a margin, within ``size`` x ``size`` pixels."""
        picture = self._decoded(image_id, math.ceil(size / max(0.01, box[2] - box[0], box[3] - box[1])))
        if picture is None:
            return ""
        width, height = picture.size
        x0, y0, x1, y1 = box[0] * width, box[1] * height, box[2] * width, box[3] * height
        margin = MARGIN * max(x1 - x0, y1 - y0) + 1
        left, top = max(0, round(x0 - margin)), max(0, round(y0 - margin))
        right, bottom = min(width, round(x1 + margin)), min(height, round(y1 + margin))
        return to_data_uri(picture.crop((left, top, right, bottom)), size)

    def _decoded(self, image_id: str, side: int) -> Image.Image | None:
        if self._last[0] != (image_id, side):
            try:  # an eye needs no more pixels than it is shown
                self._last = (image_id, side), picture(self._records[image_id], math.ceil(side / OVERSAMPLING))
            except (ImageError, KeyError):  # a file that left since it was read is no reason to have no report
                self._last = (image_id, side), None
        return self._last[1]


def to_data_uri(picture: Image.Image, size: int) -> str:
    """``picture`` as a JPEG data URI, reduced to fit ``size`` x ``size`` pixels."""
    small = picture.copy()
    small.thumbnail((size, size))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
