"""A CSV whose rows each say something of an image that lies in a folder: rows with their places, unfit ones apart."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, zip_longest
from pathlib import Path
from typing import IO

from storage.spreadsheets import text_of
from tasks.sources.fitness import ROW_BYTES, Problem
from tasks.sources.item import SourceError, SourceItem, file_version, images_folder, inside_of
from tasks.sources.temporary import temporary_database

NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what such bytes come through as
csv.field_size_limit(ROW_BYTES)  # the library's own is an eighth of it, and holds for all of its readers
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
        self.names: list[str] = []
        _, header = next(self._records(), (0, []))
        if isinstance(header, tuple) or NOT_UTF8.search("".join(header)):
            raise SourceError(f"the first line of {path} cannot be read: it must name the columns, in UTF-8")
        self.names = [text_of(name) for name in header]
        if missing := set(needed) - set(self.names):
            raise SourceError(
                f"{path} has the columns {self.names} and lacks {sorted(missing)}: "
                f"the first line must name them, as in `{','.join(needed)}`"
            )

    def by_image(self, misfit: Callable[[CsvRow], Problem | None], limit: int = 0) -> Iterator[list[CsvRow]]:
        """The rows that fit, in the order of the file, of each of the first ``limit`` images (0: all).

        ``misfit`` says what is wrong with a row beside what is wrong in any CSV.
        """
        for row, malformed in self._rows():
            if problem := malformed or self._misfit(row) or misfit(row):
                name = self._where(row.line) if malformed else row.image.encode("utf-8", "backslashreplace").decode()
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

    def _rows(self) -> Iterator[tuple[CsvRow, Problem | None]]:
        """The rows below the header, and what is wrong with those that have no cells for it."""
        for line, record in islice(self._records(), 1, None):
            if isinstance(record, tuple):
                yield CsvRow(line, {}), record
            elif record:
                texts = map(text_of, record[: len(self.names)])
                yield CsvRow(line, dict(zip_longest(self.names, texts, fillvalue=""))), None

    def _records(self) -> Iterator[tuple[int, list[str] | Problem]]:
        """The cells of each record, or what is wrong with it, with the line that it ends at.

        A quote that is not closed makes one cell of the lines that follow, up to the next quote. Where that shows, the
        line with the quote is unfit alone, and those in between are read each by itself: once, however many there are.
        """
        # Bytes that are not UTF-8 come through as surrogates, so that they cost one row and not the file.
        with self.file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            lines, line = _Lines(stream), 0
            reader = csv.reader(lines, strict=True)
            while True:
                lines.begin()
                try:
                    record = next(reader)
                    whole = len(lines.taken) == 1 or self._is_one(record, lines.taken[1:])
                except StopIteration:
                    return
                except csv.Error:
                    whole = False
                if whole:
                    line += len(lines.taken)
                    yield line, record
                    continue
                first, *others = lines.taken
                lines.again += others[-1:]
                for alone in (first, *others[:-1]):
                    line += 1
                    yield line, _by_itself(alone)

    def _is_one(self, record: Sequence[str], within: Iterable[str]) -> bool:
        """Whether a record of several lines is a row: it has no more cells than columns, and none of the lines
        ``within`` is a row by itself, with an image that is there."""
        if self.names and any(record[len(self.names) :]):
            return False
        for cells in map(_by_itself, within):
            if isinstance(cells, list) and len(cells) == len(self.names):
                name = text_of(dict(zip(self.names, cells, strict=True)).get("image", "")).strip()
                if name and self._holds(name) and os.path.isfile(self.folder / name):
                    return False
        return True

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


class _Lines:
    """The lines of a stream: those ``taken`` since the last begin, and those that are to come ``again``.

    Raises csv.Error where they have more than ROW_BYTES characters together. A line that has more by itself is cut.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._length = stream, 0
        self.taken: list[str] = []
        self.again: list[str] = []

    def begin(self) -> None:
        """Forgets what was taken."""
        self.taken.clear()
        self._length = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.again.pop() if self.again else self._read()
        if not line:
            raise StopIteration
        self.taken.append(line)
        self._length += len(line)
        if self._length > ROW_BYTES:
            raise csv.Error("the row is too long")
        return line

    def _read(self) -> str:
        line = part = self._stream.readline(ROW_BYTES + 1)
        while len(part) > ROW_BYTES and not part.endswith(("\n", "\r")):
            part = self._stream.readline(ROW_BYTES + 1)
        return line


def _by_itself(line: str) -> list[str] | Problem:
    """The cells of a line that is a record alone, or what is wrong with it. Text that follows a quote is taken."""
    if len(line) > ROW_BYTES:
        return "too_large", f"the line has more than {ROW_BYTES:,} characters"
    reader = csv.reader([line, "\n"])
    try:
        cells = next(reader)
    except csv.Error as error:
        return "row_malformed", f"the line cannot be read: {error}"
    if reader.line_num > 1:
        return "row_malformed", "the line opens a quote that is not closed where the row ends"
    return cells
