"""Captions in, typed phrases out: the same for one caption and for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.parsing import scene_graphs, tags, web_noise
from tasks.parsing.language_model import language_model
from tasks.parsing.lemmas import Lemmas
from tasks.parsing.tags import Phrase
from tasks.parsing.tokens import Tokens

_BATCH = 256
_MOST_WORDS = 400_000  # spaCy keeps every word it meets, for ever: a fresh model after so many


@dataclass(frozen=True)
class ParsedCaption:
    """The phrases of a caption, or the reason (a short code) why it has none."""

    phrases: tuple[Phrase, ...] = ()
    rejected: str = ""


class CaptionParser:
    """Parses captions in batches; captions of more than ``max_words`` words are rejected."""

    def __init__(self, max_words: int = 200) -> None:
        self._max_words = max_words
        self._nlp = language_model()
        self._lemmas = Lemmas(self._nlp)

    def _forget_rare_words(self) -> None:
        if len(self._nlp.vocab) > _MOST_WORDS:
            language_model.cache_clear()
            self._nlp = language_model()

    def parse(self, captions: Sequence[str]) -> list[ParsedCaption]:
        """One result a caption, in order; identical captions are parsed once."""
        parsed: dict[str, ParsedCaption] = {}
        texts: dict[str, tuple[str, list[int]]] = {}
        for caption in dict.fromkeys(captions):
            cleaned, reason = web_noise.clean(caption, self._lemmas, self._max_words)
            if reason:
                parsed[caption] = ParsedCaption(rejected=reason)
            else:
                texts[caption] = web_noise.collapse_spaces(cleaned)
        self._forget_rare_words()
        documents = self._nlp.pipe((text for text, _ in texts.values()), batch_size=_BATCH)
        for (caption, (_, positions)), document in zip(texts.items(), documents, strict=True):
            tokens = Tokens.from_doc(document)
            found = tags.phrases(tokens, scene_graphs.build(tokens), self._lemmas)
            parsed[caption] = ParsedCaption(tuple(_in_caption(phrase, caption, positions) for phrase in found))
        return [parsed[caption] for caption in captions]


def _in_caption(phrase: Phrase, caption: str, positions: list[int]) -> Phrase:
    """The phrase as it stands in the caption before it was cleaned."""
    start, end = positions[phrase.start], positions[phrase.end - 1] + 1
    return Phrase(caption[start:end], phrase.lemma, phrase.type, start, end)
