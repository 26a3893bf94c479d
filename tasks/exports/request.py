"""What every export gets: the folder to write into, and rows that are read and joined as they are asked for."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from tasks.exports.writing.exported_rows import ExportedStore, Selection


@dataclass(frozen=True)
class ExportedTag:
    """An active tag of the label system; ``threshold`` is the best model's, 0..1."""

    tag_id: int
    name: str
    type: str
    threshold: float


@dataclass(frozen=True)
class Request:
    """One export: the ``folder`` to write into, what the data set is called, its active ``tags``, and what was chosen.

    Rows and changes are read part by part while they are asked for, and can be asked for again.
    """

    folder: Path
    name: str
    tags: Sequence[ExportedTag]
    exported: ExportedStore
    selection: Selection

    @property
    def images(self) -> bool:
        """Whether the images themselves leave too."""
        return self.selection.images

    @cached_property
    def extra(self) -> Mapping[str, pa.DataType]:
        """The source's other columns, each with the type that holds all of its values."""
        return self.exported.extra_columns(self.selection)

    def extra_names(self, taken: Container[str]) -> dict[str, str]:
        """The source's other columns, and what they are called beside the columns ``taken``: ``source_<name>`` where
        one of these, or another of the source's, has the name."""
        return beside(self.extra, taken)

    def tables(self, regions: bool = False) -> Iterator[pa.Table]:
        """Tables of :data:`ROWS`, a part each; looking up the ``regions`` costs time, without it there are none.

        Raises :class:`ExportError` for a choice that leaves no image.
        """
        return self.exported.rows(self.selection, regions)

    def rows(self, regions: bool = False) -> Iterator[dict[str, Any]]:
        """The rows of :meth:`tables` one by one, ``extra`` as a dictionary."""
        for table in self.tables(regions):
            for row in table.to_pylist():
                yield {**row, "extra": json.loads(row["extra"] or "{}")}

    def changes(self) -> Iterator[pa.Table]:
        """Tables of :data:`CHANGES`, a part each: what the engine made of the captions' tags.

        Raises :class:`ExportError` before there are verdicts.
        """
        return self.exported.changes(self.selection)

    def write_card(self, what: str, files: Mapping[str, str], images: bool = False) -> None:
        """Writes ``README.md``: ``what`` the data is, as a paragraph, beside what the store knows; ``files`` are the
        paths of Parquet files by split, as Hugging Face's viewer wants to know them. With ``images`` in them it says
        what became of these files' metadata."""
        from tasks.exports.writing.card import card

        text = card(self.exported, self.selection, self.name, what, files, images)
        (self.folder / "README.md").write_text(text, encoding="utf-8")


def beside(names: Iterable[str], taken: Container[str]) -> dict[str, str]:
    """What columns with these ``names`` are called beside those ``taken``, no two the same."""
    called = {name: name for name in names if name not in taken}
    for name in names:
        if name not in called:
            new = f"source_{name}"
            while new in taken or new in called.values():
                new = f"source_{new}"
            called[name] = new
    return called
