"""Files of many images: listed by name, size and time, divided into pieces, read a piece at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tasks.sources.item import SourceError, SourceItem, file_version
from tasks.sources.reading import parquet, tars
from tasks.sources.reading.columns import Columns


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
    files = [file for file in files if file.suffix in (".tar", ".parquet") and not os.path.isdir(file)]
    archives = [file for file in files if file.suffix == ".tar"]
    tables = [file for file in files if file.suffix == ".parquet" and not file.name.startswith((".", "_"))]
    kinds = {**dict.fromkeys(archives, "tar"), **dict.fromkeys(tables, "statuses" if archives else "parquet")}
    items, misfits = [], []
    for file, kind in kinds.items():
        name, problem = file.relative_to(root).as_posix(), None
        if not os.path.isfile(file):  # a pipe would be waited for
            problem = ("file_unreadable", f"{file.name} is no regular file")
        elif kind == "parquet" and (wrong := parquet.misfit(file, columns)):
            problem = ("foreign_schema", wrong)
        if problem:
            misfits.append(problem[1])
            items.append(SourceItem(name, name, problem=problem, version=file_version(file)))
        else:
            items.append(SourceItem(name, name, path=str(file), version=file_version(file), container=kind))
    if len(misfits) == len(items):
        raise SourceError(misfits[0] if misfits else f"{path} holds no .tar and no .parquet file")
    return items


def divide(file: SourceItem) -> Iterator[SourceItem]:
    """The pieces of a file of images, each of at most a few hundred."""
    dividing = {"tar": tars.divide_tar, "statuses": tars.divide_statuses, "parquet": parquet.divide_parquet}
    return dividing[file.container](file)


def read(piece: SourceItem, columns: Columns) -> Iterator[SourceItem]:
    """The images of a piece, one by one, each with its contents or its path."""
    reading = {"tar": tars.read_tar, "statuses": tars.read_statuses, "parquet": parquet.read_parquet}
    return reading[piece.container](piece, columns)
