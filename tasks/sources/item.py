"""What every source lists: one item an image, with its captions; or a file of many images, and later a piece of one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

SHARD_BYTES = 64 * 2**20  # of image files in a shard, or in a piece of a file, unless one image alone has more
SPLITS = ("", "train", "fine_tune", "calibrate", "test")

ReadyTags = tuple[tuple[int, tuple[tuple[str, str], ...]], ...]  # (caption index, ((name, type), ..)), ..


class SourceError(ValueError):
    """A source that cannot be listed at all; the message names the file and the mend."""


@dataclass(frozen=True)
class SourceItem:
    """An image of a source.

    ``version`` is ``<size>-<time>`` of its file, or whatever else tells a changed image without reading it.
    ``problem`` is a (reason, sentence) for a row that is unfit before its image is read. ``extra`` are the source's
    other columns as a JSON object. ``data`` is the image file, where it has no ``path`` of its own. ``truth`` is all
    that is to be seen, where a drawn image's maker knows it: a row of the artifact `truth` but its ``image_id``.

    An item with a ``container`` (what kind of file it is) is a whole file of images; with ``rows`` it is a piece of
    one, which begins at ``start`` (a byte of a tar, else a row) and has ``size`` bytes (0: nobody knows).
    """

    name: str
    where: str
    captions: tuple[str, ...] = ()
    split: str = ""
    path: str = ""
    version: str = ""
    url: str | None = None
    licence: str | None = None
    problem: tuple[str, str] | None = None
    extra: str = "{}"
    ready_tags: ReadyTags | None = None
    data: bytes | None = None
    truth: Mapping[str, Any] | None = None
    source: str = ""
    container: str = ""
    start: int = 0
    rows: int = 0
    size: int = 0

    @property
    def file_bytes(self) -> int:
        """The size of its file, or of the piece of one; 0 where nobody knows."""
        return self.size if self.container or not self.path else size_in(self.version)


def file_version(path: Path) -> str:
    """``<size>-<time in ns>`` of a file; ``missing-0`` where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: no file has such a name
        return "missing-0"
    return f"{status.st_size}-{status.st_mtime_ns}"


def size_in(version: str) -> int:
    """The size that a file's version names; 0 where it is no file's."""
    size = version.partition("-")[0]
    return int(size) if size.isdecimal() else 0


def images_folder(file: Path, images: str) -> Path:
    """The folder of images that goes with a file of captions. Raises :class:`SourceError` where there is none."""
    if images:
        folder = Path(images)
    else:
        folder = file.parent / "images" if (file.parent / "images").is_dir() else file.parent
    if not folder.is_dir():
        raise SourceError(f"the folder of images {folder} does not exist; name it with --set ingest.source.images=DIR")
    return folder


def inside(folder: Path, name: str) -> bool:
    """Whether ``name`` stays within ``folder``: ``../x`` would leave it, and so would a link to there."""
    return inside_of(folder)(name)


def inside_of(folder: Path) -> Callable[[str], bool]:
    """The same for many names: the folders in which they lie are looked up once."""
    real = lru_cache(1024)(os.path.realpath)
    root = real(folder)

    def holds(name: str) -> bool:
        parent, last = os.path.split(os.path.join(folder, name))
        try:
            path = os.path.join(real(parent), last)
            if last in ("", ".", "..") or os.path.islink(path):
                path = os.path.realpath(path)
        except ValueError:  # no file has such a name
            return False
        return path == root or path.startswith(os.path.join(root, ""))

    return holds


def extra_of(values: Mapping[str, Any]) -> str:
    """The plain ones among the values of a source's other columns (texts, numbers, yes or no) as a JSON object."""
    plain = {
        name: value
        for name, value in values.items()
        if isinstance(value, str | int | float | bool) and value == value and value not in (float("inf"), -float("inf"))
    }
    return json.dumps(plain, ensure_ascii=False, sort_keys=True)
