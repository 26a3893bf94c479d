"""Files of many images: listed by name, size and time, divided into pieces, read a piece at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from storage.keys import digest
from storage.sources import datasets_library, parquet, tars
from storage.sources.columns import Columns
from storage.sources.item import SourceError, SourceItem, file_version

ROWS = 256  # of a data set that is loaded by name


def list_folder(path: str, columns: Columns) -> list[SourceItem]:
    """The files of a folder (or the one file) with images in them: tars and Parquet files, also in folders below.

    Beside tars, Parquet files are img2dataset's lists of what was fetched. A file that does not fit is an item with its
    problem; raises :class:`SourceError` where none fits.
    """
    place = Path(path)
    if not place.exists():
        raise SourceError(f"there is no file or folder {path}")
    root = place if place.is_dir() else place.parent
    files = sorted(place.rglob("*")) if place.is_dir() else [place]
    archives = [file for file in files if file.suffix == ".tar"]
    tables = [file for file in files if file.suffix == ".parquet" and not file.name.startswith((".", "_"))]
    kinds = {**dict.fromkeys(archives, "tar"), **dict.fromkeys(tables, "statuses" if archives else "parquet")}
    items, misfits = [], []
    for file, kind in kinds.items():
        name = file.relative_to(root).as_posix()
        wrong = parquet.misfit(file, columns) if kind == "parquet" else ""
        if wrong:
            misfits.append(wrong)
            items.append(SourceItem(name, name, problem=("foreign_schema", wrong), version=file_version(file)))
        else:
            items.append(SourceItem(name, name, path=str(file), version=file_version(file), container=kind))
    if len(misfits) == len(items):
        raise SourceError(misfits[0] if misfits else f"{path} holds no .tar and no .parquet file")
    return items


def divide(item: SourceItem) -> Iterator[SourceItem]:
    """The pieces of a file of images, each of at most a few hundred."""
    if item.container == "tar":
        yield from tars.divide_tar(item)
    elif item.container == "statuses":
        yield from tars.divide_statuses(item)
    elif item.container == "parquet":
        yield from parquet.divide_parquet(item)
    else:
        for start in range(0, item.rows, ROWS):
            yield replace(item, start=start, rows=min(ROWS, item.rows - start))


def read(piece: SourceItem, columns: Columns, configuration: str = "", split: str = "") -> Iterator[SourceItem]:
    """The images of a piece, one by one, each with its contents or its path."""
    if piece.container == "tar":
        yield from tars.read_tar(piece, columns)
    elif piece.container == "statuses":
        yield from tars.read_statuses(piece, columns)
    elif piece.container == "parquet":
        yield from parquet.read_parquet(piece, columns)
    else:
        yield from datasets_library.read_dataset(piece, columns, piece.path, configuration, split)


def contents_digest(items: Iterable[SourceItem]) -> str:
    """A key of all that the images of a piece are: the same contents in a file that was only touched have the same."""
    return digest(
        [
            [
                item.name, item.captions, item.split, item.url, item.licence, item.extra, item.ready_tags, item.problem,
                file_version(Path(item.path)) if item.path else hashlib.sha256(item.data or b"").hexdigest(),
            ]
            for item in items
        ]
    )  # fmt: skip
