"""How a table becomes the bytes of a Parquet part, and back; and how a part's bytes are checked.

A part's footer holds the digest of all that stands before it, and a part's own digest is that of its footer: the
footer alone tells which part it is, and both together that no byte of it has changed.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.keys import digest_bytes, digest_stream
from storage.schemas import IMAGE

KEY_IN_FOOTER = b"ram_engine.key"
BODY_IN_FOOTER = b"ram_engine.body"  # the digest of what stands before the footer
MAGIC, TRAILER = b"PAR1", 8  # a file ends with its footer's length, four bytes, and the magic word
IMAGES_TOGETHER = 2_000_000  # bytes of image files that are read together where one of them is looked at
BULKY_ROW_GROUP = 128
TABLE_ROW_GROUP = 65_536


@dataclass(frozen=True)
class Footer:
    """What the end of a part tells: its ``key`` and number of ``rows``, the digest of what stands before it, and its
    own ``digest``; ``length`` is in bytes, with the trailer."""

    key: str
    rows: int
    body: str
    digest: str
    length: int


def to_bytes(table: pa.Table, key: str) -> memoryview:
    """``table`` as a Parquet file in memory, with ``key`` and the digest of its contents in its footer.

    Image bytes are compressed already and features do not compress: both are stored as they are, without dictionary
    and without statistics, in small row groups. Image tokens, most of which are zeros, are lz4, which is read three
    times as fast as zstd; all else is zstd.
    """
    bulky = [field.name for field in table.schema if field.type == IMAGE or _holds_floats(field.type)]
    paths = {path: path.split(".")[0] for path in _leaf_paths(table.schema)}
    kinds = {name: "none" for name in bulky} | {"tokens": "lz4"}
    compression: dict[str, str] = {path: kinds.get(name, "zstd") for path, name in paths.items()}
    light = [path for path, name in paths.items() if name not in kinds]
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink, table.schema.remove_metadata(), compression=compression, use_dictionary=light or False,
        write_statistics=light or False,
    ) as writer:  # fmt: skip
        writer.write_table(table.replace_schema_metadata(None), row_group_size=_row_group(table))
        with sink.getbuffer() as body:
            told = {KEY_IN_FOOTER: key.encode(), BODY_IN_FOOTER: digest_bytes(body).encode()}
        writer.add_key_value_metadata(told)
    return sink.getbuffer()


def read_footer(file: IO[bytes], size: int) -> Footer | None:
    """The footer of a part of ``size`` bytes, of which only its end is read; None where the file is no part."""
    file.seek(max(0, size - TRAILER))
    trailer = file.read(TRAILER)
    length = int.from_bytes(trailer[:-4], "little") + TRAILER
    if trailer[-4:] != MAGIC or length > size:
        return None
    file.seek(size - length)
    footer = file.read(length)
    try:
        metadata = pq.read_metadata(pa.BufferReader(footer))
        told = metadata.metadata or {}
        key, body = told[KEY_IN_FOOTER].decode(), told[BODY_IN_FOOTER].decode()
    except (pa.ArrowException, ValueError, KeyError, OSError, MemoryError):  # a damaged footer may say anything
        return None
    return Footer(key, metadata.num_rows, body, digest_bytes(footer), length)


def is_whole(file: IO[bytes], size: int, digest: str) -> bool:
    """Whether a file of ``size`` bytes is the part of this ``digest``, to the last bit."""
    footer = read_footer(file, size)
    if footer is None or footer.digest != digest:
        return False
    file.seek(0)
    return digest_stream(file, size - footer.length) == footer.body


def read(source: Any, columns: Iterable[str] | None = None) -> pa.Table:
    """The table of a Parquet file that Python holds, with only ``columns`` if they are named.

    In this thread alone: a thread of Arrow's pool that drops the last reference to what Python holds, while the
    interpreter ends, aborts the process.
    """
    file = pq.ParquetFile(source, pre_buffer=False)
    wanted = list(columns) if columns is not None else None
    return file.read(columns=wanted, use_threads=False).replace_schema_metadata(None)


def _row_group(table: pa.Table) -> int:
    if any(field.type == IMAGE for field in table.schema):
        return max(1, min(BULKY_ROW_GROUP, IMAGES_TOGETHER * table.num_rows // max(1, table.nbytes)))
    return BULKY_ROW_GROUP if "tokens" in table.column_names else TABLE_ROW_GROUP


def _holds_floats(type_: pa.DataType) -> bool:
    return (pa.types.is_list(type_) or pa.types.is_fixed_size_list(type_)) and pa.types.is_floating(type_.value_type)


def _leaf_paths(schema: pa.Schema) -> list[str]:
    return [column.path for column in _parquet_schema(schema)]


def _parquet_schema(schema: pa.Schema) -> list[pq.ColumnSchema]:
    sink = io.BytesIO()
    pq.write_table(schema.empty_table(), sink)
    described = pq.ParquetFile(sink).schema
    return [described.column(index) for index in range(len(described))]
