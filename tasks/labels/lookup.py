"""From a word of a caption to its tag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from tasks.labels.counts import Word
from tasks.labels.tags import Tag


class TagLookup:
    """Finds the tag of a lemma in a role, be the tag active or not; active tags come first.

    Where no tag has the lemma in that role, it is the lemma's most frequent tag: a parser's slip should not lose the
    word, and a role that was too rare for a tag of its own has no other.
    """

    def __init__(self, tags: Iterable[Tag]) -> None:
        self._exact: dict[tuple[str, str], Tag] = {}
        self._dominant: dict[str, Tag] = {}
        for tag in sorted(tags, key=lambda tag: (not tag.active, -tag.count, tag.tag_id)):
            for word in tag.words:
                self._exact.setdefault((word, tag.type), tag)
                self._dominant.setdefault(word, tag)

    def find(self, lemma: str, type_: str) -> Tag | None:
        """The tag of ``lemma`` in the role of ``type_``, or None where the label system does not know the word."""
        return self._exact.get((lemma, type_)) or self._dominant.get(lemma)


def recount(tags: Iterable[Tag], counted: Iterable[Word]) -> list[Tag]:
    """The tags with the number of captions that name them; a caption with two synonyms of a tag counts twice."""
    tags = list(tags)
    lookup = TagLookup(tags)
    counts: Counter[int] = Counter()
    for word in counted:
        tag = lookup.find(word.lemma, word.type)
        if tag is not None and not tag.retired:
            counts[tag.tag_id] += word.count
    return [replace(tag, count=counts[tag.tag_id]) for tag in tags]
