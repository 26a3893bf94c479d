"""Data sets by name, through the library `datasets` where it is installed and the network, or its cache, has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from storage.sources.columns import Columns, item_of
from storage.sources.item import SourceError, SourceItem


def list_dataset(name: str, configuration: str, split: str, columns: Columns) -> list[SourceItem]:
    """The data set as one file of rows. Raises :class:`SourceError` where it cannot be had, or has no image."""
    data = _load(name, configuration, split)
    if not columns.image_column(data.column_names) or not (columns.caption_columns(data.column_names) or columns.tags):
        raise SourceError(
            f"the data set {name} has the columns {', '.join(data.column_names)}: name those of the image and of the "
            "captions with --set ingest.source.image=COLUMN and --set 'ingest.source.captions=[COLUMN]'"
        )
    version = f"{len(data)}-{re.sub('[^0-9A-Za-z]', '', data._fingerprint)}"
    label = "/".join(filter(None, [name, configuration, split]))
    return [SourceItem(label, label, path=name, version=version, container="datasets", rows=len(data))]


def read_dataset(
    piece: SourceItem, columns: Columns, name: str, configuration: str, split: str
) -> Iterator[SourceItem]:
    """The rows of a piece, in order, with images as the files that they were."""
    data = _load(name, configuration, split).with_format("arrow")
    for number, row in enumerate(data[piece.start : piece.start + piece.rows].to_pylist(), piece.start):
        yield item_of(row, columns, f"{piece.name}/{number}", f"{piece.name} row {number}", None)


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
