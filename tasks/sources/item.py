"""What every source lists: one item an image, with its captions; or a file of many images, and later a piece of one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    one, which begins at ``start`` (a byte of a tar, else a row).
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


def file_version(path: Path) -> str:
    """``<size>-<time in ns>`` of a file; ``missing-0`` where there is none."""
    try:
        status = path.stat()
    except OSError:
        return "missing-0"
    return f"{status.st_size}-{status.st_mtime_ns}"


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
    """Whether ``name`` stays within ``folder``: a name such as ``../x`` would leave it."""
    return (folder / name).resolve().is_relative_to(folder.resolve())


def extra_of(values: Mapping[str, Any]) -> str:
    """The plain ones among the values of a source's other columns (texts, numbers, yes or no) as a JSON object."""
    plain = {
        name: value
        for name, value in values.items()
        if isinstance(value, str | int | float | bool) and value == value and value not in (float("inf"), -float("inf"))
    }
    return json.dumps(plain, ensure_ascii=False, sort_keys=True)
