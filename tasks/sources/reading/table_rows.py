"""Rows of Arrow tables as dictionaries: what is wrong with a value costs its row, and no other."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def rows_of(table: pa.Table | pa.RecordBatch) -> list[dict[str, Any] | Exception]:
    """The rows in order, with what was raised in the place of one that Python cannot hold: a text that is not UTF-8, a
    date beyond all dates."""
    try:
        rows: list[dict[str, Any] | Exception] = table.to_pylist()
    except Exception as error:  # each type has its own
        if table.num_rows < 2:
            return [error]
        half = table.num_rows // 2
        rows = rows_of(table.slice(0, half)) + rows_of(table.slice(half))
    return rows
