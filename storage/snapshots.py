"""What a snapshot lists: its parts or its model folder, what they were made from, and where in a store they lie."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter

from storage.keys import digest
from storage.names import SnapshotName
from storage.schemas import ContractError, contract


@dataclass(frozen=True)
class Part:
    """A Parquet file of an artifact. ``partition`` is the key of the `pairs` part that it descends from."""

    key: str
    partition: str
    rows: int
    bytes: int
    digest: str


@dataclass(frozen=True)
class ModelFile:
    """A file of a model folder."""

    bytes: int
    digest: str


@dataclass(frozen=True)
class Snapshot:
    """One version of an artifact: its parts (or its model folder) and its origin.

    ``tombstones`` maps a partition to the images that left it (rejected rows: their fingerprints); readers leave their
    rows out, and ``removed`` says how many of a part's rows those are. ``recipe`` is a key of how it was made, whatever
    the data: settings, stage versions, and the recipes of what it read. ``held_back`` says why a snapshot must not
    become the latest by itself: a model that is worse than the one before.
    """

    artifact: str
    key: str
    stage: str
    recipe: str
    parts: tuple[Part, ...] = ()
    model: str = ""  # the digest of the model folder's files
    files: dict[str, ModelFile] = field(default_factory=dict)  # of that folder; earlier versions have not listed them
    tombstones: dict[str, list[str]] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)  # rows by partition
    settings: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, SnapshotName] = field(default_factory=dict)  # by the name that the stage's code has for it
    stage_version: int = 0
    created: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)  # seconds, computed, reused, rejected.<reason>
    held_back: str = ""

    @property
    def name(self) -> SnapshotName:
        return SnapshotName(self.artifact, self.key)

    @property
    def digest(self) -> str:
        """A key of the contents: the same rows made another way have the same digest."""
        return digest([self.model, sorted((part.partition, part.digest) for part in self.parts), self.tombstones])

    @property
    def rows(self) -> int:
        """Rows that a reader sees: those of images that left are not among them."""
        return sum(self.rows_in(part) for part in self.parts)

    def rows_in(self, part: Part) -> int:
        """The rows of one part that a reader sees."""
        return part.rows - self.removed.get(part.partition, 0)

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts) + sum(file.bytes for file in self.files.values())

    def gone(self, partition: str) -> list[str]:
        """The ids of images whose rows of a part are not to be read any more."""
        return self.tombstones.get(partition, []) if row_id(self.artifact) else []

    def part(self, partition: str) -> Part | None:
        """The part that descends from the `pairs` part ``partition``, if there is one."""
        return next((part for part in self.parts if part.partition == partition), None)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Snapshot:
        """The inverse of :meth:`to_json`; raises AttributeError, KeyError, TypeError or ValueError for others."""
        inputs = {alias: SnapshotName.parse(name) for alias, name in value["inputs"].items()}
        return _snapshot_adapter().validate_python({**value, "inputs": inputs})

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "inputs": {alias: str(name) for alias, name in self.inputs.items()}}


@functools.cache
def _snapshot_adapter() -> TypeAdapter[Snapshot]:
    return TypeAdapter(Snapshot)


def part_file(artifact: str, key: str) -> str:
    return f"{artifact}/parts/{key}.parquet"


def model_folder_of(artifact: str, key: str) -> str:
    return f"{artifact}/models/{key}"


def row_id(artifact: str) -> str:
    """The column that tombstones name rows by; "" where an artifact's rows are not of images (candidates are words)."""
    try:
        names = contract(artifact).schema.names
    except ContractError:  # of a stage whose package is not installed any more
        return ""
    return next((name for name in ("fingerprint", "image_id") if name in names), "")
