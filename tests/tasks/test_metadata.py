"""Image files without metadata: the same pixels, upright as before, and nothing else of what was in them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin

from tasks.images.decoding import decode_image
from tasks.images.metadata import without_metadata

SECRET = b"12 Acacia Avenue"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + SECRET + b"</x:xmpmeta>"


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8))


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[ExifTags.Base.Orientation] = orientation
    made[ExifTags.Base.Artist] = SECRET.decode()
    made.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (51.5, 0.0, 0.0)
    return made


def encoded(format_: str, orientation: int = 1, **options: object) -> bytes:
    buffer = io.BytesIO()
    noise().save(buffer, format_, exif=exif(orientation), **options)
    return buffer.getvalue()


def tainted(format_: str, orientation: int = 1) -> bytes:
    """A file with metadata in every place that its format has for it, and more after its end."""
    if format_ == "JPEG":
        data = encoded(format_, orientation, progressive=True, comment=SECRET, xmp=XMP, icc_profile=b"profile" * 9)
        segments = b"".join(
            b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content
            for marker, content in ((0xED, b"Photoshop 3.0\0" + SECRET), (0xE2, b"MPF\0" + SECRET), (0xEF, SECRET))
        )
        return data[:20] + segments + b"\0garbage\0" + data[20:] + SECRET
    if format_ == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("where", SECRET.decode())
        texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
        data = encoded(format_, orientation, pnginfo=texts, icc_profile=b"profile" * 9)
        own = b"prVt" + SECRET
        chunk = struct.pack(">I", len(SECRET)) + own + struct.pack(">I", zlib.crc32(own))
        return data[:-12] + chunk + data[-12:] + SECRET
    return encoded(format_, orientation, xmp=XMP, lossless=True, icc_profile=b"profile" * 9) + SECRET


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_pixels_colours_and_orientation_stay_and_all_else_goes(format_: str, orientation: int) -> None:
    data = tainted(format_, orientation)
    assert SECRET in data
    bare = without_metadata(data)
    assert SECRET not in bare
    assert b"GPS" not in bare
    assert np.array_equal(decode_image(bare), decode_image(data))
    opened = Image.open(io.BytesIO(bare))
    assert opened.format == format_
    assert opened.info.get("icc_profile") == b"profile" * 9
    assert dict(opened.getexif()) == ({} if orientation == 1 else {int(ExifTags.Base.Orientation): orientation})
    assert without_metadata(bare) == bare


@pytest.mark.parametrize("format_", ["TIFF", "GIF", "BMP"])
def test_other_formats_become_png(format_: str) -> None:
    buffer = io.BytesIO()
    options = {"comment": SECRET} if format_ == "GIF" else {"exif": exif(6)} if format_ == "TIFF" else {}
    noise().save(buffer, format_, **options)
    bare = without_metadata(buffer.getvalue())
    assert bare.startswith(b"\x89PNG")
    assert SECRET not in bare
    assert np.array_equal(decode_image(bare), decode_image(buffer.getvalue()))


@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.data())
def test_no_damage_makes_it_fail_or_run_for_ever(format_: str, data: st.DataObject) -> None:
    file = bytearray(tainted(format_, 6))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(12, len(file) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(file[: data.draw(st.integers(12, len(file)))])
    assert len(without_metadata(cut)) <= len(cut) + 64
