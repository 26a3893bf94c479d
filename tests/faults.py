"""What can become of a file while nobody looks. Each fault changes ``file``; ``other`` is a file of the same kind."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path


def cut(file: Path, other: Path) -> None:
    os.truncate(file, file.stat().st_size * 2 // 3)


def emptied(file: Path, other: Path) -> None:
    os.truncate(file, 0)


def flipped(file: Path, other: Path) -> None:
    data = bytearray(file.read_bytes())
    bit = random.Random(file.name).randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


def swapped(file: Path, other: Path) -> None:
    shutil.copy(other, file)


def missing(file: Path, other: Path) -> None:
    file.unlink()


def made_a_directory(file: Path, other: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "within").write_text("something")


FAULTS: dict[str, Callable[[Path, Path], None]] = {
    fault.__name__: fault for fault in (cut, emptied, flipped, swapped, missing, made_a_directory)
}
SEEN_BY_SIZE = ("cut", "emptied", "missing", "made_a_directory")
