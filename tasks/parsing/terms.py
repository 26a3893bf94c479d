"""Terms of several words (fire truck, parking lot, rock climbing) within a caption."""

from __future__ import annotations

from tasks.parsing.lemmas import Lemmas
from tasks.parsing.lexicon import terms
from tasks.parsing.tokens import Tokens


def term_at(tokens: Tokens, lemmas: Lemmas, start: int, end: int) -> str:
    """The term that tokens ``start`` to ``end - 1`` spell, "" where they spell none or do not exist."""
    if start < 0 or end > len(tokens):
        return ""
    known, longest = terms()
    if end - start > longest.get(tokens.lower[start], 0):
        return ""
    *first, last = tokens.lower[start:end]
    for name in (" ".join([*first, lemmas.noun(last)]), " ".join([*first, last])):
        if name in known:
            return name
    return ""


def longest_term_at(tokens: Tokens, lemmas: Lemmas, start: int) -> tuple[str, int]:
    """(the longest term that begins with token ``start``, the token behind it), or ("", ``start``)."""
    _, longest = terms()
    for end in range(min(len(tokens), start + longest.get(tokens.lower[start], 0)), start + 1, -1):
        if name := term_at(tokens, lemmas, start, end):
            return name, end
    return "", start
