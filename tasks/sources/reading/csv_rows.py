"""A CSV whose rows each say something of an image that lies in a folder: rows with their places, unfit ones apart."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.sources.item import SourceError, SourceItem, images_folder, inside

Problem = tuple[str, str]  # a reason and a sentence


@dataclass(frozen=True)
class CsvRow:
    """A row: the ``line`` that it ends at, and its ``cells`` by column, "" where it breaks off before."""

    line: int
    cells: Mapping[str, str]

    def text(self, column: str) -> str:
        """The cell without the spaces around it; "" where there is no such column."""
        return self.cells.get(column, "").strip()

    @property
    def image(self) -> str:
        """The name of its image within the folder."""
        return self.text("image")


class CsvFile:
    """A CSV of images. ``problems`` are the rows that did not fit, as :meth:`rows` found them.

    ``needed`` are the columns that it must have. Raises :class:`~tasks.sources.item.SourceError` where the file, the
    columns or the folder of images are missing.
    """

    def __init__(self, path: str, needed: tuple[str, ...], images: str) -> None:
        self.file = Path(path)
        if not self.file.is_file():
            raise SourceError(f"the CSV file {path} does not exist")
        self.folder = images_folder(self.file, images)
        self.problems: list[SourceItem] = []
        # Bytes that are not UTF-8 come through as surrogates, so that they cost one row and not the file.
        with self.file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            names = csv.DictReader(stream).fieldnames or []
        if missing := set(needed) - set(names):
            raise SourceError(
                f"{path} has the columns {list(names)} and lacks {sorted(missing)}: "
                f"the first line must name them, as in `{','.join(needed)}`"
            )

    def rows(self, misfit: Callable[[CsvRow], Problem | None], limit: int = 0) -> Iterator[CsvRow]:
        """The rows that fit, of the first ``limit`` images (0: all); ``misfit`` says what else is wrong with a row."""
        images: set[str] = set()
        with self.file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            reader = csv.DictReader(stream)
            for cells in reader:
                row = CsvRow(reader.line_num, {name: value or "" for name, value in cells.items() if name is not None})
                if problem := self._misfit(row) or misfit(row):
                    name = row.image.encode("utf-8", "backslashreplace").decode()
                    self.problems.append(SourceItem(name, self.where(row.line), problem=problem))
                elif row.image in images or not limit or len(images) < limit:
                    images.add(row.image)
                    yield row

    def where(self, line: int) -> str:
        """A line as people are told of it."""
        return f"{self.file.name} line {line}"

    def _misfit(self, row: CsvRow) -> Problem | None:
        if any("\udc80" <= character <= "\udcff" for cell in row.cells.values() for character in cell):
            return "not_utf8", "the row holds bytes that are not UTF-8: save the CSV as UTF-8"
        if not row.image:
            return "row_without_image", "the row names no image"
        if not inside(self.folder, row.image):
            return "image_outside_folder", "the name leads out of the folder of images"
        return None
