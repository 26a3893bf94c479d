"""Which categories of a list (a detection set's classes, a product's tags) are covered, and through which word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tasks.labels.counts import Word
from tasks.labels.synonyms import Proposal, propose
from tasks.labels.tags import TYPES, Tag


@dataclass(frozen=True)
class Coverage:
    """How one category stands. ``how`` is ``name``, ``synonym``, ``near`` or ``missing``.

    ``via`` is the word of the tag that matches. A word that is only ``near`` does not cover the category; it is shown
    with its ``evidence``, so that a person can decide.
    """

    category: str
    how: str
    tag: Tag | None = None
    via: str = ""
    evidence: str = ""

    @property
    def covered(self) -> bool:
        return self.how in ("name", "synonym")

    def __str__(self) -> str:
        if self.tag is None:
            return f"{self.category}: missing"
        off = "" if self.tag.active else ", switched off"
        tag = f"tag {self.tag.tag_id} '{self.tag.name}' ({self.tag.type}{off})"
        if self.how == "name":
            return f"{self.category}: {tag}"
        through = f"{self.category}: {tag} through '{self.via}'" + (f" ({self.evidence})" if self.evidence else "")
        return through if self.covered else f"{self.category}: missing; nearest is " + through.partition(": ")[2]


def coverage(tags: Iterable[Tag], categories: Iterable[str], bar: float, wordnet: str = "") -> list[Coverage]:
    """One :class:`Coverage` a category, in their order; proposals of score ``bar`` or more count as synonyms."""
    owners: dict[tuple[str, str], Tag] = {}
    for tag in sorted(tags, key=lambda tag: (not tag.active, -tag.count)):
        if not tag.retired:
            for word in tag.words:
                owners.setdefault((word.lower(), tag.type), tag)
    found = {}
    categories = list(dict.fromkeys(categories))
    for category in categories:
        held = [owners[category.lower(), type_] for type_ in TYPES if (category.lower(), type_) in owners]
        if held:
            tag = max(held, key=lambda tag: (tag.active, tag.count))
            is_name = tag.name.lower() == category.lower()
            found[category] = Coverage(category, "name" if is_name else "synonym", tag, "" if is_name else category)
    open_ones = {category.lower() for category in categories if category not in found}
    nearest = _nearest(owners, open_ones, wordnet) if open_ones else {}
    for category in categories:
        if category not in found:
            best = nearest.get(category.lower())
            found[category] = Coverage(category, "missing") if best is None else _through(category, best, owners, bar)
    return [found[category] for category in categories]


def _nearest(owners: dict[tuple[str, str], Tag], lemmas: set[str], wordnet: str) -> dict[str, Proposal]:
    """The surest proposal between each of ``lemmas``, in any role, and a word of the label system."""
    known: Sequence[Word] = [Word(word, type_, 1) for word, type_ in owners]
    asked = [Word(lemma, type_, 0) for lemma in lemmas for type_ in TYPES]
    best: dict[str, Proposal] = {}
    for proposal in propose([*known, *asked], wordnet=wordnet):
        # Known words are the more frequent, so a category stands on the side of the word that folds.
        if proposal.word in lemmas and proposal.name not in lemmas:
            best.setdefault(proposal.word, proposal)
    return best


def _through(category: str, best: Proposal, owners: dict[tuple[str, str], Tag], bar: float) -> Coverage:
    how = "synonym" if best.score >= bar else "near"
    evidence = f"{best.score:.2f}: {', '.join(best.evidence)}"
    return Coverage(category, how, owners[best.name, best.type], best.name, evidence)
