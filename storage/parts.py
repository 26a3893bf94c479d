"""How a table becomes the bytes of a Parquet part, and back."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.schemas import IMAGE

KEY_IN_FOOTER = b"ram_engine.key"
IMAGE_ROW_GROUP = 128
TABLE_ROW_GROUP = 65_536


def to_bytes(table: pa.Table, key: str) -> memoryview:
    """``table`` as a Parquet file in memory, with ``key`` in its footer.

    Image bytes are compressed already and features do not compress: both are stored as they are, without dictionary
    and without statistics, in small row groups. Image tokens, most of which are zeros, are lz4, which is read three
    times as fast as zstd; all else is zstd.
    """
    bulky = [field.name for field in table.schema if field.type == IMAGE or _holds_floats(field.type)]
    heavy = any(field.type == IMAGE or field.name == "tokens" for field in table.schema)
    paths = {path: path.split(".")[0] for path in _leaf_paths(table.schema)}
    kinds = {name: "none" for name in bulky} | {"tokens": "lz4"}
    compression: dict[str, str] = {path: kinds.get(name, "zstd") for path, name in paths.items()}
    light = [path for path, name in paths.items() if name not in kinds]
    sink = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata({KEY_IN_FOOTER: key.encode()}),
        sink,
        compression=compression,
        use_dictionary=light or False,
        write_statistics=light or False,
        row_group_size=IMAGE_ROW_GROUP if heavy else TABLE_ROW_GROUP,
    )
    return sink.getbuffer()


def from_bytes(data: bytes, columns: Iterable[str] | None = None) -> pa.Table:
    """The table of a part's bytes, with only ``columns`` if they are named."""
    return read_columns(pa.BufferReader(data), columns)


def read_columns(source: Any, columns: Iterable[str] | None = None) -> pa.Table:
    """The table of a Parquet file that Python holds, with only ``columns`` if they are named.

    In this thread alone: a thread of Arrow's pool that drops the last reference to what Python holds, while the
    interpreter ends, aborts the process.
    """
    file = pq.ParquetFile(source, pre_buffer=False)
    wanted = list(columns) if columns is not None else None
    return file.read(columns=wanted, use_threads=False).replace_schema_metadata(None)


def _holds_floats(type_: pa.DataType) -> bool:
    return (pa.types.is_list(type_) or pa.types.is_fixed_size_list(type_)) and pa.types.is_floating(type_.value_type)


def _leaf_paths(schema: pa.Schema) -> list[str]:
    return [column.path for column in _parquet_schema(schema)]


def _parquet_schema(schema: pa.Schema) -> list[pq.ColumnSchema]:
    sink = io.BytesIO()
    pq.write_table(schema.empty_table(), sink)
    described = pq.ParquetFile(sink).schema
    return [described.column(index) for index in range(len(described))]
