"""The word lists that lie beside this module, and what spaCy's own dictionary knows of English words."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def words(name: str) -> frozenset[str]:
    """The entries of ``words/<name>.txt``: separated by commas or lines, ``#`` starts a comment."""
    text = files("tasks.parsing").joinpath("words", f"{name}.txt").read_text("utf-8")
    lines = (line.partition("#")[0] for line in text.splitlines())
    return frozenset(entry.strip() for line in lines for entry in line.split(",")) - {""}


@cache
def terms() -> tuple[frozenset[str], dict[str, int]]:
    """(every term of several words, the number of words of the longest term for each first word)."""
    sources = ("compounds", "headless_compounds", "activities", "scenes", "plural_nouns", "picture_words")
    found = frozenset(entry for source in sources for entry in words(source) if " " in entry)
    longest: dict[str, int] = {}
    for entry in found:
        parts = entry.split()
        longest[parts[0]] = max(longest.get(parts[0], 0), len(parts))
    return found, longest
