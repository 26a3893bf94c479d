"""One run of one stage: what is asked for, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from storage.store import Store
from tasks.machine.declaration import Stage
from tasks.settings.base import Settings
from tasks.settings.executor import ExecutorSettings

USUAL = ExecutorSettings()


@dataclass(frozen=True)
class Again:
    """What is computed although it is done, and from what.

    ``force``: all of the stage; ``refit``: a frozen stage; ``retry_rejected``: the parts with rejected rows. ``inputs``
    are snapshots to read in place of the latest, as in ``regions@0123abcd``, or ``ablation@none`` for an optional one
    that is not to be read. ``warm_start``: a training goes on from its last model, where it has to train at all.
    """

    force: bool = False
    refit: bool = False
    retry_rejected: bool = False
    inputs: tuple[str, ...] = ()
    warm_start: bool = False


@dataclass(frozen=True)
class StageRun:
    """A stage that is to be brought up to date in a store, with these settings, on this executor.

    ``candidate``: what it makes does not become the latest by itself.
    """

    store: Store
    stage: Stage
    settings: Settings
    executor: ExecutorSettings = USUAL
    again: Again = Again()
    candidate: bool = False


@dataclass(frozen=True)
class StageOutcome:
    """What a stage did: rows that it read and rows of its outputs, shards, rejected rows by reason, seconds.

    ``kept``: it was up to date, and nothing was computed.
    """

    stage: str
    key: str
    rows: Mapping[str, int]
    read: int = 0
    computed: int = 0
    reused: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""
    kept: bool = False

    def line(self) -> str:
        """One readable line for a terminal."""
        if self.kept:
            return f"{self.stage:<16} is up to date" + (f": {self.note}" if self.note else "")
        rows = ", ".join(f"{count:,} {name}" for name, count in self.rows.items() if not name.endswith("_rejected"))
        told = [f"{self.stage:<16} {self.seconds:6.1f} s  {rows}"]
        if self.reused:
            told.append(f"{self.computed} shards computed, {self.reused} reused")
        if self.rejected:
            total = sum(self.rejected.values())
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.rejected.items()))
            told.append(f"{total} rejected ({reasons})")
        if self.note:
            told.append(self.note)
        return "; ".join(told)
