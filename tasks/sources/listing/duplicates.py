"""Images that stand in several parts of `pairs`: the rows of each become one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.images import ImageRecord, records_of
from storage.store import Part, Snapshot, Store
from tasks.sources.listing.merging import merge
from tasks.sources.temporary import temporary_database

SEVERAL = """
    SELECT part, image_id FROM standing
    WHERE image_id IN (SELECT image_id FROM standing GROUP BY image_id HAVING count(*) > 1) ORDER BY part
"""
BY_IMAGE = (
    "SELECT image_id, part, pair, min(number) OVER (PARTITION BY image_id) AS first FROM pairs ORDER BY first, number"
)


@dataclass(frozen=True)
class Double:
    """An image that stands in several ``parts``: its one ``row``, and its file as the first of them has it."""

    row: dict[str, Any]
    image: ImageRecord
    parts: list[Part]


def duplicates(store: Store, pairs: Snapshot, images: Snapshot) -> Iterator[Double]:
    """The images that stand in several parts, in the order of their first rows.

    Ids and rows lie in a temporary database, and memory holds the files of one part. A part is opened for its ids, and
    where it has such images again for their rows, and for their files.
    """
    database = temporary_database(
        "standing (image_id TEXT, part INTEGER)",
        "pairs (number INTEGER PRIMARY KEY, image_id TEXT, part INTEGER, pair TEXT)",
    )
    for number, part in enumerate(pairs.parts):
        ids = store.rows_of(pairs, part, ["image_id"])["image_id"].to_pylist()
        database.executemany("INSERT INTO standing VALUES (?, ?)", ((image_id, number) for image_id in ids))
    for number, standing in groupby(database.execute(SEVERAL), lambda row: row[0]):
        rows = store.rows_of(pairs, pairs.parts[number])
        here = rows.filter(pc.is_in(rows["image_id"], value_set=pa.array([image_id for _, image_id in standing])))
        database.executemany(
            "INSERT INTO pairs (image_id, part, pair) VALUES (?, ?, ?)",
            ((row["image_id"], number, json.dumps(row)) for row in here.to_pylist()),
        )
    files = {part.partition: part for part in images.parts}
    by_image = (list(rows) for _, rows in groupby(database.execute(BY_IMAGE), lambda row: row[0]))
    for number, first_here in groupby(by_image, lambda rows: rows[0][1]):
        here = {rows[0][0]: rows for rows in first_here}
        records = records_of(store, images.artifact, files[pairs.parts[number].partition], here.keys())
        for image_id, rows in here.items():
            row = merge([json.loads(pair) for _, _, pair, _ in rows])
            yield Double(row, records[image_id], [pairs.parts[part] for _, part, _, _ in rows])
