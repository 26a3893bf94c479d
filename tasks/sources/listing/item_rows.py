"""Items as rows of a table, in which a shard of `ingest` is sent to its worker, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from storage.schemas import READY_TAGS
from tasks.sources.item import ReadyTags, SourceItem
from tasks.sources.listing.fingerprints import Fingerprint

PLAIN = (
    "name", "where", "split", "path", "version", "url", "licence", "extra", "source", "container", "start", "rows",
)  # fmt: skip
NUMBERS = ("start", "rows")
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


def to_table(items: Mapping[Fingerprint, SourceItem]) -> pa.Table:
    """A row an item."""
    rows = []
    for fingerprint, item in items.items():
        reason, detail = item.problem or (None, None)
        rows.append(
            {
                **{name: getattr(item, name) for name in PLAIN},
                "captions": item.captions,
                "ready_tags": ready_rows(item.ready_tags),
                "fingerprint": str(fingerprint),
                "reason": reason,
                "detail": detail,
            }
        )
    return pa.Table.from_pylist(rows, SCHEMA)


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
