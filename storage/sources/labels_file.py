"""A person's own labels: an `image,tag` CSV, a row a tag, and a folder of images. They train nothing."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

from storage.sources.item import DESCRIBED, OF_IMAGE, SourceError, SourceItem, file_version, images_folder, inside

SPLITS = ("", "calibrate", "test")  # what labels are for
TYPES = ("", "object", "scene", "attribute", "action")
YES, NO = ("yes", "true", "1"), ("", "no", "false", "0")


@dataclass
class _Rows:
    line: int
    tags: dict[tuple[str, str], None] = field(default_factory=dict)
    split: str = ""
    described: bool = False


def list_labels(path: str, images: str = "", limit: int = 0) -> list[SourceItem]:
    """One item an image with the tags of all its rows; unfit rows are items with a ``problem``.

    The columns `type`, `split` (calibrate or test) and `described` are read where they are there. ``described`` is yes
    where the image's rows together name everything that it shows: what they leave out is not there then. An image that
    shows nothing has a row with an empty tag. Raises :class:`SourceError` where the file or its columns are missing.
    """
    file = Path(path)
    if not file.is_file():
        raise SourceError(f"the CSV file of labels {path} does not exist")
    folder = images_folder(file, images)
    rows: dict[str, _Rows] = {}
    problems: list[SourceItem] = []
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        reader = csv.DictReader(stream)
        missing = {"image", "tag"} - set(reader.fieldnames or ())
        if missing:
            raise SourceError(
                f"{path} has the columns {reader.fieldnames or []} and lacks {sorted(missing)}: "
                "the first line must name them, as in `image,tag`"
            )
        for row in reader:
            cells = {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}
            name = cells["image"]
            if problem := _problem(cells, folder):
                clean = name.encode("utf-8", "backslashreplace").decode()
                problems.append(SourceItem(clean, f"{file.name} line {reader.line_num}", problem=problem))
                continue
            if name not in rows:
                if limit and len(rows) == limit:
                    continue
                rows[name] = _Rows(reader.line_num)
            entry = rows[name]
            if cells["tag"]:
                entry.tags[cells["tag"], cells.get("type", "")] = None
            entry.split = cells.get("split") or entry.split
            entry.described |= cells.get("described", "").lower() in YES
    return [_item(name, entry, file, folder) for name, entry in rows.items()] + problems


def _problem(cells: dict[str, str], folder: Path) -> tuple[str, str] | None:
    """What is wrong with a row: a reason and a sentence."""
    described = cells.get("described", "")
    if any("\udc80" <= character <= "\udcff" for value in cells.values() for character in value):
        return "not_utf8", "the row holds bytes that are not UTF-8: save the CSV as UTF-8"
    if not cells["image"]:
        return "row_without_image", "the row names no image"
    if not inside(folder, cells["image"]):
        return "image_outside_folder", "the name leads out of the folder of images"
    if cells.get("split", "") not in SPLITS:
        return "unknown_split", f"split '{cells['split']}' is none of {', '.join(SPLITS[1:])}: labels train nothing"
    if cells.get("type", "") not in TYPES:
        return "unknown_type", f"type '{cells['type']}' is none of {', '.join(TYPES[1:])}"
    if described.lower() not in (*YES, *NO):
        return "unknown_mark", f"described is '{described}', which is neither yes nor no"
    if not cells["tag"] and described.lower() not in YES:
        return "row_without_tag", "the row has no tag, and does not say that its image is described"
    return None


def _item(name: str, entry: _Rows, file: Path, folder: Path) -> SourceItem:
    return SourceItem(
        name=name,
        where=f"{file.name} line {entry.line}",
        split=entry.split,
        path=str(folder / name),
        version=file_version(folder / name),
        ready_tags=((DESCRIBED if entry.described else OF_IMAGE, tuple(entry.tags)),),
    )
