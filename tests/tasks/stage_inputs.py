"""Inputs of a stage in the real store, from tables and model folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from storage.store import Snapshot, Store
from tasks.machine.inputs import Inputs


def inputs_of(folder: Path, tables: Mapping[str, pa.Table], models: Mapping[str, Path] | None = None) -> Inputs:
    """``tables`` as artifacts of one part, ``models`` as model artifacts, in a store within ``folder``."""
    store = Store(folder / "store")
    snapshots = {}
    for name, table in tables.items():
        part = store.write_part(name, "a" * 16, "p", table)
        snapshots[name] = store.publish(Snapshot(name, "a" * 16, "test", "test", parts=(part,)))
    for name, model in (models or {}).items():
        digest = store.write_model(name, "a" * 16, model)
        snapshots[name] = store.publish(Snapshot(name, "a" * 16, "test", "test", model=digest))
    return Inputs(store, snapshots)
