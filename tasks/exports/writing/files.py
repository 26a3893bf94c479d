"""Files of an export: images under the names of their source, and JSON written element by element."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from storage.json_text import to_json
from storage.printable import OBEYED

SUFFIXES = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG": "png",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
}
_FORBIDDEN = re.compile(r'[\t\n:*?"<>|]')  # by Windows, or by nobody's wish
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # devices of Windows, with any suffix

encode = to_json


def suffix_of(data: bytes) -> str:
    """The usual suffix of an image file's format, told by its first bytes."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((suffix for start, suffix in SUFFIXES.items() if data.startswith(start)), "jpg")


def save_image(folder: Path, row: Mapping[str, Any]) -> str:
    """Writes a row's image below ``folder`` under the name that its source gives it, and returns that name, folders and
    all; without its bytes only the name.

    Where two images are called the same, or differ in upper and lower case alone, the later one has its id in its name.
    No name leads out of ``folder``.
    """
    data = (row["image"] or {}).get("bytes")
    if data is None:
        return str(row["name"] or row["image_id"])
    own, image_id, taken = file_name(row["name"] or "", data), row["image_id"], _taken(folder)
    plain = f"{image_id}.{suffix_of(data)}"
    stem, dot, suffix = own.rpartition(".")
    names = [own, f"{stem}-{image_id}{dot}{suffix}", plain] if own else [plain]
    for name in names:
        if _folded(name) in taken and name != plain:
            continue
        try:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("xb") as file:
                file.write(data)
            taken.add(_folded(name))
            return name
        except OSError:  # it is taken, or longer than a name may be
            if name == plain:
                raise
    raise AssertionError("the last name returns or raises")


def file_name(name: str, data: bytes) -> str:
    """A source's name for an image as a path that every file system takes, with an image's suffix; "" where nothing is
    left of it."""
    parts = [_FORBIDDEN.sub("_", OBEYED.sub("_", part)).strip() for part in name.replace("\\", "/").split("/")]
    path = "/".join(_RESERVED.sub(r"_\g<0>", part.rstrip(". ")) for part in parts if part.strip(". "))
    if path.rpartition(".")[2].lower() in (*SUFFIXES.values(), "jpeg", "webp", "tif"):
        return path
    return path and f"{path}.{suffix_of(data)}"


@lru_cache(maxsize=1)
def _taken(folder: Path) -> set[int]:
    """The names of the files below ``folder``, as numbers: there may be millions."""
    return {_folded(path.relative_to(folder).as_posix()) for path in folder.rglob("*")}


def _folded(name: str) -> int:
    """Equal for names that some file systems take for the same."""
    return hash(unicodedata.normalize("NFC", name).casefold())


class JsonArray:
    """A JSON file that ends in a long array, written element by element: ``head`` are the keys before it."""

    def __init__(self, path: Path, name: str = "", head: Mapping[str, Any] | None = None) -> None:
        self.file: TextIO = path.open("w", encoding="utf-8")
        self.named = bool(name)
        self.count = 0
        if name:
            text = encode(dict(head or {}))[:-1]
            self.file.write(f"{text}{', ' if head else ''}{encode(name)}: ")
        self.file.write("[")

    def add(self, element: Any) -> None:
        """Writes one more element, on a line of its own."""
        self.file.write((",\n" if self.count else "\n") + encode(element))
        self.count += 1

    def close(self) -> None:
        """Ends the array and the file."""
        self.file.write("\n]" + ("}\n" if self.named else "\n"))
        self.file.close()
