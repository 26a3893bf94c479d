"""A listing: all items of a source by their fingerprints, in a temporary database: memory holds none of them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from tasks.sources.item import SourceItem
from tasks.sources.listing.fingerprints import Fingerprint
from tasks.sources.listing.item_rows import as_json, path_in, to_table
from tasks.sources.temporary import temporary_database


class Listed(NamedTuple):
    """What a plan needs of an item: its number in the listing, its images, and the bytes of their files, 0: unknown."""

    number: int
    fingerprint: str
    images: int
    bytes: int


class Listing:
    """Items with their ``numbers``; of those with one fingerprint the last counts, in the place of the first."""

    def __init__(self, items: Iterable[tuple[Fingerprint, SourceItem]]) -> None:
        self._database = temporary_database(
            "items (number INTEGER PRIMARY KEY, fingerprint TEXT UNIQUE, images INTEGER, bytes INTEGER, item TEXT)"
        )
        self._database.executemany(
            "INSERT INTO items (fingerprint, images, bytes, item) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (fingerprint) DO UPDATE SET item = excluded.item",
            ((str(listed), item.rows or 1, item.file_bytes, as_json(listed, item)) for listed, item in items),
        )
        self.numbers = range(1, self._database.execute("SELECT count(*) FROM items").fetchone()[0] + 1)

    def __getitem__(self, number: int) -> Listed:
        columns = "number, fingerprint, images, bytes"
        return Listed(*self._database.execute(f"SELECT {columns} FROM items WHERE number = ?", (number,)).fetchone())

    def find(self, known: Fingerprint) -> int | None:
        """The number of the item with a fingerprint; None where it is not listed."""
        row = self._database.execute("SELECT number FROM items WHERE fingerprint = ?", (str(known),)).fetchone()
        return row and int(row[0])

    def of_its_size(self, known: Fingerprint) -> Iterator[tuple[int, str]]:
        """Numbers and paths of image files that have all of a fingerprint but the time."""
        begin = "-".join([*known.but_time, ""])
        rows = self._database.execute(
            "SELECT number, item FROM items WHERE fingerprint BETWEEN ? AND ? ORDER BY number",
            (begin, f"{begin}~"),  # a tilde stands behind all digits
        )
        return ((number, path) for number, item in rows if (path := path_in(item)))

    def table(self, numbers: Iterable[int]) -> pa.Table:
        """Items as `ingest` is given them."""
        query = "SELECT item FROM items WHERE number = ?"
        return to_table(self._database.execute(query, (number,)).fetchone()[0] for number in numbers)


class ListedItems(Mapping[str, pa.Table]):
    """The table `items` of a shard, read from a listing when it is asked for, or sent to a worker."""

    def __init__(self, listing: Listing, numbers: Iterable[int]) -> None:
        self._listing, self._numbers = listing, array("q", numbers)

    def __getitem__(self, name: str) -> pa.Table:
        if name != "items":
            raise KeyError(name)
        return self._listing.table(self._numbers)

    def __iter__(self) -> Iterator[str]:
        return iter(("items",))

    def __len__(self) -> int:
        return 1

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)
