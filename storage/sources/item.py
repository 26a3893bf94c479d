"""What every source lists: one item an image, with its captions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class SourceError(ValueError):
    """A source that cannot be listed at all; the message names the file and the mend."""


@dataclass(frozen=True)
class SourceItem:
    """An image of a source.

    ``version`` is ``<size>-<time>`` of its file, or whatever else tells a changed image without reading it.
    ``problem`` is a (reason, sentence) for a row that is unfit before its image is read.
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
