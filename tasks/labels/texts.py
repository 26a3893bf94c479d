"""From texts to the tags that they name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tasks.labels.lookup import TagLookup
from tasks.labels.tags import Tag
from tasks.parsing import CaptionParser, ParsedCaption

Texts = Sequence[Sequence[str]]
TagIds = list[list[list[int]]]


def tag_reader(tags: Iterable[Tag]) -> Callable[[Texts], TagIds]:
    """A function from texts, a list an image, to the ids of the active ones of ``tags`` that each text names.

    A text's ids are in the order in which it names them, each once. The parser is loaded here, once.
    """
    parser, lookup = CaptionParser(), TagLookup(tags)

    def read(texts: Texts) -> TagIds:
        parsed = iter(parser.parse([text for of_image in texts for text in of_image]))
        return [[ids(next(parsed)) for _ in of_image] for of_image in texts]

    def ids(text: ParsedCaption) -> list[int]:
        named = (lookup.find(phrase.lemma, phrase.type) for phrase in text.phrases)
        return list(dict.fromkeys(tag.tag_id for tag in named if tag is not None and tag.active))

    return read
