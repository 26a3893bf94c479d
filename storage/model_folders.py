"""The files of a model folder: the digest of them all is what a snapshot says of its model.

A list of them lies in the folder, so that a plan sees by their sizes whether any is missing or cut, and a person is
told which of them is damaged. Hidden files, the list among them, belong to no model.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage import documents
from storage.keys import digest, digest_stream
from storage.versions import Version, version_of

LIST = ".files.json"


@dataclass(frozen=True)
class File:
    """A file of a model folder."""

    bytes: int
    digest: str


Files = Mapping[str, File]  # by name, as in whole/config.json


def digest_of(files: Files) -> str:
    """The digest of a model."""
    return digest([(name, files[name].digest) for name in sorted(files)])


def is_visible(name: str) -> bool:
    """Whether a file of this name within the folder belongs to the model."""
    return not any(part.startswith(".") for part in name.split("/"))


def names(folder: Path) -> list[str]:
    """The files of a model, sorted."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(filter(is_visible, found))


def read(folder: Path) -> Files:
    """The files of a model with their digests, for which all of them are read, in blocks."""
    return {name: _read(folder / name) for name in names(folder)}


def _read(path: Path) -> File:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return File(size, digest_stream(file, size))


def versions(folder: Path) -> Version:
    """What changes with the files of a model; nothing where that of a file is not known."""
    of_files = [version_of(folder / name) for name in names(folder)]
    return sum(of_files, ()) if all(of_files) else ()


def to_text(files: Files) -> str:
    """The list of a folder's files."""
    return documents.to_text({"files": {name: [file.bytes, file.digest] for name, file in files.items()}})


def from_text(text: str | None, model: str) -> Files | None:
    """The inverse of :func:`to_text`; None where it is no list of the files whose digest is ``model``."""
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        told: dict[str, Any] = documents.from_text(text or "")["files"]
        files = {name: File(int(size), str(own)) for name, (size, own) in told.items()}
        return files if digest_of(files) == model else None
    return None


def damage(there: Files, listed: Files | None) -> tuple[str, str]:
    """Which of the files ``there`` is not as it was ``listed``, "" where nothing tells, and what is wrong with it."""
    if not there:
        return "", "is missing"
    for name in sorted(listed or {}):
        if name not in there:
            return name, "is missing"
        if there[name] != (listed or {})[name]:
            return name, "is damaged (its digest differs)"
    for name in sorted(there.keys() - (listed or there).keys()):
        return name, "is no file of this model"
    return "", "is damaged (the digest of its files differs)"


def sync(folder: Path) -> None:
    """Brings a folder with all that is in it to the disk, and the name that it has."""
    for path in filter(Path.is_file, folder.rglob("*")):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    for path in (*filter(Path.is_dir, folder.rglob("*")), folder, folder.parent):
        handle = os.open(path, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # of a file system that syncs no folders
                os.fsync(handle)
        finally:
            os.close(handle)
