"""Images as bytes: read, checked before they are decoded, decoded the same way everywhere."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

# Only raster formats: Pillow would hand others (EPS) to outside programs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 64_000_000
_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)
Image.init()  # Image.open(formats=...) knows only the formats that are loaded
Image.MAX_IMAGE_PIXELS = None  # the limit is ours, a setting, and holds before anything is decoded


class ImageError(ValueError):
    """An image that cannot be used: ``reason`` is a code that is counted, ``detail`` a sentence for a person."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def read_image(image: Mapping[str, Any]) -> bytes:
    """The file content of an ``image`` record ``{bytes, path}``: its bytes where there are, else read from its path.

    Raises :class:`ImageError` (image_missing) where there is neither.
    """
    if image.get("bytes") is not None:
        return bytes(image["bytes"])
    path = image.get("path")
    if not path:
        raise ImageError("image_missing", "The record holds neither the image's bytes nor its path.")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError("image_missing", f"'{path}' cannot be read: {error.strerror or error}.") from error


def check_image(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height in pixels, as displayed (after the EXIF orientation), of an image that decodes to its end.

    The size is read from the header and compared with ``max_pixels`` before any pixel is decoded.
    Raises :class:`ImageError` with reason image_empty, image_truncated, image_too_large or image_unreadable.
    """
    return _load(data, max_pixels).size


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture as RGB, turned as its EXIF orientation says; what is transparent becomes white.

    Raises :class:`ImageError` as :func:`check_image` does.
    """
    image = _load(data, max_pixels)
    if image.mode.startswith("I;16"):  # Pillow's own conversion would clip 16-bit grey at 255
        image = image.point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    return image.convert("RGB")


def picture(pair: Mapping[str, Any]) -> Image.Image:
    """The decoded picture of a row of ``pairs`` with its file: a record with ``image``, ``width`` and ``height``.

    Raises :class:`ImageError` where the file left or changed since it was read.
    """
    return decode_image(read_image(pair["image"]), max_pixels=pair["width"] * pair["height"])


def may_mirror(captions: Iterable[str]) -> bool:
    """Whether no caption names a side, which would be wrong in a mirrored picture."""
    return not any(_SIDES.search(caption) for caption in captions)


def _load(data: bytes, max_pixels: int) -> Image.Image:
    """The decoded image, turned upright: the only place where bytes from outside meet a decoder."""
    if not data:
        raise ImageError("image_empty", "The file has no content.")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError("image_unreadable", f"This is none of {', '.join(FORMATS)}.") from error
    except Exception as error:  # a decoder may raise anything on hostile bytes
        raise _damaged("file", error) from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError("image_too_large", f"{width} x {height} pixels are more than the {max_pixels:,} allowed.")
    try:
        image.load()
    except Exception as error:
        raise _damaged(f"{width} x {height} {image.format}", error) from error
    with contextlib.suppress(Exception):  # a picture with damaged EXIF data stays as it lies
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _damaged(what: str, error: Exception) -> ImageError:
    truncated = "truncated" in str(error).lower() or isinstance(error, EOFError)
    if truncated:
        return ImageError("image_truncated", f"The {what} breaks off before its end: {error}.")
    return ImageError("image_unreadable", f"The {what} is damaged: {error}.")
