"""One sentence for a disk that is full, whichever library ran into it: each has words of its own for it, or none."""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

NUMBERS = (errno.ENOSPC, errno.EDQUOT)
SAYINGS = re.compile(
    r"No space left on device|Disk quota exceeded"  # the system's words, which DuckDB and Arrow pass on
    r"|os error (28|122)\b"  # of Rust: safetensors
    r"|database or disk is full"  # SQLite
    r"|failed to offload data block"  # DuckDB, of what memory has no room for
    r"|\d+ requested and \d+ written"  # NumPy, of bytes
    r"|PytorchStreamWriter failed|unexpected pos \d+ vs \d+"  # torch
)
NOTHING = 1_000_000  # bytes: where no more is left, a database that is ill is ill of that


class FullDiskError(OSError):
    """A disk is full; the message says which, and what to do."""


def of(error: BaseException, *folders: Path) -> FullDiskError | None:
    """What a person is told of an error that comes of a full disk; None for all others.

    Named is the fullest of the disks that the error names and that ``folders`` and the temporary folder lie on.
    """
    if isinstance(error, FullDiskError):
        return error
    if not any(_says_so(led_to) for led_to in _chain(error)):
        return None
    named = [Path(str(led_to.filename)) for led_to in _chain(error) if isinstance(led_to, OSError) and led_to.filename]
    with contextlib.suppress(FileNotFoundError):  # none can be written
        named.append(Path(tempfile.gettempdir()))
    return _sentence(min((*named, *folders), key=room, default=Path()))


def nothing_left(folder: Path) -> FullDiskError | None:
    """What a person is told where a folder's disk has no room for anything; None where it has some."""
    return _sentence(folder) if room(folder) < NOTHING else None


def room(folder: Path) -> int:
    """The bytes that are free on the disk of a folder, which need not be there yet."""
    here = folder.absolute()
    return shutil.disk_usage(next(place for place in (here, *here.parents) if place.exists())).free


def _sentence(folder: Path) -> FullDiskError:
    return FullDiskError(
        f"the disk is full: {room(folder) / 1e6:,.1f} MB are left for {folder}. Make room, with `ram-engine gc` say, "
        "and run again: what is finished is kept"
    )


def _says_so(error: BaseException) -> bool:
    known = isinstance(error, OSError) and error.errno in NUMBERS
    return known or bool(SAYINGS.search(str(error)))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, and what was being handled then."""
    seen, waiting = set(), [error]
    while waiting:
        current = waiting.pop()
        if id(current) not in seen:
            seen.add(id(current))
            yield current
            waiting += [led_to for led_to in (current.__cause__, current.__context__) if led_to is not None]
            waiting += current.exceptions if isinstance(current, BaseExceptionGroup) else []
