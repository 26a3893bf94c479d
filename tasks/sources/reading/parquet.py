"""Parquet with images in it: Hugging Face's (`image: struct<bytes, path>`) and img2dataset's (`jpg: binary`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.sources.item import SHARD_BYTES, SourceItem
from tasks.sources.reading.columns import Columns, item_of

PIECE = 256  # rows, by whole row groups
LARGEST = 2048  # rows: larger row groups are cut, as those with more than SHARD_BYTES are


def misfit(path: Path, columns: Columns) -> str:
    """Why a Parquet file is no source, as a sentence; empty: it is one."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        return f"{path.name} is no Parquet file: {error}"
    names = schema.names
    image = columns.image_column(names)
    if not image:
        return (
            f"{path.name} has the columns {', '.join(names)}, and none of them is an image: name it with "
            "--set ingest.source.image=COLUMN"
        )
    type_ = schema.field(image).type
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
        if rows and (rows >= PIECE or size + group.total_byte_size > SHARD_BYTES):
            yield from _cut(replace(item, start=start, rows=rows, size=size))
            start, rows, size = start + rows, 0, 0
        rows, size = rows + group.num_rows, size + group.total_byte_size
    yield from _cut(replace(item, start=start, rows=rows, size=size))


def _cut(piece: SourceItem) -> Iterator[SourceItem]:
    """A piece in as many as it takes: of LARGEST rows, and of SHARD_BYTES where its rows are of one size."""
    end = piece.start + piece.rows
    rows = max(1, min(LARGEST, piece.rows * SHARD_BYTES // max(1, piece.size)))
    for start in range(piece.start, end, rows):
        cut = min(rows, end - start)
        yield replace(piece, start=start, rows=cut, size=piece.size * cut // piece.rows)


def read_parquet(piece: SourceItem, columns: Columns) -> Iterator[SourceItem]:
    """The rows of a piece, in order."""
    path = Path(piece.path)
    with pq.ParquetFile(path) as file:
        groups: list[int] = []
        at = skip = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if at < piece.start + piece.rows and at + rows > piece.start:
                skip = skip if groups else piece.start - at
                groups.append(group)
            at += rows
        number, left = piece.start, piece.rows
        for batch in file.iter_batches(batch_size=min(PIECE, piece.rows), row_groups=groups):
            passed = min(skip, batch.num_rows)
            skip -= passed
            for row in batch.slice(passed, left).to_pylist():
                where = f"{piece.name} row {number}"
                yield item_of(row, columns, f"{piece.name}/{row.get('image_id') or number}", where, [path.parent])
                number, left = number + 1, left - 1
            if not left:
                return
