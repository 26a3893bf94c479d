"""The word lists that come with the package: one entry a line, ``#`` starts a comment."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def lines(name: str) -> tuple[str, ...]:
    """The entries of the file ``name`` beside this module."""
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    entries = (line.partition("#")[0].strip() for line in text.splitlines())
    return tuple(entry for entry in entries if entry)


@cache
def words(name: str) -> frozenset[str]:
    """The comma-separated words of the file ``name``."""
    return frozenset(word.strip() for line in lines(name) for word in line.split(","))
