"""What changed from one version of the label system to another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tasks.labels.tags import Tag


@dataclass(frozen=True)
class Change:
    """One thing that changed about one tag. ``what`` is a word to count by, ``detail`` says it in full."""

    tag_id: int
    name: str
    what: str
    detail: str

    def __str__(self) -> str:
        return f"tag {self.tag_id} '{self.name}' {self.detail}"


def diff(before: Iterable[Tag], after: Iterable[Tag]) -> list[Change]:
    """The changes from ``before`` to ``after``, by id; counts alone are no change."""
    old = {tag.tag_id: tag for tag in before}
    new = {tag.tag_id: tag for tag in after}
    changes = []
    for tag_id in sorted(old.keys() | new.keys()):
        one, other = old.get(tag_id), new.get(tag_id)
        if one is None and other is not None:
            changes.append(Change(tag_id, other.name, "added", f"is new ({other.type})"))
        elif other is None and one is not None:
            changes.append(Change(tag_id, one.name, "lost", "is not there any more: its id is free, which must not be"))
        elif one is not None and other is not None:
            changes += [Change(tag_id, other.name, what, detail) for what, detail in _of_tag(one, other)]
    return changes


def _of_tag(one: Tag, other: Tag) -> Iterable[tuple[str, str]]:
    if one.name != other.name:
        yield "renamed", f"was '{one.name}'"
    if one.type != other.type:
        yield "type", f"is {other.type} and was {one.type}"
    if _status(one) != _status(other):
        yield _status(other), f"is {_status(other)} and was {_status(one)}"
    if other.retired:
        return  # all else went with it
    gained = [word for word in other.synonyms if word not in one.synonyms]
    lost = [word for word in one.synonyms if word not in other.synonyms]
    if gained:
        yield "synonyms", f"gained the synonyms {', '.join(gained)}"
    if lost:
        yield "synonyms", f"lost the synonyms {', '.join(lost)}"
    if one.groundable != other.groundable:
        yield "groundable", "is groundable now" if other.groundable else "is not groundable any more"
    if one.prompt != other.prompt and not one.retired:
        yield "prompt", f"has the prompt '{other.prompt}' and had '{one.prompt}'"


def _status(tag: Tag) -> str:
    return "active" if tag.active else "retired" if tag.retired else "switched off"
