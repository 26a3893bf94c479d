"""The words of one parsed caption as plain lists, so that rules need not go through spaCy's objects again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from spacy.tokens import Doc


@dataclass(frozen=True)
class Tokens:
    """One caption's tokens; every list has one entry a token, and ``heads`` holds token indices.

    ``chunks`` are the base noun phrases as (first token, last token + 1, root token).
    """

    text: str
    words: list[str]
    tags: list[str]  # Penn Treebank
    pos: list[str]  # Universal
    deps: list[str]
    lemmas: list[str]
    heads: list[int]
    starts: list[int]  # character offsets into text
    chunks: list[tuple[int, int, int]]

    @classmethod
    def from_doc(cls, doc: Doc) -> Tokens:
        rows = [(t.text, t.tag_, t.pos_, t.dep_, t.lemma_, t.head.i, t.idx) for t in doc]
        columns: Any = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(7)]
        words, tags, pos, deps, lemmas, heads, starts = columns
        chunks = [(chunk.start, chunk.end, chunk.root.i) for chunk in doc.noun_chunks]
        return cls(doc.text, words, tags, pos, deps, lemmas, heads, starts, chunks)

    def __len__(self) -> int:
        return len(self.words)

    def end(self, i: int) -> int:
        """The character offset behind token ``i``."""
        return self.starts[i] + len(self.words[i])

    @cached_property
    def lower(self) -> list[str]:
        return [word.lower() for word in self.words]

    @cached_property
    def children(self) -> list[list[int]]:
        """The dependents of each token, from left to right."""
        result: list[list[int]] = [[] for _ in self.words]
        for i, head in enumerate(self.heads):
            if head != i:
                result[head].append(i)
        return result

    def span(self, start: int, end: int) -> str:
        """The text of tokens ``start`` to ``end - 1``."""
        return self.text[self.starts[start] : self.end(end - 1)] if end > start else ""

    def lemma_span(self, start: int, end: int) -> str:
        """Their lemmas, spaced as in the text."""
        parts = []
        for i in range(start, end):
            parts.append(self.lemmas[i])
            if i + 1 < len(self.words):
                parts.append(self.text[self.end(i) : self.starts[i + 1]])
        return "".join(parts).strip()
