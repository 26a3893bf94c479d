"""What a table must keep of its artifact's contract."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from storage.schemas import ROWS, ContractError, check, contract


@pytest.mark.parametrize("place", [0, ROWS - 2, ROWS - 1, ROWS, ROWS + 1])
def test_a_row_that_stands_twice_is_named_wherever_it_lies(place: int) -> None:
    """Rows are held against each other in blocks: the two may lie on both sides of an edge."""
    numbers = np.arange(ROWS + 4)
    numbers[place + 1] = numbers[place]
    table = pa.table(
        {
            "image_id": [f"{number:016x}" for number in numbers],
            "caption_index": np.zeros(len(numbers), np.int16),
            "tag_ids": pa.array([[]] * len(numbers), pa.list_(pa.int32())),
        },
        schema=contract("caption_tags").schema,
    )
    shuffled = table.take(np.random.default_rng(0).permutation(len(numbers)))
    with pytest.raises(ContractError, match=f"{place:016x}.* stands more than once"):
        check("caption_tags", shuffled)
    others = shuffled.set_column(1, "caption_index", pa.array(np.arange(len(numbers)) % 2**15, pa.int16()))
    assert check("caption_tags", others).num_rows == len(numbers)
