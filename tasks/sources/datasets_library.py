"""Data sets by name, through the library `datasets` where it is installed and the network, or its cache, has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks.sources.huggingface import HuggingFaceSource
from tasks.sources.item import SourceError, SourceItem
from tasks.sources.reading.columns import items_of

ROWS = 256  # a piece


class DatasetsSource(HuggingFaceSource):
    """A data set by its name, through the library `datasets` (needs `pip install datasets`)."""

    kind: Literal["datasets"] = "datasets"  # type: ignore[assignment]
    path: str = Field(description="The name on the Hub, or a folder that datasets.load_dataset opens.")
    configuration: str = Field("", description="The data set's configuration; empty: the default one.")
    subset: str = Field("train", description="The split of the data set that is read.")

    def items(self) -> list[SourceItem]:
        """The data set as one file of rows."""
        data, columns = self._data(), self.named_columns()
        if not columns.image_column(data.column_names) or not (
            columns.caption_columns(data.column_names) or columns.tags
        ):
            raise SourceError(
                f"the data set {self.path} has the columns {', '.join(data.column_names)}: name those of the image and "
                "of the captions with --set ingest.source.image=COLUMN and --set 'ingest.source.captions=[COLUMN]'"
            )
        version = f"{len(data)}-{re.sub('[^0-9A-Za-z]', '', data._fingerprint)}"
        label = "/".join(filter(None, [self.path, self.configuration, self.subset]))
        return [SourceItem(label, label, path=self.path, version=version, container="datasets", rows=len(data))]

    def divide(self, file: SourceItem) -> Iterator[SourceItem]:
        """Pieces of so many rows."""
        for start in range(0, file.rows, ROWS):
            yield replace(file, start=start, rows=min(ROWS, file.rows - start))

    def read(self, item: SourceItem) -> Iterator[SourceItem]:
        """The rows of a piece, in order, with images as the files that they were."""
        columns = self.named_columns()
        table = self._data().with_format("arrow")[item.start : item.start + item.rows]
        return items_of(table.select(columns.read(table.schema)), columns, item.name, item.start, _folders(self.path))

    def _data(self) -> Any:
        return _load(self.path, self.configuration, self.subset)


def _folders(name: str) -> list[Path]:
    """Where the library has the files of a data set: its own folder, or what of the hub's cache is the data set's."""
    if Path(name).is_dir():
        return [Path(name)]
    from datasets import config
    from huggingface_hub import constants

    return [Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}", Path(config.EXTRACTED_DATASETS_PATH)]


@lru_cache(maxsize=2)
def _load(name: str, configuration: str, split: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise SourceError("a data set by name needs the library: pip install datasets") from None
    try:
        return datasets.load_dataset(name, configuration or None, split=split)
    except Exception as error:  # the library raises what its many parts raise
        raise SourceError(f"the data set {name} ({split}) cannot be loaded: {type(error).__name__}: {error}") from error
