"""A folder of image files, also in folders below, without any captions: they are bare pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks.settings.base import PathName
from tasks.sources.item import SourceError, SourceItem, file_version
from tasks.sources.reading.tars import SUFFIXES
from tasks.sources.source import Limit, Source

PICTURES = tuple(f".{suffix}" for suffix in SUFFIXES)


class FolderSource(Source):
    """A folder of pictures without captions, and the folders below it."""

    kind: Literal["folder"] = "folder"
    path: PathName = Field(min_length=1, description="The folder.")
    limit: Limit = 0

    def items(self) -> Iterator[SourceItem]:
        """One item an image file, in the order of their names, folder by folder; hidden files are passed over."""
        folder = Path(self.path)
        if not folder.is_dir():
            raise SourceError(f"there is no folder {folder}")
        any_picture = False
        for file in islice(_pictures(folder), self.limit or None):
            any_picture = True
            yield _item(file, file.relative_to(folder).as_posix(), folder.name)
        if not any_picture:
            raise SourceError(f"the folder {folder} holds no image: their names end in {', '.join(PICTURES)}")


def _item(file: Path, name: str, folder: str) -> SourceItem:
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = name.encode("utf-8", "backslashreplace").decode()
        return SourceItem(shown, f"{folder}/{shown}", problem=("not_utf8", "the file's name is not UTF-8: rename it"))
    return SourceItem(name, f"{folder}/{name}", path=str(file), version=file_version(file))


def _pictures(folder: Path) -> Iterator[Path]:
    """The image files below a folder, of which those of one folder at a time are held in memory."""
    for place, folders, files in os.walk(folder, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(PICTURES) and not name.startswith("."):
                yield Path(place, name)


def _unreadable(error: OSError) -> None:
    raise SourceError(f"the folder {error.filename} cannot be read: {error.strerror}") from error
