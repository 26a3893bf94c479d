"""CSV that a spreadsheet opens: nothing in it is computed, and reading gives back the text that was written.

A spreadsheet computes a cell that begins with ``=``, ``+``, ``-`` or ``@``, whoever wrote it. A text that begins so
gets an apostrophe before it, as a person would type it; one that begins with apostrophes and then so gets one more.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

_COMPUTED = re.compile(r"'*(?:[\t\r\n]|[\s\x00-\x1f\u200b\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20])")


def guarded(value: Any) -> Any:
    """A value as the cell that is written for it. Numbers are no formulas, whatever their sign."""
    return f"'{value}" if isinstance(value, str) and _COMPUTED.match(value) else value


def text_of(cell: str) -> str:
    """The text that a cell was written for; the inverse of :func:`guarded`."""
    return cell[1:] if cell.startswith("'") and _COMPUTED.match(cell[1:]) else cell


class SheetWriter:
    """Writes a CSV with these ``columns``, whose file was opened with ``newline=""``."""

    def __init__(self, file: TextIO, columns: Sequence[str]) -> None:
        self._columns = columns
        self._writer = csv.writer(file)
        self._writer.writerow(map(guarded, columns))

    def write(self, row: Mapping[str, Any]) -> None:
        """Writes a row by its columns' names; a column that it lacks, or that is None, stays empty."""
        self._writer.writerow(guarded(row.get(name)) for name in self._columns)
