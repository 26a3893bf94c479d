"""The files of a model folder: their digest is what a snapshot says of its model, and their list what it holds.

By their sizes a plan sees whether any is missing or cut; all of them are read where the folder is opened. Hidden files,
such as those that a desktop leaves, belong to no model.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from storage.keys import digest, digest_file
from storage.snapshots import ModelFile
from storage.versions import Version, version_of

Files = Mapping[str, ModelFile]  # by name, as in whole/config.json

known: dict[str, Files] = {}  # by the digest of a model what this process has read of it


def digest_of(files: Files) -> str:
    """The digest of a model."""
    return digest([(name, files[name].digest) for name in sorted(files)])


def is_visible(name: str) -> bool:
    """Whether a file of this name within the folder belongs to the model."""
    return not any(part.startswith(".") for part in name.split("/"))


def read(folder: Path) -> tuple[str, Files]:
    """The digest of a model and its files, which are read in blocks."""
    files = {name: ModelFile((folder / name).stat().st_size, digest_file(folder / name)) for name in _names(folder)}
    model = digest_of(files)
    known[model] = files
    return model, files


def _names(folder: Path) -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(filter(is_visible, found))


def versions(folder: Path) -> Version:
    """What changes with the files of a model; nothing where that of a file is not known."""
    of_files = [version_of(folder / name) for name in _names(folder)]
    return sum(of_files, ()) if all(of_files) else ()


def damage(there: Files, listed: Files) -> tuple[str, str]:
    """Which of the files ``there`` is not as it was ``listed``, "" where nothing tells, and what is wrong with it."""
    if not there:
        return "", "is missing"
    for name in sorted(there.keys() | listed.keys() if listed else ()):
        if name not in there:
            return name, "is missing"
        if name not in listed:
            return name, "is no file of this model"
        if there[name] != listed[name]:
            return name, "is damaged (its digest differs)"
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
