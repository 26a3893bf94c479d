"""What is said of a store that cannot be used, and of files in it that are not what its snapshots list."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pyarrow as pa

from storage.snapshots import Part, part_file

FOLDER = ".damaged"  # of a store


class StoreError(RuntimeError):
    """The store cannot be used as asked; the message says why and what to do."""


class DamagedPartError(StoreError):
    """A part's bytes are not those that its snapshot lists. It pickles, so that it comes out of worker processes."""

    def __init__(self, artifact: str, part: Part, what: str) -> None:
        super().__init__(artifact, part, what)
        self.artifact = artifact
        self.part: Part | None = part
        self.file = part_file(artifact, part.key)
        self.what = what

    def __str__(self) -> str:
        return f"{self.file} {self.what}; the next run of the pipeline computes it again"


class DamagedModelError(DamagedPartError):
    """A model's folder does not hold what its snapshot lists: ``file``, below the store, is the first to differ."""

    def __init__(self, artifact: str, file: str, what: str) -> None:
        StoreError.__init__(self, artifact, file, what)
        self.artifact, self.part, self.file, self.what = artifact, None, file, what


@contextlib.contextmanager
def naming(artifact: str, part: Part) -> Iterator[None]:
    """Says of which part it is that a file cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise DamagedPartError(artifact, part, "is missing") from None
    except IsADirectoryError:
        raise DamagedPartError(artifact, part, "is a directory") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DamagedPartError(artifact, part, f"cannot be read ({error})") from None


def note_of(artifact: str, key: str) -> str:
    """The file that says that a part or a model was found damaged."""
    return f"{FOLDER}/{artifact}@{key}.json"
