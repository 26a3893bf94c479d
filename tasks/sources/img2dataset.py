"""What img2dataset writes: WebDataset tars with their lists of what was fetched, or Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from tasks.settings.base import PathName
from tasks.sources.item import SourceItem
from tasks.sources.reading import containers
from tasks.sources.reading.columns import Columns
from tasks.sources.source import KeptColumns, Limit, Source


class Img2datasetSource(Source):
    """What img2dataset wrote (tars or Parquet), or any folder of WebDataset tars."""

    kind: Literal["img2dataset"] = "img2dataset"
    path: PathName = Field(description="The folder, or one of its files.")
    columns: KeptColumns = ()
    limit: Limit = 0

    def items(self) -> list[SourceItem]:
        """The files."""
        return containers.list_folder(self.path, Columns(kept=self.columns))

    def divide(self, file: SourceItem) -> Iterator[SourceItem]:
        """The pieces of a tar or of a Parquet file."""
        return containers.divide(file)

    def read(self, item: SourceItem) -> Iterator[SourceItem]:
        """The samples, or the rows, of a piece."""
        return containers.read(item, Columns(kept=self.columns))
