"""What a stage's code reads: whole artifacts and model folders, pinned by snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import fsspec.core
import pyarrow as pa

from storage.schemas import contract
from storage.store import Snapshot, Store, row_id


def _silent(done: int, total: int) -> None:
    """No progress is shown."""


@dataclass(frozen=True)
class Inputs:
    """The pinned inputs of a stage, under the names that its code uses."""

    store: Store
    snapshots: Mapping[str, Snapshot]
    progress: Callable[[int, int], None] = _silent

    def has(self, name: str) -> bool:
        """Whether an optional input is there, with at least one row or a model."""
        snapshot = self.snapshots.get(name)
        return snapshot is not None and (bool(snapshot.model) or snapshot.rows > 0)

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """A whole artifact in memory, without the images that left."""
        return self.store.table(self.snapshots[name], columns)

    def parts(self, name: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """An artifact part by part, without the images that left."""
        return self.store.tables(self.snapshots[name], columns)

    def model(self, name: str) -> Path:
        """A model's folder on this machine."""
        return self.store.model_folder(self.snapshots[name])

    def sql(self, query: str) -> pa.Table:
        """DuckDB over the Parquet files, out of core: each input is a view, without the images that left."""
        with connect(self.store, self.snapshots) as connection:
            return connection.sql(query).to_arrow_table()


def connect(store: Store, snapshots: Mapping[str, Snapshot]) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection in which every snapshot with parts is a view; ``-`` in a name becomes ``_``."""
    connection = duckdb.connect()
    if not store.is_local:
        connection.register_filesystem(_listed(store, snapshots))
    for name, snapshot in snapshots.items():
        if not snapshot.model:
            _view(connection, store, name.replace("-", "_"), snapshot)
    return connection


def _listed(store: Store, snapshots: Mapping[str, Snapshot]) -> Any:
    """The file system of a store of objects, which has listed the parts: DuckDB asks for a file's size at every read,
    and each answer would be a request."""
    files, root = fsspec.core.url_to_fs(store.url)
    for artifact in {snapshot.artifact for snapshot in snapshots.values() if any(part.rows for part in snapshot.parts)}:
        files.ls(f"{root.rstrip('/')}/{artifact}/parts", refresh=True)
    return files


def _view(connection: duckdb.DuckDBPyConnection, store: Store, view: str, snapshot: Snapshot) -> None:
    files = [store.part_file(snapshot.artifact, part) for part in snapshot.parts if part.rows]
    if not files:
        connection.register(view, _empty(contract(snapshot.artifact).schema))
        return
    quoted = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
    query = f"SELECT entries.* EXCLUDE (filename) FROM read_parquet([{quoted}], filename = true) AS entries"
    gone = [
        {"file": store.part_file(snapshot.artifact, part), "row_id": row}
        for part in snapshot.parts
        for row in snapshot.gone(part.partition)
    ]
    if gone:
        column = row_id(snapshot.artifact)
        connection.register(f"{view}_gone", pa.Table.from_pylist(gone))
        query += f" ANTI JOIN {view}_gone AS gone ON entries.filename = gone.file AND entries.{column} = gone.row_id"
    connection.execute(f"CREATE VIEW {view} AS {query}")


def _empty(schema: pa.Schema) -> pa.Table:
    """No rows; features as float32, since DuckDB takes no Arrow column of half floats."""
    fields = [field.with_type(pa.list_(pa.float32())) if "halffloat" in str(field.type) else field for field in schema]
    return pa.schema(fields).empty_table()
