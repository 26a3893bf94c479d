"""An `image,caption` CSV (`split`, `url`, `licence` and other columns if there are any) and a folder of images."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

from storage.sources.item import SPLITS, SourceError, SourceItem, extra_of, file_version, images_folder, inside

READ = frozenset(("image", "caption", "split", "url", "licence", "license", "image_id", "width", "height"))


@dataclass
class _Rows:
    line: int
    captions: list[str] = field(default_factory=list)
    split: str = ""
    url: str | None = None
    licence: str | None = None
    extra: dict[str, str] = field(default_factory=dict)


def list_csv(path: str, images: str = "", limit: int = 0) -> list[SourceItem]:
    """One item an image, with the captions of all its rows; unfit rows are items with a ``problem``.

    Raises :class:`SourceError` where the file or its columns are missing.
    """
    file = Path(path)
    if not file.is_file():
        raise SourceError(f"the CSV file {path} does not exist")
    folder = images_folder(file, images)
    problems: list[SourceItem] = []
    rows: dict[str, _Rows] = {}

    def reject(line: int, name: str, reason: str, sentence: str) -> None:
        where = f"{file.name} line {line}"
        clean = name.encode("utf-8", "backslashreplace").decode()
        problems.append(SourceItem(clean, where, problem=(reason, sentence)))

    # Bytes that are not UTF-8 come through as surrogates, so that they cost one row and not the file.
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        reader = csv.DictReader(stream)
        missing = {"image", "caption"} - set(reader.fieldnames or ())
        if missing:
            raise SourceError(
                f"{path} has the columns {reader.fieldnames or []} and lacks {sorted(missing)}: "
                "the first line must name them, as in `image,caption`"
            )
        for row in reader:
            line = reader.line_num
            name, caption = (row["image"] or "").strip(), (row["caption"] or "").strip()
            text = "".join(value for value in row.values() if isinstance(value, str))
            if any("\udc80" <= character <= "\udcff" for character in text):
                reject(line, name, "not_utf8", "the row holds bytes that are not UTF-8: save the CSV as UTF-8")
            elif not name:
                reject(line, name, "row_without_image", "the row names no image")
            elif not caption:
                reject(line, name, "row_without_caption", "the row has no caption")
            elif not inside(folder, name):
                reject(line, name, "image_outside_folder", "the name leads out of the folder of images")
            elif (row.get("split") or "") not in SPLITS:
                reject(line, name, "unknown_split", f"split '{row['split']}' is none of {', '.join(SPLITS[1:])}")
            else:
                if name not in rows:
                    if limit and len(rows) == limit:
                        continue
                    rows[name] = _Rows(line)
                entry = rows[name]
                entry.captions.append(caption)
                entry.split = row.get("split") or entry.split
                entry.url = row.get("url") or entry.url
                entry.licence = row.get("licence") or row.get("license") or entry.licence
                others = {column: value for column, value in row.items() if column not in READ and value}
                entry.extra |= {column: value for column, value in others.items() if isinstance(value, str)}

    items = [
        SourceItem(
            name=name,
            where=f"{file.name} line {entry.line}",
            captions=tuple(entry.captions),
            split=entry.split,
            path=str(folder / name),
            version=file_version(folder / name),
            url=entry.url,
            licence=entry.licence,
            extra=extra_of(entry.extra),
        )
        for name, entry in rows.items()
    ]
    return items + problems
