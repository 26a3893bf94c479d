"""Several rows of one image become one: all its captions, names and columns, and the split that is strictest."""

from __future__ import annotations

import json
from typing import Any

from tasks.sources.fitness import MOST_CAPTIONS
from tasks.sources.listing.item_rows import ready_of, ready_rows

SPLIT_ORDER = ("test", "calibrate", "fine_tune", "train")


def merge(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of several of one image. A split that keeps it out of training wins."""
    merged = dict(rows[0])
    for column in ("captions", "sources", "names", "fingerprints"):
        merged[column] = list(dict.fromkeys(value for row in rows for value in row[column]))
    del merged["captions"][MOST_CAPTIONS:]  # of a placeholder that stands for thousands of pictures
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
    if all(row["ready_tags"] is None for row in rows):
        return None
    places = {caption: at for at, caption in enumerate(captions)}
    by_caption: dict[int, dict[tuple[str, str], None]] = {}
    for row in rows:
        for at, tags in ready_of(row["ready_tags"]) or ():
            place = at if at < 0 else places.get(row["captions"][at])
            if place is not None:
                by_caption.setdefault(place, {}).update(dict.fromkeys(tags))
    return ready_rows((at, tuple(tags)) for at, tags in sorted(by_caption.items()))
