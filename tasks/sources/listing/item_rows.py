"""Items as rows of a table, in which they are listed and sent to the workers of `ingest`, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
from pyarrow.json import ParseOptions, ReadOptions, read_json

from storage.schemas import READY_TAGS
from tasks.sources.item import ReadyTags, SourceItem
from tasks.sources.listing.fingerprints import Fingerprint

PLAIN = (
    "name", "where", "split", "path", "version", "url", "licence", "extra", "source", "container",
    "start", "rows", "size",
)  # fmt: skip
NUMBERS = ("start", "rows", "size")
SCHEMA = pa.schema(
    [
        *((name, pa.int64() if name in NUMBERS else pa.string()) for name in PLAIN),
        ("captions", pa.list_(pa.string())),
        ("ready_tags", pa.list_(READY_TAGS)),
        ("fingerprint", pa.string()),
        ("reason", pa.string()),  # of an unfit row
        ("detail", pa.string()),
    ]
)


def as_json(fingerprint: Fingerprint, item: SourceItem) -> str:
    """An item as a row of JSON."""
    reason, detail = item.problem or (None, None)
    return json.dumps(
        {
            **{name: getattr(item, name) for name in PLAIN},
            "captions": item.captions,
            "ready_tags": ready_rows(item.ready_tags),
            "fingerprint": str(fingerprint),
            "reason": reason,
            "detail": detail,
        }
    )


def path_in(row: str) -> str:
    """The path of the image file that a row of JSON is of; "" where it is none."""
    item = json.loads(row)
    return "" if item["container"] else item["path"]


def to_table(rows: Iterable[str]) -> pa.Table:
    """A table of at least one row of JSON."""
    text = "\n".join(rows).encode()
    blocks = ReadOptions(use_threads=False, block_size=len(text) + 1)  # a block has to hold a row
    return read_json(pa.BufferReader(text), blocks, ParseOptions(explicit_schema=SCHEMA))


def from_table(table: pa.Table) -> Iterator[tuple[Fingerprint, SourceItem]]:
    """The items of a table, with their fingerprints."""
    for row in table.to_pylist():
        item = SourceItem(
            **{name: row[name] for name in PLAIN},
            captions=tuple(row["captions"]),
            ready_tags=ready_of(row["ready_tags"]),
            problem=(row["reason"], row["detail"]) if row["reason"] else None,
        )
        yield Fingerprint.parse(row["fingerprint"]), item


def ready_rows(ready: Iterable[tuple[int, Iterable[tuple[str, str]]]] | None) -> list[dict[str, Any]] | None:
    """Ready tags as the column of `pairs`."""
    if ready is None:
        return None
    return [
        {"caption_index": at, "tags": [{"name": name, "type": type_} for name, type_ in tags]} for at, tags in ready
    ]


def ready_of(rows: Iterable[Mapping[str, Any]] | None) -> ReadyTags | None:
    """Ready tags of the column of `pairs`."""
    if rows is None:
        return None
    return tuple((row["caption_index"], tuple((tag["name"], tag["type"]) for tag in row["tags"])) for row in rows)
