"""Which words mean the same: proposals with their evidence and score, and which of them merge by themselves.

A source says how strongly it holds that two words of one type mean the same, from 0 to 1. A proposal's score is that of
independent witnesses, ``1 - product(1 - s)``, and it merges by itself from :attr:`BuildLabelsSettings.merge_bar` on.

====================  =====  =======================================================================================
evidence              score  why
====================  =====  =======================================================================================
hyphen                0.98   the same letters, once hyphens and spaces are gone
spelling              0.97   the same word in British and American spelling
plural                0.95   singular and plural of one noun, of those that mean the same in both
curated               0.90   the list of everyday synonyms that comes with the package
wordnet               0.55   both words' most frequent sense is one synset; alone it is too noisy (RAM, section 3.1)
wordnet, one way      0.30   the most frequent sense of one of them is a lesser sense of the other
embedding             <0.65  cosine similarity c of the words' sentence embeddings: 0.65 (c - 0.5) / 0.5
====================  =====  =======================================================================================

So no source but the first four merges alone. Embeddings cannot: they put left beside right, and car beside truck.
"""

from __future__ import annotations

import math
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.labels.counts import Word
from tasks.labels.spelling import american_form, hyphen_form, singular_form
from tasks.labels.words import lines

if TYPE_CHECKING:
    from nltk.corpus.reader.wordnet import Synset, WordNetCorpusReader

HYPHEN, SPELLING, PLURAL, CURATED, WORDNET, WORDNET_ONE_WAY, EMBEDDING = 0.98, 0.97, 0.95, 0.9, 0.55, 0.3, 0.65
WRITTEN_FORMS = frozenset({"hyphen", "spelling", "plural"})
LEAST_COSINE = 0.6
WORDNET_PARTS = {"object": "n", "scene": "n", "attribute": "a", "action": "v"}


@dataclass(frozen=True)
class Proposal:
    """``word`` may share the tag of ``name``: the rarer of two words of one type folds into the more frequent."""

    word: str
    name: str
    type: str
    evidence: tuple[str, ...]
    score: float

    def __str__(self) -> str:
        return f"{self.word} ({self.score:.2f}: {', '.join(self.evidence)})"


Pairs = Iterator[tuple[Word, Word, str, float]]


def propose(words: Sequence[Word], rare: Sequence[Word] = (), wordnet: str = "") -> list[Proposal]:
    """Every pair of ``words`` that some source holds to mean the same, the surest first.

    ``rare`` are words too rare for a tag of their own; only written forms and the curated list are asked about them.
    """
    everything = [*words, *rare]
    found: dict[tuple[Word, Word], dict[str, float]] = defaultdict(dict)
    sources: list[Pairs] = [
        _same_form(everything, "hyphen", HYPHEN, hyphen_form),
        _same_form(everything, "spelling", SPELLING, lambda lemma: hyphen_form(american_form(lemma))),
        _same_form([word for word in everything if word.type in ("object", "scene")], "plural", PLURAL,
                   lambda lemma: hyphen_form(american_form(singular_form(lemma)))),
        _curated(everything),
        _embedding(words),
    ]  # fmt: skip
    if wordnet_reader(wordnet) is not None:
        sources.append(_wordnet(words, wordnet))
    for source in sources:
        for one, other, evidence, score in source:
            name, word = sorted((one, other), key=lambda entry: (-entry.count, entry.lemma))
            if evidence not in WRITTEN_FORMS or WRITTEN_FORMS.isdisjoint(found[name, word]):
                found[name, word][evidence] = score  # of the written forms, each containing the last, only the surest
    proposals = [
        Proposal(word.lemma, name.lemma, name.type, tuple(evidence), _together(evidence))
        for (name, word), evidence in found.items()
    ]
    return sorted(proposals, key=lambda one: (-one.score, one.type, one.name, one.word))


def source_names(wordnet: str) -> list[str]:
    """The sources that proposals come from, for the report."""
    sources = ["written forms", "everyday synonyms", "embeddings"]
    return [*sources, "WordNet"] if wordnet_reader(wordnet) is not None else sources


def _together(evidence: Mapping[str, float]) -> float:
    # A source counts once, by its strongest evidence: WordNet may join two words in several senses.
    strongest: dict[str, float] = defaultdict(float)
    for text, score in evidence.items():
        source = text.split()[0]
        strongest[source] = max(strongest[source], score)
    return round(1 - math.prod(1 - score for score in strongest.values()), 3)


def merge(
    words: Iterable[Word],
    proposals: Iterable[Proposal],
    bar: float,
    preferred: Set[Word] = frozenset(),
    fixed: Set[Word] = frozenset(),
) -> dict[Word, Word]:
    """For every word the word whose tag it shares, itself where it has its own; proposals below ``bar`` change nothing.

    Written forms of one word fold into the most frequent of them, however many steps away. Beyond that a word folds
    only into a word that it is itself a synonym of: chains of near-synonyms would end far from where they began.
    Words that are ``preferred`` name the tag although others are more frequent; ``fixed`` words never fold.
    """
    forms: dict[Word, Word] = {}
    meanings: dict[Word, Word] = {}
    by_key = {(word.lemma, word.type): word for word in words}

    def form(word: Word) -> Word:
        while word in forms:
            word = forms[word]
        return word

    def ends(proposal: Proposal) -> tuple[Word, Word]:
        both = (form(by_key[lemma, proposal.type]) for lemma in (proposal.name, proposal.word))
        first, second = sorted(
            both, key=lambda word: (word not in fixed, word not in preferred, -word.count, word.lemma)
        )
        return first, second

    sure = [one for one in proposals if one.score >= bar]
    for proposal in sure:
        first, second = ends(proposal)
        if first != second and second not in fixed and WRITTEN_FORMS.intersection(proposal.evidence):
            forms[second] = first
    for proposal in sure:
        first, second = ends(proposal)
        is_head = second in fixed or second in meanings.values()
        if first != second and not is_head and first not in meanings and second not in meanings:
            meanings[second] = first
    return {word: meanings.get(form(word), form(word)) for word in by_key.values()}


def _same_form(words: Iterable[Word], evidence: str, score: float, form: Callable[[str], str]) -> Pairs:
    groups: dict[tuple[str, str], list[Word]] = defaultdict(list)
    for word in words:
        groups[form(word.lemma), word.type].append(word)
    for group in groups.values():
        for other in group[1:]:
            yield group[0], other, evidence, score


@cache
def everyday_synonyms() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The groups of the curated list, as (type, words)."""
    groups = []
    for line in lines("everyday_synonyms.txt"):
        type_, _, group = line.partition(": ")
        head, _, others = group.partition(" = ")
        groups.append((type_, (head, *(word.strip() for word in others.split(",")))))
    return tuple(groups)


def _curated(words: Iterable[Word]) -> Pairs:
    by_key = {(word.lemma, word.type): word for word in words}
    for type_, group in everyday_synonyms():
        # What the list calls an object a parser may call a scene, and the other way round.
        for found_type in ("object", "scene") if type_ in ("object", "scene") else (type_,):
            present = [by_key[lemma, found_type] for lemma in group if (lemma, found_type) in by_key]
            if present:
                first = max(present, key=lambda word: word.count)
                for other in present:
                    if other is not first:
                        yield first, other, "curated", CURATED


@cache
def wordnet_reader(folder: str) -> WordNetCorpusReader | None:
    """WordNet as nltk reads it from ``folder`` (one or more, as in ``NLTK_DATA``); None where it is not there."""
    for root in folder.split(os.pathsep):
        corpus = Path(root) / "corpora" / "wordnet"
        if root and (corpus / "data.noun").exists():
            import nltk
            from nltk.corpus.reader.wordnet import WordNetCorpusReader

            nltk.data.path.append(root)  # nltk opens only files below the folders of this list
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that other languages are missing
                return WordNetCorpusReader(str(corpus), None)
    return None


def senses(lemma: str, type_: str, folder: str) -> list[Synset]:
    """The synsets of ``lemma`` in the role of ``type_``, the most frequent sense first; none without WordNet."""
    reader = wordnet_reader(folder)
    return [] if reader is None else reader.synsets(lemma.replace(" ", "_"), WORDNET_PARTS[type_])


def _wordnet(words: Iterable[Word], folder: str) -> Pairs:
    all_senses = {word: senses(word.lemma, word.type, folder) for word in words}
    first: dict[tuple[str, str], list[Word]] = defaultdict(list)
    for word, synsets in all_senses.items():
        if synsets:
            first[synsets[0].name(), word.type].append(word)
    for word, synsets in all_senses.items():
        for rank, synset in enumerate(synsets):
            for other in first.get((synset.name(), word.type), ()):
                # Both first senses meet twice in this loop: once is enough.
                if rank or word < other:
                    score = WORDNET_ONE_WAY if rank else WORDNET
                    yield word, other, f"wordnet {synset.name()}" + (f", sense {rank + 1}" if rank else ""), score


def _embedding(words: Sequence[Word]) -> Pairs:
    lemmas = {lemma: place for place, lemma in enumerate(dict.fromkeys(word.lemma for word in words))}
    vectors = _embed(list(lemmas))
    for type_ in dict.fromkeys(word.type for word in words):
        same_type = [word for word in words if word.type == type_]
        of_type = vectors[[lemmas[word.lemma] for word in same_type]]
        for start in range(0, len(same_type), 1024):  # a block of rows at a time: memory stays flat
            cosines = of_type[start : start + 1024] @ of_type.T
            for row, column in np.argwhere(cosines >= LEAST_COSINE):
                one, other = start + int(row), int(column)
                if one < other:
                    cosine = round(float(cosines[row, column]), 2)
                    score = EMBEDDING * (min(cosine, 1.0) - 0.5) / 0.5
                    yield same_type[one], same_type[other], f"embedding {cosine:.2f}", score


def _embed(texts: list[str]) -> np.ndarray:
    """(n, 384) float32, L2-normalised: the packaged MiniLM sentence encoder."""
    if not texts:
        return np.zeros((0, 384), np.float32)
    from models.sentence_encoder import minilm  # with torch

    return minilm().encode(texts).numpy()
