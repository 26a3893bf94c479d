"""Names that carry two things: a stage or an artifact with its round, and a snapshot of an artifact."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class RoundName:
    """A stage or an artifact, and the round of the pipeline that it belongs to: ``ram-2`` is ``ram`` of round 2.

    Names of the first round, and of what belongs to no round, carry no number.
    """

    base: str
    number: int = 1

    @classmethod
    def parse(cls, name: str) -> RoundName:
        base, _, number = name.rpartition("-")
        return cls(base, int(number)) if base and number.isdigit() else cls(name)

    def __str__(self) -> str:
        return self.base if self.number == 1 else f"{self.base}-{self.number}"


def of_round(base: str, number: int) -> str:
    """The name that a stage or an artifact has in round ``number``."""
    return str(RoundName(base, number))


def first_round_name(name: str) -> str:
    """The name of a stage or an artifact without the number of its round: ``generated`` for ``generated-2``."""
    return RoundName.parse(name).base


@dataclass(frozen=True)
class SnapshotName:
    """A snapshot, written ``artifact@key``; a person may write the beginning of the key."""

    artifact: str
    key: str

    @classmethod
    def parse(cls, name: str) -> SnapshotName:
        """Raises ValueError where there is no ``@`` between two parts."""
        artifact, _, key = name.strip().partition("@")
        if not (artifact and key):
            raise ValueError(f"'{name}' names no snapshot: write ARTIFACT@KEY, as in regions@3f2a")
        return cls(artifact, key)

    def __str__(self) -> str:
        return f"{self.artifact}@{self.key}"
