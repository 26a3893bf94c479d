"""Label systems that others made: the official lists of RAM and Tag2Text, or a person's own text file.

A tag's id is its place in the list, from 0, as checkpoints and evaluation lists by index have it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from storage.keys import digest_bytes
from tasks.labels.counts import Word, settle_types
from tasks.labels.synonyms import senses
from tasks.labels.tags import TYPES

# Tag2Text's list says its types by position: 0-3011 object or scene, 3012-3251 action, 3252-3428 attribute.
TAG2TEXT_DIGEST = "7d05c7cb88ed46a2aee14347"
TAG2TEXT_ACTIONS, TAG2TEXT_ATTRIBUTES = 3012, 3252
THING = "object or scene"

# WordNet's lexicographer files of nouns for where one can be.
SCENE_FILES = ("noun.location",)


class TagListError(ValueError):
    """A list that cannot become a label system; the message says which lines, and why."""


class Entry(NamedTuple):
    """A line of a list; ``type`` is empty where the list does not say it."""

    name: str
    type: str


def read(path: Path) -> list[Entry]:
    """The entries of a list of tags: UTF-8, a name a line, optionally a tab and its type; order gives the ids.

    Raises :class:`TagListError` naming every line that is empty, repeated or has an unknown type.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise TagListError(f"there is no list of tags at {path}") from None
    except UnicodeDecodeError as error:
        raise TagListError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from None
    lines = [line.strip(" ") for line in text.rstrip().splitlines()]
    if digest_bytes("\n".join(lines).encode()) == TAG2TEXT_DIGEST:
        return [Entry(name, _tag2text_type(index)) for index, name in enumerate(lines)]
    entries: list[Entry] = []
    seen: dict[tuple[str, str], int] = {}
    wrong = []
    for number, line in enumerate(lines, 1):
        name, _, type_ = (field.strip() for field in line.partition("\t"))
        key = (name.lower(), type_.lower())
        if not name:
            wrong.append(f"line {number} is empty, though its place is a tag's id")
        elif type_ and type_.lower() not in TYPES:
            wrong.append(f"line {number}: '{name}' has the type '{type_}', which may be {', '.join(TYPES)}")
        elif key in seen:
            wrong.append(f"line {number}: '{name}' stands in line {seen[key]} already")
        seen.setdefault(key, number)
        entries.append(Entry(name, type_.lower()))
    if not lines:
        wrong.append("it holds no tag")
    if wrong:
        raise TagListError(f"{path}: " + "; ".join(wrong))
    return entries


def settle_entries(entries: Iterable[Entry], counted: Iterable[Word], wordnet: str) -> list[Entry]:
    """The entries with the types that their list leaves open: the corpus', then WordNet's, else object."""
    counted = list(counted)
    types = _most_frequent_types(counted)
    things = _most_frequent_types(word for word in counted if word.type in ("object", "scene"))
    settled = []
    for name, type_ in entries:
        lemma = name.lower()
        if type_ == THING:
            type_ = things.get(lemma) or _wordnet_type(lemma, wordnet, ("object",))
        settled.append(Entry(name, type_ or types.get(lemma) or _wordnet_type(lemma, wordnet, TYPES)))
    return settled


def _tag2text_type(index: int) -> str:
    if index < TAG2TEXT_ACTIONS:
        return THING
    return "action" if index < TAG2TEXT_ATTRIBUTES else "attribute"


def _most_frequent_types(counted: Iterable[Word]) -> dict[str, str]:
    # The most frequent comes first, so in reversed order it has the last word.
    return {word.lemma: word.type for word in reversed(settle_types(counted, 0))}


def _wordnet_type(lemma: str, wordnet: str, types: Iterable[str]) -> str:
    """The type of the sense that people use most, by WordNet's counts; a scene where it is a place."""
    found = {type_: senses(lemma, type_, wordnet) for type_ in types if type_ != "scene"}
    counts = {
        type_: sum(form.count() for synset in synsets for form in synset.lemmas() if form.name().lower() == lemma)
        for type_, synsets in found.items()
        if synsets
    }
    best = max(counts, key=counts.__getitem__, default="object")
    is_place = best == "object" and counts and found["object"][0].lexname() in SCENE_FILES
    return "scene" if is_place else best
