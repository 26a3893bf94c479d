"""When two words are one word written differently: hyphens and spaces, British and American, singular and plural."""

from __future__ import annotations

import re

from tasks.labels.words import lines, words


def hyphen_form(word: str) -> str:
    """The word without hyphens, spaces and apostrophes: t-shirt, t shirt and tshirt are one."""
    return re.sub(r"[-\s'\u2019_]", "", word)


def american_form(word: str) -> str:
    """The American spelling of each part of the word: colour, coloured, theatre, grey, organise, travelling."""
    return re.sub(r"[^\s-]+", lambda match: _american(match.group()), word)


def singular_form(noun: str) -> str:
    """The singular of the noun's last part; nouns that live in the plural (jeans, glasses) stay as they are."""
    head, gap, last = re.fullmatch(r"(.*?)([\s-]?)([^\s-]*)", noun, re.DOTALL).groups()  # type: ignore[union-attr]
    return f"{head}{gap}{_singular(last)}"


def _american(word: str) -> str:
    spelled = dict(line.split(" = ") for line in lines("american_spelling.txt"))
    return spelled.get(word, word)


def _singular(word: str) -> str:
    irregular = dict(line.split(" = ") for line in lines("irregular_plurals.txt"))
    if word in irregular:
        return irregular[word]
    if len(word) < 4 or word in words("plural_only.txt") or word.endswith(("ss", "us", "is", "as", "os")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("ches", "shes", "sses", "xes", "zzes")):
        return word[:-2]
    return word.removesuffix("s")
