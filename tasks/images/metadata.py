"""Image files without what they tell beside the picture: place, camera, time, names, comments, thumbnails.

Of JPEG, PNG and WebP the pixels stay as they are encoded: only what a decoder needs of the file is copied, colour
profiles among it, whatever else there is and whatever follows the picture's end is left out. The orientation stays, as
the only entry of new EXIF data. Other formats become PNG with the pixels of their first picture.
"""

from __future__ import annotations

import contextlib
import io
import re
import struct
import zlib
from collections.abc import Iterator

from PIL import ExifTags, Image

from tasks.images.decoding import decode_image

ANY_SIZE = 2**40  # pixels: it was checked when it came
PNG = b"\x89PNG\r\n\x1a\n"
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in coded pixels FF is followed by 0 or by a restart
_ADOBE, _ICC = b"Adobe", b"ICC_PROFILE\0"
_PNG_KEPT = {
    *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"mDCV", b"cLLI"),
    *(b"sBIT", b"bKGD", b"pHYs", b"acTL", b"fcTL", b"fdAT"),
}
_WEBP_KEPT = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP"}
_WEBP_EXIF, _WEBP_XMP = 0x08, 0x04  # flags of VP8X


def without_metadata(data: bytes) -> bytes:
    """The file without metadata. Raises :class:`~tasks.images.decoding.ImageError` for other formats that do not
    decode."""
    if data.startswith(b"\xff\xd8"):
        return b"".join(_jpeg(data, _orientation(data)))
    if data.startswith(PNG):
        return b"".join(_png(data, _orientation(data)))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data, _orientation(data))
    buffer = io.BytesIO()
    decode_image(data, ANY_SIZE).save(buffer, "PNG")
    return buffer.getvalue()


def _orientation(data: bytes) -> int:
    """How the picture is to be turned, 1 to 8, as the decoder reads it from EXIF or XMP; 1: it stands upright."""
    with contextlib.suppress(Exception):  # damaged EXIF data turns nothing when the picture is decoded either
        value: int = Image.open(io.BytesIO(data)).getexif().get(ExifTags.Base.Orientation, 1)
        return value if value in range(2, 9) else 1
    return 1


def _exif(orientation: int) -> bytes:
    """EXIF data (a TIFF directory) with the orientation as its only entry."""
    return b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, ExifTags.Base.Orientation, 3, 1, orientation, 0, 0)


def _jpeg(data: bytes, orientation: int) -> Iterator[bytes]:
    """The start, then the segments that decoding needs, up to the end of the picture."""
    yield data[:2]
    exif = b"Exif\0\0" + _exif(orientation)
    about = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif if orientation != 1 else b""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        marker = data[at + 1]
        if marker in (0x00, 0xFF) or 0xD0 <= marker <= 0xD8 or marker == 0x01:  # filling, or nothing that has a length
            at += 1
            continue
        if marker == 0xD9:
            break
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        content = data[at + 4 : end]
        if marker != 0xE0 and about:
            yield about
            about = b""
        if marker == 0xDA:
            found = _MARKER_IN_SCAN.search(data, end)
            end = found.start() if found else len(data)
        if marker == 0xE0 and content.startswith(b"JFIF\0"):
            yield data[at : at + 2] + b"\0\x10" + content[:12] + b"\0\0"  # without its thumbnail
        elif _is_needed(marker, content):
            yield data[at:end]
        at = end
    yield b"\xff\xd9"


def _is_needed(marker: int, content: bytes) -> bool:
    if marker == 0xE2:
        return content.startswith(_ICC)
    if marker == 0xEE:
        return content.startswith(_ADOBE)  # says how colours are coded
    return not 0xE0 <= marker <= 0xEF and marker != 0xFE


def _png(data: bytes, orientation: int) -> Iterator[bytes]:
    yield PNG
    at = len(PNG)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if name == b"IDAT" and orientation != 1:
            exif = b"eXIf" + _exif(orientation)
            yield struct.pack(">I", len(exif) - 4) + exif + struct.pack(">I", zlib.crc32(exif))
            orientation = 1
        if name in _PNG_KEPT:
            yield data[at : at + 12 + length]
        at += 12 + length
        if name == b"IEND":
            break


def _webp(data: bytes, orientation: int) -> bytes:
    chunks: list[bytes] = []
    at, end = 12, min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    while at + 8 <= end:
        name, length = struct.unpack_from("<4sI", data, at)
        chunk = data[at : at + 8 + length]
        if name == b"VP8X" and len(chunk) > 8:
            flags = chunk[8] & ~(_WEBP_EXIF | _WEBP_XMP) | (_WEBP_EXIF if orientation != 1 else 0)
            chunk = chunk[:8] + bytes([flags]) + chunk[9:]
        if name in _WEBP_KEPT:
            chunks.append(chunk + b"\0" * (length % 2))
        at += 8 + length + length % 2
    if orientation != 1:
        exif = _exif(orientation)
        chunks.append(struct.pack("<4sI", b"EXIF", len(exif)) + exif)
    content = b"WEBP" + b"".join(chunks)
    return struct.pack("<4sI", b"RIFF", len(content)) + content
