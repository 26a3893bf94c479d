"""What the engine changed, as a small data set that people may publish beside data that they may not copy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from storage.exports.rows import CHANGES, Request


def write(request: Request) -> Mapping[str, int]:
    """``data/changes.parquet``, a row a change, and ``README.md``; returns the changes of each kind."""
    counted: Counter[str] = Counter()
    (request.folder / "data").mkdir(exist_ok=True)
    with pq.ParquetWriter(request.folder / "data" / "changes.parquet", CHANGES, compression="zstd") as writer:
        for table in request.tables:
            writer.write_table(table.cast(CHANGES))
            counts: pa.Table = table.group_by("change", use_threads=False).aggregate([([], "count_all")])
            counted.update({row["change"]: row["count_all"] for row in counts.to_pylist()})
    request.write_card()
    return dict(counted)
