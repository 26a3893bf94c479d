"""A CSV, a line a caption, with a folder of images: what a spreadsheet opens, and what `ingest` reads as `csv:`.

A picture without captions has one line with an empty one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from storage.spreadsheets import SheetWriter
from tasks.exports.export import Export
from tasks.exports.request import Request
from tasks.exports.writing.files import save_image

COLUMNS = ("image", "caption", "split", "url", "licence", "image_id", "width", "height", "tags", "added")
SEPARATOR = "; "


class CsvExport(Export):
    """A CSV, a line a caption, and the folder of images.

    ``tags`` are those of the image, ``added`` those of them that no caption of it names.
    """

    kind: Literal["csv"] = "csv"

    def write(self, request: Request) -> Mapping[str, int]:
        """``captions.csv`` and ``images/``; returns the images of each split."""
        written: dict[str, int] = {}
        extra = request.extra_names(COLUMNS)
        with (request.folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
            writer = SheetWriter(file, [*COLUMNS, *extra.values()])
            for row in request.rows():
                line = {name: row[name] for name in ("split", "url", "licence", "image_id", "width", "height")}
                line["image"] = save_image(request.folder / "images", row)
                line["tags"] = SEPARATOR.join(tag["name"] for tag in row["tags"])
                line["added"] = SEPARATOR.join(tag["name"] for tag in row["tags"] if "caption" not in tag["sources"])
                line |= {column: row["extra"].get(name) for name, column in extra.items()}
                for caption in row["captions"] or [""]:
                    writer.write({**line, "caption": caption})
                written[row["split"]] = written.get(row["split"], 0) + 1
        return written
