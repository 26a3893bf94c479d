from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.images.decoding import ImageError, check_image, decode_image, may_mirror, read_image


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def noise(width: int = 80, height: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def reason_of(data: bytes, **options: int) -> str:
    with pytest.raises(ImageError) as caught:
        check_image(data, **options)
    assert caught.value.detail.endswith(".")
    return caught.value.reason


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_formats_are_checked_and_decoded(format_: str) -> None:
    data = encoded(noise(), format_)
    assert check_image(data) == (80, 60)
    assert decode_image(data).mode == "RGB"


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.5, 0.97])
def test_a_truncated_file_is_said_to_be_truncated(format_: str, share: float) -> None:
    data = encoded(noise(), format_)
    assert reason_of(data[: int(len(data) * share)]) == "image_truncated"


def test_reasons() -> None:
    assert reason_of(b"") == "image_empty"
    assert reason_of(b"<html>not found</html>") == "image_unreadable"
    assert reason_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n") == "image_unreadable"
    damaged = bytearray(encoded(noise(), "PNG"))
    damaged[60:2000] = bytes(1940)
    assert reason_of(bytes(damaged)) == "image_unreadable"


def test_size_is_checked_before_anything_is_decoded() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # there are no pixels behind these headers: decoding would find them truncated
        assert reason_of(png_header(30_000, 30_000)) == "image_too_large"
        assert reason_of(png_header(9_500, 9_500)) == "image_too_large"
    assert reason_of(encoded(noise(), "JPEG"), max_pixels=4_799) == "image_too_large"
    assert check_image(encoded(noise(), "JPEG"), max_pixels=4_800) == (80, 60)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_orientation_is_applied_and_damaged_exif_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(noise(), "JPEG", exif=exif)
    assert check_image(turned) == (60, 80) == decode_image(turned).size
    garbage = encoded(noise(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert check_image(garbage) == (80, 60) == decode_image(garbage).size


def test_other_modes_become_rgb_with_sensible_colours() -> None:
    grey16 = Image.fromarray(np.full((4, 4), 40_000, np.uint16))
    assert decode_image(encoded(grey16, "PNG")).getpixel((0, 0)) == (156, 156, 156)
    glass = Image.new("RGBA", (4, 4), (9, 9, 9, 0))
    assert decode_image(encoded(glass, "PNG")).getpixel((0, 0)) == (255, 255, 255)
    ink = Image.new("CMYK", (4, 4), (0, 0, 0, 0))
    assert decode_image(encoded(ink, "JPEG")).getpixel((0, 0)) == (255, 255, 255)


def test_a_record_is_read_from_bytes_or_path(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"content")
    assert read_image({"bytes": b"inline", "path": "anything"}) == b"inline"
    assert read_image({"bytes": None, "path": str(tmp_path / "a.png")}) == b"content"
    for record in ({"bytes": None, "path": str(tmp_path / "b.png")}, {"bytes": None, "path": None}):
        with pytest.raises(ImageError, match="image_missing"):
            read_image(record)


@pytest.mark.parametrize(
    ("caption", "allowed"),
    [("a dog on the left", False), ("Right of a tree", False), ("bright leftovers", True), ("a red bus", True)],
)
def test_pictures_whose_captions_name_a_side_are_not_mirrored(caption: str, allowed: bool) -> None:
    assert may_mirror(["a picture", caption]) is allowed
