"""A person's own labels: an `image,tag` CSV, a row a tag, and a folder of images. They train nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from pydantic import Field

from storage.schemas import DESCRIBED, OF_IMAGE
from tasks.settings.base import PathName
from tasks.sources.fitness import Problem
from tasks.sources.item import SourceItem
from tasks.sources.reading.csv_rows import CsvFile, CsvRow
from tasks.sources.source import ImagesFolder, Limit, Source

SPLITS = ("", "calibrate", "test")  # what labels are for
TYPES = ("", "object", "scene", "attribute", "action")
YES, NO = ("yes", "true", "1"), ("", "no", "false", "0")


class LabelsSource(Source):
    """Labels of your own, `image,tag` a line, which calibrate and test, and train nothing.

    The columns `type`, `split` (calibrate or test) and `described` are read where they are there. ``described`` is yes
    where the image's rows together name everything that it shows: what they leave out is not there then. An image that
    shows nothing has a row with an empty tag.
    """

    held_out: ClassVar[bool] = True
    kind: Literal["labels"] = "labels"
    path: PathName = Field(description="The CSV file; a column `described` says yes where tags are all there is.")
    images: ImagesFolder = ""
    limit: Limit = 0

    def items(self) -> Iterator[SourceItem]:
        """One item an image, with the tags of all its rows."""
        table = CsvFile(self.path, ("image", "tag"), self.images)
        for rows in table.by_image(_misfit, self.limit):
            image = _Image()
            for row in rows:
                image.add(row)
            ready_tags = ((DESCRIBED if image.described else OF_IMAGE, tuple(image.tags)),)
            yield replace(table.item(rows), split=image.split, ready_tags=ready_tags)
        yield from table.problems()


@dataclass
class _Image:
    """What the rows of an image say."""

    tags: dict[tuple[str, str], None] = field(default_factory=dict)
    split: str = ""
    described: bool = False

    def add(self, row: CsvRow) -> None:
        if row.text("tag"):
            self.tags[row.text("tag"), row.text("type")] = None
        self.split = row.text("split") or self.split
        self.described |= row.text("described").lower() in YES


def _misfit(row: CsvRow) -> Problem | None:
    described = row.text("described")
    if row.text("split") not in SPLITS:
        return "unknown_split", f"split '{row.text('split')}' is none of {', '.join(SPLITS[1:])}: labels train nothing"
    if row.text("type") not in TYPES:
        return "unknown_type", f"type '{row.text('type')}' is none of {', '.join(TYPES[1:])}"
    if described.lower() not in (*YES, *NO):
        return "unknown_mark", f"described is '{described}', which is neither yes nor no"
    if not row.text("tag") and described.lower() not in YES:
        return "row_without_tag", "the row has no tag, and does not say that its image is described"
    return None
