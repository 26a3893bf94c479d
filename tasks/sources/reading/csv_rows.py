"""A CSV whose rows each say something of an image that lies in a folder: rows with their places, unfit ones apart."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

from storage.spreadsheets import text_of
from tasks.sources.item import SourceError, SourceItem, file_version, images_folder, inside_of
from tasks.sources.temporary import temporary_database

Problem = tuple[str, str]  # a reason and a sentence
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what such bytes come through as
BY_IMAGE = "SELECT image, line, cells, min(line) OVER (PARTITION BY image) AS first FROM fit ORDER BY first, line"


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
    """A CSV of images, whose rows are sorted in a temporary database.

    ``needed`` are the columns that it must have. Raises :class:`~tasks.sources.item.SourceError` where the file, the
    columns or the folder of images are missing.
    """

    def __init__(self, path: str, needed: tuple[str, ...], images: str) -> None:
        self.file = Path(path)
        if not self.file.is_file():
            raise SourceError(f"the CSV file {path} does not exist")
        self.folder = images_folder(self.file, images)
        self._holds = inside_of(self.folder)
        self._database = temporary_database(
            "fit (image TEXT, line INTEGER, cells TEXT)",
            "unfit (name TEXT, line INTEGER, reason TEXT, detail TEXT)",
        )
        # Bytes that are not UTF-8 come through as surrogates, so that they cost one row and not the file.
        with self.file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            self.names = [text_of(name) for name in csv.DictReader(stream).fieldnames or ()]
        if missing := set(needed) - set(self.names):
            raise SourceError(
                f"{path} has the columns {self.names} and lacks {sorted(missing)}: "
                f"the first line must name them, as in `{','.join(needed)}`"
            )

    def by_image(self, misfit: Callable[[CsvRow], Problem | None], limit: int = 0) -> Iterator[list[CsvRow]]:
        """The rows that fit, in the order of the file, of each of the first ``limit`` images (0: all).

        ``misfit`` says what is wrong with a row beside what is wrong in any CSV.
        """
        for row in self._rows():
            if problem := self._misfit(row) or misfit(row):
                name = row.image.encode("utf-8", "backslashreplace").decode()
                self._database.execute("INSERT INTO unfit VALUES (?, ?, ?, ?)", (name, row.line, *problem))
            else:
                fit = (row.image, row.line, json.dumps(row.cells))
                self._database.execute("INSERT INTO fit VALUES (?, ?, ?)", fit)
        rows_by_image = groupby(self._database.execute(BY_IMAGE), lambda row: row[0])
        for _, rows in islice(rows_by_image, limit or None):
            yield [CsvRow(line, json.loads(cells)) for _, line, cells, _ in rows]

    def item(self, rows: Sequence[CsvRow]) -> SourceItem:
        """The image of some rows, without what they say of it."""
        name = rows[0].image
        file = self.folder / name
        return SourceItem(name, self._where(rows[0].line), path=str(file), version=file_version(file))

    def problems(self) -> Iterator[SourceItem]:
        """The rows that :meth:`by_image` found unfit."""
        for name, line, *problem in self._database.execute("SELECT * FROM unfit ORDER BY line"):
            yield SourceItem(name, self._where(line), problem=(problem[0], problem[1]))

    def _rows(self) -> Iterator[CsvRow]:
        with self.file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            reader = csv.DictReader(stream)
            for cells in reader:
                texts = {text_of(name): text_of(cell or "") for name, cell in cells.items() if name is not None}
                yield CsvRow(reader.line_num, texts)

    def _where(self, line: int) -> str:
        """A line as people are told of it."""
        return f"{self.file.name} line {line}"

    def _misfit(self, row: CsvRow) -> Problem | None:
        if any(NOT_UTF8.search(cell) for cell in row.cells.values()):
            return "not_utf8", "the row holds bytes that are not UTF-8: save the CSV as UTF-8"
        if not row.image:
            return "row_without_image", "the row names no image"
        if not self._holds(row.image):
            return "image_outside_folder", "the name leads out of the folder of images"
        return None
