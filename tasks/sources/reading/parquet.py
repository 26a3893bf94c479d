"""Parquet with images in it: Hugging Face's (`image: struct<bytes, path>`) and img2dataset's (`jpg: binary`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.sources.item import SHARD_BYTES, SourceItem
from tasks.sources.reading.columns import Columns, items_of

PIECE = 256  # rows, by whole row groups
LARGEST = 2048  # rows: larger row groups are cut, as those with more than SHARD_BYTES are
BATCH = 32  # rows that are decoded at once: a dictionary makes many large ones of a small file
MOST_ROWS = 10**8  # of a file, whose headers may say anything


def misfit(path: Path, columns: Columns) -> str:
    """Why a Parquet file is no source, as a sentence; empty: it is one."""
    try:
        schema = pq.read_schema(path)
        names = schema.names
    except Exception as error:  # a header of a stranger raises anything
        return f"{path.name} is no Parquet file: {error}"
    image = columns.image_column(names)
    if not image:
        return (
            f"{path.name} has the columns {', '.join(names)}, and none of them is an image: name it with "
            "--set ingest.source.image=COLUMN"
        )
    type_ = schema.types[names.index(image)]
    is_file = pa.types.is_struct(type_) and {"bytes", "path"} & {field.name for field in type_}
    if not (is_file or pa.types.is_binary(type_) or pa.types.is_large_binary(type_)):
        return f"{path.name}: the column '{image}' is {type_}, and should be struct<bytes, path> or binary"
    if not columns.caption_columns(names) and not columns.tags:
        return (
            f"{path.name} has the columns {', '.join(names)}, and none of them is a caption: name them with "
            "--set 'ingest.source.captions=[COLUMN]'"
        )
    return ""


def divide_parquet(item: SourceItem) -> Iterator[SourceItem]:
    """The pieces of a file: only its footer is read."""
    metadata = pq.read_metadata(item.path)
    start = rows = size = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        if group.num_rows < 0 or start + rows + group.num_rows > MOST_ROWS:
            raise ValueError(f"its headers say that it has more than {MOST_ROWS:,} rows, or less than none")
        if rows and (rows >= PIECE or size + group.total_byte_size > SHARD_BYTES):
            yield from _cut(replace(item, start=start, rows=rows, size=size))
            start, rows, size = start + rows, 0, 0
        rows, size = rows + group.num_rows, size + max(0, group.total_byte_size)
    yield from _cut(replace(item, start=start, rows=rows, size=size))


def _cut(piece: SourceItem) -> Iterator[SourceItem]:
    """A piece in as many as it takes: of LARGEST rows, and of SHARD_BYTES where its rows are of one size."""
    end = piece.start + piece.rows
    rows = max(1, min(LARGEST, piece.rows * SHARD_BYTES // max(1, piece.size)))
    for start in range(piece.start, end, rows):
        cut = min(rows, end - start)
        yield replace(piece, start=start, rows=cut, size=piece.size * cut // piece.rows)


def read_parquet(piece: SourceItem, columns: Columns) -> Iterator[SourceItem]:
    """The rows of a piece, in order. Where a row group is damaged, an item says so in the place of its rows."""
    end = piece.start + piece.rows
    with pq.ParquetFile(piece.path) as file:
        start = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            first, last = max(piece.start, start), min(end, start + rows)
            if first < last:
                yield from _group(file, group, start, first, last, piece, columns)
            start += rows


def _group(
    file: pq.ParquetFile, group: int, at: int, first: int, last: int, piece: SourceItem, columns: Columns
) -> Iterator[SourceItem]:
    """The rows ``first`` to ``last`` of a file, out of the row group that begins ``at`` a row of it."""
    folders, names = [Path(piece.path).parent], columns.read(file.schema_arrow)
    try:
        for batch in file.iter_batches(BATCH, [group], names):
            passed = min(max(0, first - at), batch.num_rows)
            rows = batch.slice(passed, last - at - passed)
            yield from items_of(rows, columns, piece.name, at + passed, folders, "image_id")
            at += batch.num_rows
            if at >= last:
                return
        raise EOFError("they are not there")
    except Exception as error:  # a page of a stranger raises anything
        where = f"{piece.name} rows {max(first, at)} to {last - 1}"
        yield SourceItem(where, where, problem=("file_unreadable", f"they cannot be read: {error}"))
