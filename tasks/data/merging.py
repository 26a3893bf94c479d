"""Several rows of one image become one: all its captions, names and columns, and the split that is strictest."""

from __future__ import annotations

import json
from typing import Any

SPLIT_ORDER = ("test", "calibrate", "fine_tune", "train")


def merge(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of several of one image. A split that keeps it out of training wins."""
    merged = dict(rows[0])
    for column in ("captions", "sources", "names", "fingerprints"):
        merged[column] = list(dict.fromkeys(value for row in rows for value in row[column]))
    for column in ("url", "licence"):
        merged[column] = next((row[column] for row in rows if row[column]), None)
    merged["split"] = min((row["split"] for row in rows), key=SPLIT_ORDER.index)
    extras: dict[str, Any] = {}
    for row in reversed(rows):
        extras |= json.loads(row["extra"] or "{}")
    merged["extra"] = json.dumps(extras, ensure_ascii=False, sort_keys=True)
    merged["ready_tags"] = _merged_tags(rows, merged["captions"])
    return merged


def _merged_tags(rows: list[dict[str, Any]], captions: list[str]) -> list[dict[str, Any]] | None:
    """The ready tags of several rows, with the places of their captions among all ``captions``."""
    found: dict[int, dict[tuple[str, str], None]] = {}
    for row in rows:
        for one in row["ready_tags"] or ():
            at = one["caption_index"]
            place = at if at < 0 else captions.index(row["captions"][at])
            found.setdefault(place, {}).update(((tag["name"], tag["type"]), None) for tag in one["tags"])
    if all(row["ready_tags"] is None for row in rows):
        return None
    return [
        {"caption_index": at, "tags": [{"name": name, "type": type_} for name, type_ in tags]}
        for at, tags in sorted(found.items())
    ]
