"""What a stage's code reads: whole artifacts and model folders, pinned by snapshot."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from storage.images import ImageRecord, read_files, with_files
from storage.schemas import contract
from storage.store import Part, Snapshot, Store, row_id

MEMORY = "1GB"  # that a query may take before it goes on in a file
PIECE = 16  # partitions that are looked at together


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

    def by_partition(self, name: str, columns: list[str] | None = None) -> Iterator[tuple[str, pa.Table]]:
        """An artifact part by part with the partition that each part descends from, without the images that left."""
        for partition, part in self.parts_of(name):
            yield partition, self.read(name, part, columns)

    def parts_of(self, name: str) -> Iterator[tuple[str, Part]]:
        """The parts of an artifact, each with the partition that it descends from."""
        return ((part.partition, part) for part in self.snapshots[name].parts)

    def read(self, name: str, part: Part, columns: list[str] | None = None) -> pa.Table:
        """A part of an artifact, without the images that left."""
        return self.store.rows_of(self.snapshots[name], part, columns)

    def with_files(self, columns: list[str]) -> Iterator[pa.Table]:
        """``columns`` of the pairs and the column ``image`` with their files, part by part."""
        return with_files(self.store, self.snapshots["pairs"], self.snapshots["images"], columns)

    def files(self, image_ids: Collection[str]) -> dict[str, ImageRecord]:
        """The files of some images by id, each read with the few that lie beside it."""
        return read_files(self.store, self.snapshots["pairs"], self.snapshots["images"], image_ids)

    def model(self, name: str) -> Path:
        """A model's folder on this machine."""
        return self.store.model_folder(self.snapshots[name])

    def sql(self, query: str) -> pa.Table:
        """DuckDB over the Parquet files, out of core: each input is a view, without the images that left.

        Raises :class:`~storage.store.DamagedPartError` where a file of an input that the query names is damaged.
        """
        with connect(self.store, self.snapshots) as database:
            return database.sql(query)

    def pieces(self) -> Iterator[Inputs]:
        """The same inputs with the parts of some partitions at a time, and those of no partition in all: whatever there
        is of an image is in one piece."""
        parts = {name: {part.partition: part for part in snapshot.parts} for name, snapshot in self.snapshots.items()}
        partitions = [partition for partition in dict.fromkeys(chain.from_iterable(parts.values())) if partition]
        for at in range(0, len(partitions), PIECE):
            some = ["", *partitions[at : at + PIECE]]
            snapshots = {
                name: replace(snapshot, parts=tuple(parts[name][of] for of in some if of in parts[name]))
                for name, snapshot in self.snapshots.items()
            }
            yield replace(self, snapshots=snapshots)

    def sql_by_piece(self, query: str) -> Iterator[pa.Table]:
        """What a query that never looks beyond an image selects, piece by piece."""
        return (piece.sql(query) for piece in self.pieces())


class Database:
    """A DuckDB connection in which every snapshot with parts is a view, see :func:`view_of`.

    The files of a view are checked when a query names it first, before DuckDB opens them.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, store: Store, snapshots: Mapping[str, Snapshot], fetched: Path
    ) -> None:
        self._connection, self._store, self._fetched = connection, store, fetched
        self._waiting = {view_of(name): snapshot for name, snapshot in snapshots.items() if not snapshot.model}

    def sql(self, query: str, **parameters: Any) -> pa.Table:
        """The rows that a query selects."""
        self._open(query)
        return self._connection.sql(query, params=parameters or None).to_arrow_table()

    def register(self, name: str, table: pa.Table) -> None:
        """Makes a table in memory a view."""
        self._connection.register(name, table)

    def execute(self, statement: str) -> None:
        """Makes a further view or a table."""
        self._open(statement)
        self._connection.execute(statement)

    def _open(self, query: str) -> None:
        for view in self._waiting.keys() & set(re.findall(r"\w+", query)):
            _view(self._connection, self._store, view, self._waiting.pop(view), self._fetched)


@contextmanager
def connect(store: Store, snapshots: Mapping[str, Snapshot]) -> Iterator[Database]:
    """A database of ``snapshots``; files of a store of objects are fetched for it, and gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="ram-engine-") as folder,
        duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": folder}) as connection,
    ):
        connection.execute("SET disable_parquet_prefetching = true")  # it reads the columns that lie between as well
        yield Database(connection, store, snapshots, Path(folder))


def view_of(artifact: str) -> str:
    """What an artifact's view is called in SQL."""
    return artifact.replace("-", "_")


def _view(connection: duckdb.DuckDBPyConnection, store: Store, view: str, snapshot: Snapshot, fetched: Path) -> None:
    filled = [part for part in snapshot.parts if part.rows]
    file_of = {part.key: str(store.local_part(snapshot.artifact, part, fetched)) for part in filled}
    files = list(file_of.values())
    if not files:
        connection.register(view, _empty(contract(snapshot.artifact).schema))
        return
    quoted = ", ".join("'" + _literal(file).replace("'", "''") + "'" for file in files)
    query = f"SELECT entries.* EXCLUDE (filename) FROM read_parquet([{quoted}], filename = true) AS entries"
    gone = [{"file": file_of[part.key], "row_id": row} for part in filled for row in snapshot.gone(part.partition)]
    if gone:
        column = row_id(snapshot.artifact)
        connection.register(f"{view}_gone", pa.Table.from_pylist(gone))
        query += f" ANTI JOIN {view}_gone AS gone ON entries.filename = gone.file AND entries.{column} = gone.row_id"
    connection.execute(f"CREATE VIEW {view} AS {query}")


def _literal(path: str) -> str:
    """A path as the pattern that is it alone: DuckDB takes every name for a pattern, and reads what else fits."""
    return re.sub(r"[*?\[]", r"[\g<0>]", path)


def _empty(schema: pa.Schema) -> pa.Table:
    """No rows; features as float32, since DuckDB takes no Arrow column of half floats."""
    fields = [field.with_type(pa.list_(pa.float32())) if "halffloat" in str(field.type) else field for field in schema]
    return pa.schema(fields).empty_table()
