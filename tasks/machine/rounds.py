"""How many rounds of annotation a store has seen."""

from __future__ import annotations

from storage.names import RoundName
from storage.store import Store


def last_round(store: Store, *artifacts: str) -> int:
    """The number of the last round that made any of these ``artifacts``; 0 where none did."""
    names = map(RoundName.parse, store.artifacts())
    return max((name.number for name in names if name.base in artifacts), default=0)


def rounds_of(store: Store) -> int:
    """How many rounds of annotation a store holds, at least 1."""
    return max(1, last_round(store, "generated", "ram"))
