"""Files of an export: images under the names of their source, and JSON written element by element."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

SUFFIXES = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG": "png",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
}
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f:*?"<>|]')  # by Windows, or by nobody's wish

encode = json.JSONEncoder(ensure_ascii=False).encode


def suffix_of(data: bytes) -> str:
    """The usual suffix of an image file's format, told by its first bytes."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((suffix for start, suffix in SUFFIXES.items() if data.startswith(start)), "jpg")


def save_image(folder: Path, row: Mapping[str, Any]) -> str:
    """Writes a row's image below ``folder`` under the name that its source gives it, and returns that name, folders and
    all; without its bytes only the name.

    Where two images are called the same, the later one has its id in its name. No name leads out of ``folder``.
    """
    data = (row["image"] or {}).get("bytes")
    if data is None:
        return str(row["name"] or row["image_id"])
    own, image_id = file_name(row["name"] or "", data), row["image_id"]
    plain = f"{image_id}.{suffix_of(data)}"
    stem, dot, suffix = own.rpartition(".")
    names = [own, f"{stem}-{image_id}{dot}{suffix}", plain] if row["name"] else [plain]
    for name in names:
        try:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("xb") as file:
                file.write(data)
            return name
        except OSError:  # it is taken, or longer than a name may be
            if name == plain:
                raise
    raise AssertionError("the last name returns or raises")


def file_name(name: str, data: bytes) -> str:
    """A source's name for an image as a path that every file system takes, with the suffix of an image."""
    parts = [_FORBIDDEN.sub("_", part).strip() for part in name.replace("\\", "/").split("/")]
    path = "/".join(part for part in parts if part.strip("."))
    if path.rpartition(".")[2].lower() in (*SUFFIXES.values(), "jpeg", "webp", "tif"):
        return path
    return f"{path}.{suffix_of(data)}"


class JsonArray:
    """A JSON file that ends in a long array, written element by element: ``head`` are the keys before it."""

    def __init__(self, path: Path, name: str = "", head: Mapping[str, Any] | None = None) -> None:
        self.file: TextIO = path.open("w", encoding="utf-8")
        self.named = bool(name)
        self.count = 0
        if name:
            text = encode(dict(head or {}))[:-1]
            self.file.write(f"{text}{', ' if head else ''}{json.dumps(name)}: ")
        self.file.write("[")

    def add(self, element: Any) -> None:
        """Writes one more element, on a line of its own."""
        self.file.write((",\n" if self.count else "\n") + encode(element))
        self.count += 1

    def close(self) -> None:
        """Ends the array and the file."""
        self.file.write("\n]" + ("}\n" if self.named else "\n"))
        self.file.close()
