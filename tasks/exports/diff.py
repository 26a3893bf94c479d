"""What the engine changed, as a small data set that people may publish beside data that they may not copy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.exports.export import Export
from tasks.exports.request import Request
from tasks.exports.rows import CHANGES

WHAT = (
    "What the data engine of [RAM](https://arxiv.org/abs/2306.03514) made of the tags of image captions: a row "
    "says that a tag was `added` to an image, `removed` from it, or that a caption's word was `changed` into a "
    "tag of another name, with the stage that did it and why. Images are named by `sha256` and, where the "
    "source has one, by `url`; none is in here."
)


class DiffExport(Export):
    """Only what the engine changed, without the images."""

    kind: Literal["diff"] = "diff"

    def write(self, request: Request) -> Mapping[str, int]:
        """``data/changes.parquet``, a row a change, and ``README.md``; returns the changes of each kind."""
        counted: Counter[str] = Counter()
        (request.folder / "data").mkdir(exist_ok=True)
        with pq.ParquetWriter(request.folder / "data" / "changes.parquet", CHANGES, compression="zstd") as writer:
            for table in request.changes():
                writer.write_table(table.cast(CHANGES))
                counts: pa.Table = table.group_by("change", use_threads=False).aggregate([([], "count_all")])
                counted.update({row["change"]: row["count_all"] for row in counts.to_pylist()})
        request.write_card(WHAT, {"train": "data/changes.parquet"})
        return dict(counted)
