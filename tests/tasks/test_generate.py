"""What the stage `generate` writes of a shard's scores."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tasks.stages.generate import _lists, _scored


@given(st.integers(0, 6), st.integers(0, 8), st.integers(0, 99))
def test_kept_scores_stand_best_first_beside_their_tags(images: int, tags: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    scores, kept = chance.random((images, tags)).round(1).astype(np.float32), chance.random((images, tags)) < 0.5
    ids = pa.array(range(10, 10 + tags), pa.int32())
    expected = [
        sorted(
            ({"tag_id": 10 + at, "score": row[at].item()} for at in np.flatnonzero(of_row)), key=lambda e: -e["score"]
        )
        for row, of_row in zip(scores, kept, strict=True)
    ]  # sorting keeps the order of equal ones: that of the tags
    assert _scored(ids, scores, kept).to_pylist() == expected


def test_an_image_has_a_list_of_its_tags() -> None:
    members = np.array([[True, False, True], [False, False, False], [False, True, False]])
    assert _lists(members, pa.array([7, 9, 8])).to_pylist() == [[7, 9], [], [8]]
