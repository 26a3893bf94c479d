"""A tag of the label system, and the table that a label system is stored as."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace

import pyarrow as pa

from storage.schemas import contract

TYPES = ("object", "scene", "attribute", "action")


@dataclass(frozen=True)
class Tag:
    """One row of the label system.

    ``(name, type)`` is the tag's key: one word may be several tags, as orange the fruit and orange the colour.
    ``count`` is the number of captions that name it, summed over its name and its synonyms.
    A tag that is not ``active`` takes its id with it: no other tag ever gets that id.
    """

    tag_id: int
    name: str
    type: str
    synonyms: tuple[str, ...] = ()
    count: int = 0
    active: bool = True
    groundable: bool = False
    prompt: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.name, self.type

    @property
    def retired(self) -> bool:
        """Removed, where a tag that is only switched off keeps its prompt."""
        return not self.active and not self.prompt

    def retire(self) -> Tag:
        """The tag as a row that only keeps its id taken."""
        return replace(self, synonyms=(), count=0, active=False, groundable=False, prompt="")

    @property
    def words(self) -> Iterator[str]:
        """Its name, then its synonyms."""
        yield self.name
        yield from self.synonyms


def role(type_: str) -> str:
    """The type, with object and scene as one: they are two readings of one thing, and a word is never both."""
    return "object" if type_ == "scene" else type_


def read_tags(table: pa.Table) -> list[Tag]:
    """The tags of a ``label_system`` table, by ascending id."""
    rows = (Tag(**{**row, "synonyms": tuple(row["synonyms"])}) for row in table.to_pylist())
    return sorted(rows, key=lambda tag: tag.tag_id)


def tags_table(tags: Iterable[Tag]) -> pa.Table:
    """The ``label_system`` table of ``tags``, by ascending id."""
    rows = [asdict(tag) for tag in sorted(tags, key=lambda tag: tag.tag_id)]
    return pa.Table.from_pylist(rows, schema=contract("label_system").schema)
