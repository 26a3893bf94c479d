"""A stage's worker: built once in a process, then called once a shard. It reads its parts, computes, and writes.

Workers know the store and the stage's code and nothing of Prefect, so that they need no route to its API.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from storage import schemas
from storage.names import first_round_name
from storage.store import Part, Snapshot, Store
from tasks.machine.declaration import Stage
from tasks.machine.inputs import Inputs
from tasks.settings.base import Settings
from tasks.settings.executor import ExecutorSettings


@dataclass(frozen=True)
class Shard:
    """One part's worth of work: its key, the parts that it maps, or tables that the plan made itself.

    ``replace``: it is computed although its parts may be there, and takes their place.
    """

    key: str
    partition: str
    parts: Mapping[str, tuple[str, Part]] = field(default_factory=dict)  # alias: (artifact, part)
    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    rows: int = 0
    replace: bool = False


class ShardTables(Mapping[str, pa.Table]):
    """The tables of a shard by alias; a part is read when it is asked for first, and may never be."""

    def __init__(self, store: Store, shard: Shard) -> None:
        self._store, self._shard = store, shard
        self._read = dict(shard.tables)

    def __getitem__(self, alias: str) -> pa.Table:
        if alias not in self._read:
            artifact, part = self._shard.parts[alias]
            self._read[alias] = self._store.read_part(artifact, part)
        return self._read[alias]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._shard.tables, **self._shard.parts})

    def __len__(self) -> int:
        return len({**self._shard.tables, **self._shard.parts})


@dataclass(frozen=True)
class ShardResult:
    """The parts that a shard wrote, by artifact, and the seconds that it took."""

    parts: Mapping[str, Part]
    seconds: float


@dataclass(frozen=True)
class WorkerFactory:
    """Everything that a process needs to build a stage's worker; it pickles."""

    stage: Stage
    settings: Settings
    executor: ExecutorSettings
    store_url: str
    snapshots: Mapping[str, Snapshot]

    def __call__(self) -> Worker:
        return Worker(self)


class Worker:
    """Calls the stage's code for each shard and writes what it returns."""

    def __init__(self, factory: WorkerFactory) -> None:
        self.stage = factory.stage
        self.store = Store(factory.store_url, create=False)
        schemas.add(factory.stage.declared.contracts)
        module = factory.stage.code()
        inputs = Inputs(self.store, factory.snapshots)
        if factory.stage.uses_model:
            from tasks.machine.devices import prepare_process  # torch only where a model runs

            prepare_process(factory.executor)
        if factory.stage.kind == "map":
            self.compute = module.build(factory.settings, inputs, factory.executor)
        else:
            self.compute = lambda tables: module.reduce(factory.settings, inputs, factory.executor)

    def __call__(self, shard: Shard) -> ShardResult:
        started = time.perf_counter()
        made: Mapping[str, pa.Table] = self.compute(ShardTables(self.store, shard))
        parts = {
            artifact: self.store.write_part(
                artifact, shard.key, shard.partition, made[first_round_name(artifact)], shard.replace
            )
            for artifact in self.stage.writes
        }
        return ShardResult(parts, time.perf_counter() - started)
