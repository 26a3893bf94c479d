"""What a region proposer may look for, and what it is asked."""

from __future__ import annotations

from tasks.labels.words import words


def is_groundable(name: str, type_: str) -> bool:
    """Whether a detector may find the tag: objects with an outline; no attribute, action or scene."""
    return type_ == "object" and name not in words("not_groundable.txt")


def prompt(name: str) -> str:
    """What a detector is asked for: the name alone, since prompts of several tags are joined into one."""
    return name
