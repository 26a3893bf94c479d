"""What a query over the store's files reads of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from storage.schemas import contract
from tasks.machine.inputs import connect
from tests.tasks.stage_inputs import inputs_of

IMAGES, SCORES = 1000, 200
COUNTED = Path("/proc/self/io")


@pytest.mark.skipif(not COUNTED.is_file(), reason="this system does not count what a process reads")
def test_a_query_reads_the_columns_that_it_names_and_none_that_lies_between(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    generated = pa.table(
        {
            "image_id": [f"{number:016x}" for number in range(IMAGES)],
            **dict.fromkeys(("captions", "caption_tag_ids", "caption_fits", "original_caption_fits"), [[]] * IMAGES),
            "scores": [
                [{"tag_id": tag, "score": score} for tag, score in enumerate(row)]
                for row in random.random((IMAGES, SCORES), np.float32).tolist()
            ],
            "predicted": [[1]] * IMAGES,
        },
        schema=contract("generated").schema,
    )
    inputs = inputs_of(tmp_path, {"generated": generated})
    with connect(inputs.store, inputs.snapshots) as database:
        database.sql("SELECT count(*) FROM generated")  # digests the whole file
        before = _read()
        table = database.sql(
            "SELECT sum(len(captions))::INT AS captions, sum(len(predicted))::INT AS tags FROM generated"
        )
        read = _read() - before
    assert table.to_pylist() == [{"captions": 0, "tags": IMAGES}]
    assert read < inputs.snapshots["generated"].bytes / 4


def _read() -> int:
    """The bytes that this process has read."""
    return int(COUNTED.read_text().split()[1])
