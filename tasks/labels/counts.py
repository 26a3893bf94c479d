"""From the phrases of a corpus to the words that become tags."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from storage.schemas import DESCRIBED
from tasks.labels.words import words
from tasks.machine.inputs import Inputs
from tasks.settings.build_labels import BuildLabelsSettings

STOP_WORDS = words("stop_words.txt")

# A word counts once a caption, and is never carried from one caption to another: no global DISTINCT, flat memory.
# What a person says of held-out pictures makes no tag: training would have no picture of it.
WORDS = f"""
    SELECT word.lemma AS lemma, word.type AS type, count(*) AS count
    FROM (
        SELECT unnest(list_distinct([{{'lemma': p.lemma, 'type': p.type}} FOR p IN c.phrases])) AS word
        FROM phrases AS c WHERE c.caption_index != {DESCRIBED}
    )
    GROUP BY ALL
    HAVING count(*) >= 2
    ORDER BY count DESC, lemma, type
"""


@dataclass(frozen=True, order=True)
class Word:
    """A lemma in the role of ``type``, and the number of captions that hold it so."""

    lemma: str
    type: str
    count: int


def count_words(inputs: Inputs) -> list[Word]:
    """Every (lemma, type) that stands in at least two captions, the most frequent first."""
    return [Word(**row) for row in inputs.sql(WORDS).to_pylist()]


def count_captions(inputs: Inputs) -> int:
    """The number of parsed captions."""
    query = f"SELECT count(*) AS captions FROM phrases WHERE caption_index != {DESCRIBED}"
    return int(inputs.sql(query)["captions"][0].as_py())


def settle_types(counted: Iterable[Word], least_share: float, known: Mapping[str, str] | None = None) -> list[Word]:
    """The words without the roles that only a parser's mistakes gave them, the most frequent first.

    Object and scene are two readings of one thing, so a lemma keeps the more frequent of them (or the one that
    ``known`` gives it), with the count of both.
    Another role stays when it has at least ``least_share`` of the lemma's mentions: orange is a fruit and a colour.
    """
    by_lemma: dict[str, dict[str, int]] = defaultdict(dict)
    for word in counted:
        by_lemma[word.lemma][word.type] = word.count
    settled = []
    for lemma, types in by_lemma.items():
        total = sum(types.values())
        things = {type_: types.pop(type_) for type_ in ("object", "scene") if type_ in types}
        if things:
            types[(known or {}).get(lemma, max(things, key=things.__getitem__))] = sum(things.values())
        settled += [Word(lemma, type_, count) for type_, count in types.items() if count >= least_share * total]
    return sorted(settled, key=lambda word: (-word.count, word.lemma, word.type))


def select(settled: Iterable[Word], captions: int, settings: BuildLabelsSettings) -> list[Word]:
    """The words that become tags: off the stop list, frequent enough, the first ``max_tags`` of each type."""
    least = max(settings.min_count, settings.min_share * captions)
    taken: dict[str, int] = defaultdict(int)
    selected = []
    for word in settled:
        if word.count >= least and word.lemma not in STOP_WORDS and taken[word.type] < settings.max_tags:
            taken[word.type] += 1
            selected.append(word)
    return selected
