"""An `image,caption` CSV (`split`, `url`, `licence` and other columns if there are any) and a folder of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import Field

from tasks.settings.base import PathName
from tasks.sources.fitness import Problem
from tasks.sources.item import SPLITS, SourceItem, extra_of
from tasks.sources.reading.csv_rows import CsvFile, CsvRow
from tasks.sources.source import ImagesFolder, Limit, Source

READ = frozenset(("image", "caption", "split", "url", "licence", "license", "image_id", "width", "height"))


class CsvSource(Source):
    """A CSV, `image,caption` a line, and a folder of images.

    The columns `split`, `url` and `licence` are read where they are there, and all others are kept.
    """

    kind: Literal["csv"] = "csv"
    path: PathName = Field(description="The CSV file.")
    images: ImagesFolder = ""
    limit: Limit = 0

    def items(self) -> Iterator[SourceItem]:
        """One item an image, with the captions of all its rows."""
        table = CsvFile(self.path, ("image", "caption"), self.images)
        for rows in table.by_image(_misfit, self.limit):
            image = _Image()
            for row in rows:
                image.add(row)
            yield replace(
                table.item(rows),
                captions=tuple(image.captions),
                split=image.split,
                url=image.url or None,
                licence=image.licence or None,
                extra=extra_of(image.extra),
            )
        yield from table.problems()


@dataclass
class _Image:
    """What the rows of an image say; of two that contradict each other the later one."""

    captions: list[str] = field(default_factory=list)
    split: str = ""
    url: str = ""
    licence: str = ""
    extra: dict[str, str] = field(default_factory=dict)

    def add(self, row: CsvRow) -> None:
        if row.text("caption"):
            self.captions.append(row.text("caption"))
        self.split = row.text("split") or self.split
        self.url = row.text("url") or self.url
        self.licence = row.text("licence") or row.text("license") or self.licence
        self.extra |= {column: value for column, value in row.cells.items() if column not in READ and value}


def _misfit(row: CsvRow) -> Problem | None:
    if row.text("split") not in SPLITS:
        return "unknown_split", f"split '{row.text('split')}' is none of {', '.join(SPLITS[1:])}"
    return None
