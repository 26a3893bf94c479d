"""Vectors in a file are read as from an array in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.images.vector_file import new_vectors, stored_vectors


@given(st.data(), st.integers(1, 12), st.integers(1, 5))
def test_any_places_are_read_as_from_an_array(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, count: int, width: int
) -> None:
    rows = np.random.default_rng(0).standard_normal((count, width)).astype(np.float16)
    order = np.array(data.draw(st.permutations(range(count))), np.int64)
    places = np.array(data.draw(st.lists(st.integers(0, count - 1))), np.int64)
    file = tmp_path_factory.mktemp("vectors") / "file"
    with new_vectors(file, count, width) as vectors:
        vectors[order] = rows[order]
    with stored_vectors(file, count) as vectors:
        assert len(vectors) == count
        for asked in (places, slice(None), slice(2, 7), slice(1, None, 3), np.sort(places)):
            np.testing.assert_array_equal(vectors[asked], rows[asked])


def test_a_file_of_no_vectors_has_none(tmp_path: Path) -> None:
    with new_vectors(tmp_path / "file", 0, 0) as vectors:
        vectors[:] = np.zeros((0, 0), np.float16)
    with stored_vectors(tmp_path / "file", 0) as vectors:
        assert vectors[:].shape == (0, 0)


def test_a_file_that_was_cut_off_is_told(tmp_path: Path) -> None:
    with new_vectors(tmp_path / "file", 4, 8) as vectors:
        for wrong in (np.ones((3, 8)), np.ones((4, 7)), np.ones(8)):
            with pytest.raises(ValueError, match="are not 4 vectors of the width 8"):
                vectors[:] = wrong
        vectors[:] = np.ones((4, 8), np.float16)
        (tmp_path / "file").write_bytes(b"short")
        with pytest.raises(OSError, match="cut off"):
            vectors[2:]
