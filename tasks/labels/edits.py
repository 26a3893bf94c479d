"""A person's decisions about tags, kept apart from the label system so that a rebuild can apply them again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace

import pyarrow as pa

from storage.schemas import contract
from tasks.labels.grounding import is_groundable, prompt
from tasks.labels.tags import Tag

STATUSES = ("active", "off", "retired")


@dataclass(frozen=True)
class Edit:
    """What a person decided about one tag; None and empty: left to the engine.

    ``merge_into`` is the id of the tag that takes its name and synonyms, whereupon it is retired.
    An id that the label system does not have yet makes a new tag, which needs ``name`` and ``type``.
    """

    tag_id: int
    name: str | None = None
    type: str | None = None
    status: str | None = None
    merge_into: int | None = None
    synonyms_added: tuple[str, ...] = ()
    synonyms_dropped: tuple[str, ...] = ()
    groundable: bool | None = None
    prompt: str | None = None

    @property
    def empty(self) -> bool:
        return self == Edit(self.tag_id)


def read_table(table: pa.Table) -> list[Edit]:
    """The edits of a ``label_edits`` table."""
    lists = ("synonyms_added", "synonyms_dropped")
    return [Edit(**{**row, **{name: tuple(row[name]) for name in lists}}) for row in table.to_pylist()]


def table_of(edits: Iterable[Edit]) -> pa.Table:
    """The ``label_edits`` table of ``edits``, by id."""
    rows = [asdict(edit) for edit in sorted(edits, key=lambda edit: edit.tag_id) if not edit.empty]
    return pa.Table.from_pylist(rows, schema=contract("label_edits").schema)


def combine(earlier: Iterable[Edit], later: Iterable[Edit]) -> list[Edit]:
    """Both, tag by tag; where they differ the later one holds."""
    combined = {edit.tag_id: edit for edit in earlier}
    for edit in later:
        combined[edit.tag_id] = _override(combined.get(edit.tag_id, Edit(edit.tag_id)), edit)
    return [combined[tag_id] for tag_id in sorted(combined)]


def _override(old: Edit, new: Edit) -> Edit:
    given = {
        field.name: getattr(new, field.name) for field in fields(Edit) if getattr(new, field.name) not in (None, ())
    }
    if new.status is not None and new.merge_into is None:
        given["merge_into"] = None  # a tag that a person gives a status again is no longer part of another
    added = [word for word in old.synonyms_added if word not in new.synonyms_dropped]
    dropped = [word for word in old.synonyms_dropped if word not in new.synonyms_added]
    given["synonyms_added"] = tuple(dict.fromkeys((*added, *new.synonyms_added)))
    given["synonyms_dropped"] = tuple(dict.fromkeys((*dropped, *new.synonyms_dropped)))
    return replace(old, **given)


def apply(tags: Iterable[Tag], edits: Iterable[Edit]) -> list[Tag]:
    """The label system as a person wants it, by id.

    Counts of tags that merge are added up; :func:`tasks.labels.counts.recount` counts them anew over a corpus.
    """
    result = {tag.tag_id: tag for tag in tags}
    edits = list(edits)
    for edit in edits:
        tag = result.get(edit.tag_id)
        if tag is None and edit.name and edit.type:
            tag = Tag(edit.tag_id, edit.name, edit.type).retire()
        if tag is not None:
            result[edit.tag_id] = _edited(tag, edit)
    targets = {edit.tag_id: edit.merge_into for edit in edits if edit.merge_into is not None}
    for tag_id in targets:
        target = tag_id
        for _ in targets:  # at most so many steps, even if a cycle got past the checks
            target = targets.get(target, target)
        if tag_id in result and target in result and target != tag_id:
            tag, into = result[tag_id], result[target]
            words = (*into.synonyms, *(word for word in tag.words if word not in into.words))
            result[target] = replace(into, synonyms=words, count=into.count + tag.count)
            result[tag_id] = tag.retire()
    return [result[tag_id] for tag_id in sorted(result)]


def _edited(tag: Tag, edit: Edit) -> Tag:
    """``tag`` after all of ``edit`` but its merge."""
    if edit.status == "retired":
        return tag.retire()
    name, type_ = edit.name or tag.name, edit.type or tag.type
    # The corpus goes on saying the old name, so it stays as a synonym.
    words = [*((tag.name,) if name != tag.name else ()), *tag.synonyms, *edit.synonyms_added]
    synonyms = tuple(word for word in dict.fromkeys(words) if word != name and word not in edit.synonyms_dropped)
    active = tag.active if edit.status is None else edit.status == "active"
    groundable, asked = tag.groundable, tag.prompt
    if edit.status is not None and tag.retired:
        groundable, asked = is_groundable(name, type_), prompt(name)
    elif asked == prompt(tag.name):
        asked = prompt(name)
    return Tag(
        tag.tag_id,
        name,
        type_,
        synonyms,
        tag.count,
        active,
        groundable if edit.groundable is None else edit.groundable,
        edit.prompt or asked,
    )
