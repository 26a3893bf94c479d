"""What every export gets: rows that are joined already, the tags that they name, and the folder to write into."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa

from storage.schemas import IMAGE

TAG = pa.struct(
    [
        ("tag_id", pa.int32()),
        ("name", pa.string()),
        ("type", pa.string()),
        ("sources", pa.list_(pa.string())),  # caption, generated, predicted, hand: who said it
        ("score", pa.float32()),  # the annotator's probability, null before there is one
    ]
)
REGION = pa.struct(
    [
        ("tag_id", pa.int32()),
        ("name", pa.string()),
        ("box", pa.list_(pa.float32(), 4)),  # x0, y0, x1, y1 in shares of the picture's width and height
        ("score", pa.float32()),
    ]
)
ROWS = pa.schema(
    [
        ("image_id", pa.string()),
        ("image", IMAGE),  # null where images are left out
        ("captions", pa.list_(pa.string())),
        ("generated_captions", pa.list_(pa.string())),
        ("split", pa.string()),
        ("sources", pa.list_(pa.string())),
        ("name", pa.string()),  # what the source calls it
        ("url", pa.string()),
        ("licence", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("extra", pa.string()),  # the source's other columns, a JSON object
        ("tags", pa.list_(TAG)),
        ("caption_tags", pa.list_(pa.list_(pa.int32()))),  # the ids of tags that each caption names
        ("regions", pa.list_(REGION)),
    ]
)
CHANGES = pa.schema(
    [
        ("image_id", pa.string()),
        ("sha256", pa.string()),
        ("name", pa.string()),
        ("url", pa.string()),
        ("split", pa.string()),
        ("change", pa.string()),  # added, removed or changed
        ("tag", pa.string()),
        ("type", pa.string()),
        ("before", pa.string()),  # changed: the word of the caption
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("score", pa.float32()),
    ]
)
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


class ExportError(ValueError):
    """An export that cannot be made as asked; the message says what to do."""


@dataclass(frozen=True)
class ExportedTag:
    """An active tag of the label system; ``threshold`` is the best model's, 0..1."""

    tag_id: int
    name: str
    type: str
    threshold: float


@dataclass(frozen=True)
class Request:
    """One export. ``tables`` yields tables of :data:`ROWS` (of :data:`CHANGES` for a diff), once.

    ``extra`` are the types of the source's other columns; ``card`` is the data set's README,
    ``name`` what it is called.
    """

    folder: Path
    tables: Iterable[pa.Table]
    tags: Sequence[ExportedTag]
    extra: Mapping[str, pa.DataType] = field(default_factory=dict)
    card: str = ""
    images: bool = True
    name: str = "ram-engine"

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows one by one, ``extra`` as a dictionary."""
        for table in self.tables:
            for row in table.to_pylist():
                yield {**row, "extra": json.loads(row["extra"] or "{}")}

    def write_card(self) -> None:
        """Writes ``README.md``."""
        (self.folder / "README.md").write_text(self.card, encoding="utf-8")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


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
