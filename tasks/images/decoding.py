"""Images as bytes: read, checked before they are decoded, decoded the same way everywhere."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

# Only raster formats: Pillow would hand others (EPS) to outside programs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 64_000_000
MAX_BYTES = 4 * MAX_PIXELS  # of a file: without compression a picture takes three or four a pixel
MAX_SCANS = 100  # of a JPEG: each goes over all of its pixels, a few bytes a time, and encoders make ten or so
MAX_SECONDS = 30.0  # of one core for an image: the largest take three
# A JPEG that is wanted at some size is decoded at least so much larger: a model's features then keep a cosine of 0.999.
OVERSAMPLING = 3
_SIDEWAYS = range(5, 9)  # EXIF orientations that swap width and height
_SCAN = b"\xff\xda"
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # but those that stand alone and those of coded data
_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)
Image.init()  # Image.open(formats=...) knows only the formats that are loaded
Image.MAX_IMAGE_PIXELS = None  # the limit is ours, a setting, and holds before anything is decoded


class ImageError(ValueError):
    """An image that cannot be used: ``reason`` is a code that is counted, ``detail`` a sentence for a person."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class CheckedImage:
    """An image that decodes to its end: ``width`` and ``height`` in pixels, as displayed (after the EXIF orientation),
    and its ``picture`` in RGB, which may be smaller."""

    width: int
    height: int
    picture: Image.Image


def read_image(image: Mapping[str, Any]) -> bytes:
    """The file content of an ``image`` record ``{bytes, path}``: its bytes where there are, else read from its path.

    Raises :class:`ImageError` where there is neither (image_missing), where the path leads to something that has no end
    (image_unreadable: a pipe, a device), or to more than a picture can take (image_too_large).
    """
    if image.get("bytes") is not None:
        return bytes(image["bytes"])
    path = image.get("path")
    if not path:
        raise ImageError("image_missing", "The record holds neither the image's bytes nor its path.")
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("image_unreadable", f"'{path}' is no regular file.")
            if status.st_size > MAX_BYTES:
                raise ImageError("image_too_large", f"'{path}' has {status.st_size:,} bytes, more than {MAX_BYTES:,}.")
            return file.read()
    except (OSError, ValueError) as error:  # a name with a NUL in it is a ValueError
        if isinstance(error, ImageError):
            raise
        raise ImageError(
            "image_missing", f"'{path}' cannot be read: {getattr(error, 'strerror', '') or error}."
        ) from error


def _without_waiting(path: str, flags: int) -> int:
    """Opens a pipe that no one writes to at once, where the usual way waits for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def check_image(data: bytes, max_pixels: int = MAX_PIXELS, side: int = 0) -> CheckedImage:
    """An image that was decoded to its end, as :func:`decode_image` gives it.

    Its size is read from the header and compared with ``max_pixels`` before any pixel is decoded. Raises
    :class:`ImageError` with reason image_empty, image_truncated, image_too_large, image_too_slow or image_unreadable.
    """
    image, (width, height) = _load(data, max_pixels, side)
    try:
        return CheckedImage(width, height, _in_rgb(image))
    except Exception as error:  # such as of a colour space that Pillow does not convert
        raise _damaged(f"{width} x {height} picture", error) from error


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS, side: int = 0) -> Image.Image:
    """The picture as RGB, turned as its EXIF orientation says; what is transparent becomes white.

    A ``side`` says that it is wanted at no more than ``side`` x ``side`` pixels: a large JPEG is decoded at a half, a
    quarter or an eighth of its size then, and still has :data:`OVERSAMPLING` times as many each way. 0: at its size.
    Raises :class:`ImageError` as :func:`check_image` does.
    """
    return check_image(data, max_pixels, side).picture


def picture(pair: Mapping[str, Any], side: int = 0) -> Image.Image:
    """The decoded picture of a row of ``pairs`` with its file: a record with ``image``, ``width`` and ``height``.

    ``side`` is as for :func:`decode_image`. Raises :class:`ImageError` where the file left or changed since it was
    read.
    """
    return decode_image(read_image(pair["image"]), pair["width"] * pair["height"], side)


def may_mirror(captions: Iterable[str]) -> bool:
    """Whether no caption names a side, which would be wrong in a mirrored picture."""
    return not any(_SIDES.search(caption) for caption in captions)


def _load(data: bytes, max_pixels: int, side: int) -> tuple[Image.Image, tuple[int, int]]:
    """The decoded image, turned upright, and its full size: the only place where bytes from outside meet a decoder."""
    if not data:
        raise ImageError("image_empty", "The file has no content.")
    try:
        image: Image.Image = Image.open(_Paced(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError("image_unreadable", f"This is none of {', '.join(FORMATS)}.") from error
    except Exception as error:  # a decoder may raise anything on hostile bytes
        raise _damaged("file", error) from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError("image_too_large", f"{width} x {height} pixels are more than the {max_pixels:,} allowed.")
    if _scans(data) > MAX_SCANS:
        raise ImageError("image_too_slow", f"The JPEG has more than {MAX_SCANS} scans.")
    try:
        image = _decoded(image, side)
    except Exception as error:
        raise _damaged(f"{width} x {height} {image.format}", error) from error
    with contextlib.suppress(Exception):  # a picture with damaged EXIF data stays as it lies
        if image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS:
            width, height = height, width
        ImageOps.exif_transpose(image, in_place=True)
    return image, (width, height)


class _Paced(io.BytesIO):
    """The bytes of an image, which take no reader longer than MAX_SECONDS: decoders come back for more, block by block.

    The seconds are those of this thread alone, so that a busy machine sets nothing apart.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._end = time.thread_time() + MAX_SECONDS

    def read(self, size: int | None = -1, /) -> bytes:
        if time.thread_time() > self._end:
            raise ImageError("image_too_slow", f"The image takes longer than {MAX_SECONDS:.0f} seconds to decode.")
        return super().read(size)


def _scans(data: bytes) -> int:
    """The scans of a JPEG, by its markers, which are not counted on beyond MAX_SCANS; 0 for anything else."""
    if not data.startswith(b"\xff\xd8") or data.count(_SCAN) <= MAX_SCANS:  # there may be more than scans, never less
        return 0
    scans, at = 0, 2
    while scans <= MAX_SCANS and (marker := _MARKER.search(data, at)) and marker[0] != b"\xff\xd9":
        scans += marker[0] == _SCAN
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return scans


def _decoded(image: Image.Image, side: int) -> Image.Image:
    """The image decoded to its end, a JPEG at a part of its size where that leaves enough of it for ``side``.

    Its coefficients are read all the same, so that what is damaged is found.
    """
    width, height = image.size
    scale = _scale(width, height, OVERSAMPLING * side) if side else 1
    drafted = image.draft(None, (width // scale, height // scale)) if scale > 1 else None
    image.load()
    if drafted is None or drafted[1][2:] == image.size:
        return image
    # the last row and column reach beyond the picture, which would be squeezed
    return image.resize((width // scale, height // scale), Image.Resampling.BICUBIC, drafted[1])


def _scale(width: int, height: int, least: int) -> int:
    """The divisor, 1, 2, 4 or 8, that leaves both sides ``least`` pixels."""
    fitting = min(width, height) // least
    if fitting < 4 and (width % 2 or height % 2):  # half of it with its edges put right costs more than the whole
        return 1
    return next((scale for scale in (8, 4, 2) if fitting >= scale), 1)


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow's own conversion would clip 16-bit grey at 255
        image = image.point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    return image.convert("RGB")


def _damaged(what: str, error: Exception) -> ImageError:
    if isinstance(error, ImageError):
        return error
    truncated = "truncated" in str(error).lower() or isinstance(error, EOFError)
    if truncated:
        return ImageError("image_truncated", f"The {what} breaks off before its end: {error}.")
    return ImageError("image_unreadable", f"The {what} is damaged: {error}.")
