from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.images import decoding
from tasks.images.decoding import MAX_BYTES, MAX_SCANS, ImageError, check_image, decode_image, may_mirror, read_image


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def noise(width: int = 80, height: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


def size_of(data: bytes, **options: int) -> tuple[int, int]:
    checked = check_image(data, **options)
    return checked.width, checked.height


def ramp(width: int, height: int) -> Image.Image:
    """Brighter to the right in red and to the bottom in green: a place that moves changes its colour."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([red, green, 0 * red + 99], 2).astype(np.uint8))


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
    assert size_of(data) == (80, 60)
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
    assert size_of(encoded(noise(), "JPEG"), max_pixels=4_800) == (80, 60)


def scans_of(jpeg: bytes, scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:last] + scans * jpeg[last:-2] + jpeg[-2:]


def test_a_jpeg_of_many_scans_is_not_decoded() -> None:
    whole = encoded(noise(), "JPEG", progressive=True)
    assert 3 < whole.count(b"\xff\xda") < 20
    assert size_of(scans_of(whole, 50)) == (80, 60)
    assert reason_of(scans_of(whole, MAX_SCANS)) == "image_too_slow"
    # what stands within other data, or after the picture, is none of its scans
    assert size_of(whole + b"\xff\xda" * 2 * MAX_SCANS) == (80, 60)
    comment = struct.pack(">HH", 0xFFFE, 2 + 4 * MAX_SCANS) + b"\xff\xda" * 2 * MAX_SCANS
    assert size_of(whole[:2] + comment + whole[2:]) == (80, 60)
    assert size_of(encoded(noise(), "PNG") + b"\xff\xda" * 2 * MAX_SCANS) == (80, 60)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "BMP"])
def test_no_image_is_decoded_for_longer_than_it_may_take(format_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(noise(), format_)
    assert size_of(data) == (80, 60)
    monkeypatch.setattr(decoding, "MAX_SECONDS", -1.0)
    assert reason_of(data) == "image_too_slow"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_orientation_is_applied_and_damaged_exif_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(noise(), "JPEG", exif=exif)
    assert size_of(turned) == (60, 80) == decode_image(turned).size
    garbage = encoded(noise(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert size_of(garbage) == (80, 60) == decode_image(garbage).size


def test_other_modes_become_rgb_with_sensible_colours() -> None:
    grey16 = Image.fromarray(np.full((4, 4), 40_000, np.uint16))
    assert decode_image(encoded(grey16, "PNG")).getpixel((0, 0)) == (156, 156, 156)
    glass = Image.new("RGBA", (4, 4), (9, 9, 9, 0))
    assert decode_image(encoded(glass, "PNG")).getpixel((0, 0)) == (255, 255, 255)
    ink = Image.new("CMYK", (4, 4), (0, 0, 0, 0))
    assert decode_image(encoded(ink, "JPEG")).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("width", "height", "side", "scale"),
    [(800, 600, 25, 8), (800, 600, 26, 4), (800, 600, 100, 2), (800, 600, 101, 1), (800, 600, 0, 1),
     (795, 603, 50, 4), (803, 601, 25, 8), (801, 600, 100, 1)],
)  # fmt: skip
def test_a_large_jpeg_is_decoded_no_larger_than_is_wanted(width: int, height: int, side: int, scale: int) -> None:
    picture = ramp(width, height)
    data = encoded(picture, "JPEG", quality=95)
    decoded = decode_image(data, side=side)
    assert decoded.size == (width // scale, height // scale)
    assert size_of(data, side=side) == (width, height)
    small = picture.resize((25, 25), Image.Resampling.BOX)
    again = decoded.resize((25, 25), Image.Resampling.BOX)
    assert np.abs(np.asarray(small, float) - np.asarray(again, float)).max() < 3  # a shift by a pixel would be ten
    assert decode_image(encoded(picture, "PNG"), side=side).size == (width, height)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_smaller_picture_is_turned_as_the_whole_is(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(ramp(402, 254), "JPEG", exif=exif)
    whole, smaller = decode_image(data), decode_image(data, side=20)
    assert size_of(data, side=20) == whole.size
    assert smaller.size == (whole.width // 4, whole.height // 4)
    first, second = (np.asarray(picture.resize((9, 9)), float) for picture in (whole, smaller))
    assert np.abs(first - second).max() < 4


JPEGS = [
    encoded(image, "JPEG", **options)
    for image in (noise(97, 71), ramp(160, 120), noise().convert("L"), noise().convert("CMYK"))
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0, "quality": 95})
]


def verdict(data: bytes, side: int) -> tuple[int, int] | tuple[str, str]:
    try:
        return size_of(data, side=side)
    except ImageError as error:
        return error.reason, error.detail


@settings(max_examples=300)
@given(st.sampled_from(JPEGS), st.data())
def test_a_smaller_decode_finds_all_damage_that_a_whole_one_finds(jpeg: bytes, drawn: st.DataObject) -> None:
    damaged = bytearray(jpeg)
    for _ in range(drawn.draw(st.integers(0, 3), "pieces")):
        start = drawn.draw(st.integers(0, len(damaged)), "start")
        replaced = drawn.draw(st.integers(0, 200), "replaced")
        damaged[start : start + replaced] = drawn.draw(st.binary(max_size=200), "by")
    damaged = (
        damaged[: drawn.draw(st.integers(1, len(damaged)) | st.just(len(damaged)), "length")] if damaged else damaged
    )
    data = bytes(damaged)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged EXIF data
        assert verdict(data, 0) == verdict(data, 1)


def test_a_record_is_read_from_bytes_or_path(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"content")
    assert read_image({"bytes": b"inline", "path": "anything"}) == b"inline"
    assert read_image({"bytes": None, "path": str(tmp_path / "a.png")}) == b"content"
    for record in ({"bytes": None, "path": str(tmp_path / "b.png")}, {"bytes": None, "path": None}):
        with pytest.raises(ImageError, match="image_missing"):
            read_image(record)


def test_only_regular_files_of_some_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for name, reason in (
        ("pipe.jpg", "image_unreadable"),
        ("device.jpg", "image_unreadable"),
        ("sparse.jpg", "image_too_large"),
        (".", "image_missing"),
        ("none.jpg", "image_missing"),
        ("nu\0l.jpg", "image_missing"),
    ):
        with pytest.raises(ImageError) as refused:
            read_image({"bytes": None, "path": f"{tmp_path}/{name}"})
        assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("caption", "allowed"),
    [("a dog on the left", False), ("Right of a tree", False), ("bright leftovers", True), ("a red bus", True)],
)
def test_pictures_whose_captions_name_a_side_are_not_mirrored(caption: str, allowed: bool) -> None:
    assert may_mirror(["a picture", caption]) is allowed
