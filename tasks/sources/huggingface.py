"""Parquet files of a Hugging Face data set that lie in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from tasks.settings.base import PathName
from tasks.sources.item import SourceItem
from tasks.sources.reading import containers
from tasks.sources.reading.columns import Columns
from tasks.sources.source import KeptColumns, Limit, Source


class HuggingFaceSource(Source):
    """Parquet files of a Hugging Face data set, with a column of images and one or several of captions."""

    kind: Literal["huggingface"] = "huggingface"
    path: PathName = Field(description="The folder, or one of its Parquet files.")
    image: str = Field("", description="The column of images; empty: it is told by its name.")
    captions: tuple[str, ...] = Field((), description="Columns of captions, or of lists of them; empty: by name.")
    tags: str = Field("", description="A column of lists of tags: those of the image beside its captions'.")
    columns: KeptColumns = ()
    limit: Limit = 0

    def items(self) -> list[SourceItem]:
        """The files."""
        return containers.list_folder(self.path, self.named_columns())

    def divide(self, file: SourceItem) -> Iterator[SourceItem]:
        """The pieces of a Parquet file."""
        return containers.divide(file)

    def read(self, item: SourceItem) -> Iterator[SourceItem]:
        """The rows of a piece."""
        return containers.read(item, self.named_columns())

    def named_columns(self) -> Columns:
        """Which columns are what."""
        return Columns(self.captions, self.image, self.tags, self.columns)
