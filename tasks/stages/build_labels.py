"""The stage `build-labels` (reduce): the words of a corpus, or a ready list, become a label system."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

import pyarrow as pa

from tasks.labels import edits, ready_lists
from tasks.labels.counts import STOP_WORDS, Word, count_captions, count_words, select, settle_types
from tasks.labels.grounding import is_groundable, prompt
from tasks.labels.lookup import recount
from tasks.labels.ready_lists import Entry
from tasks.labels.synonyms import merge, propose, source_names
from tasks.labels.tags import TYPES, Tag, read_tags, role, tags_table
from tasks.machine.inputs import Inputs
from tasks.settings.build_labels import NO_CAPTION, BuildLabelsSettings
from tasks.settings.executor import ExecutorSettings

log = logging.getLogger(__name__)


def reduce(settings: BuildLabelsSettings, inputs: Inputs, executor: ExecutorSettings) -> Mapping[str, pa.Table]:
    """The ``label_system`` of ``phrases``, with a person's ``label_edits`` applied, where there are such.

    Raises ValueError where there is no active tag: nothing after this could be computed.

    An earlier label system (``label_system_previous``) keeps its ids: a tag that is found again gets its own back, and
    one that is not is retired.
    """
    counted = count_words(inputs)
    inputs.progress(1, 2)
    previous = read_tags(inputs.table("label_system_previous")) if inputs.has("label_system_previous") else []
    entries: list[Entry] = []
    if settings.tag_list:
        listed = ready_lists.read(Path(settings.tag_list))
        entries = ready_lists.settle_entries(listed, counted, settings.wordnet)
    things = {entry.name.lower(): entry.type for entry in entries if role(entry.type) == "object"}
    settled = settle_types(counted, settings.min_type_share, things)
    changes = edits.read_table(inputs.table("label_edits")) if inputs.has("label_edits") else []
    captions = count_captions(inputs)
    selected = select(settled, captions, settings)
    tags = build(previous, entries, settled, selected, settings, {edit.tag_id for edit in changes if edit.type})
    tags = recount(edits.apply(tags, changes), counted)
    if not any(tag.active for tag in tags):
        raise ValueError(_no_tag(settled, captions, settings))
    return {"label_system": tags_table(tags)}


def _no_tag(settled: Sequence[Word], captions: int, settings: BuildLabelsSettings) -> str:
    """Why there is no tag, for a person."""
    if not captions:
        return NO_CAPTION
    first = next((word for word in settled if word.lemma not in STOP_WORDS), None)
    most = f"the most frequent word, '{first.lemma}', stands in {first.count}" if first else "no word stands in two"
    return (
        f"there is no tag to learn: of {captions:,} captions {most}, and build_labels.min_count asks for "
        f"{settings.min_count}; bring more captions, or a list of tags with build_labels.tag_list"
    )


def build(
    previous: Sequence[Tag],
    entries: Sequence[Entry],
    settled: Sequence[Word],
    selected: Sequence[Word],
    settings: BuildLabelsSettings,
    retyped: Set[int] = frozenset(),
) -> list[Tag]:
    """Tags for the ``entries`` of a ready list, else for the ``selected`` words; those of ``previous`` keep their ids.

    ``settled`` are all words of the corpus: the ones too rare for a tag of their own, or not on the list, may still be
    synonyms of a tag. ``retyped`` are the ids of tags to which a person gave another type than the corpus does.
    """
    words = {(word.lemma, word.type): word for word in settled if word.lemma not in STOP_WORDS}
    names = {words.setdefault((name.lower(), type_), Word(name.lower(), type_, 0)): name for name, type_ in entries}
    chosen = [*names, *(word for word in selected if word not in names)]
    heads = {word: word for word in words.values()}
    if settings.synonyms:
        log.info("synonyms are proposed by %s", ", ".join(source_names(settings.wordnet)))
        rare = set(words.values()).difference(chosen)
        known = {words[tag.key] for tag in previous if tag.active and tag.key in words}
        proposals = propose(chosen, sorted(rare), settings.wordnet)
        heads = merge(words.values(), proposals, settings.merge_bar, preferred=known, fixed=names.keys())
    groups: dict[Word, list[Word]] = defaultdict(list)
    for word, head in heads.items():
        groups[head].append(word)
    for group in groups.values():
        group.sort(key=lambda word: (-word.count, word.lemma))

    # A list gives its order, else the most frequent tag comes first.
    in_order = (
        list(names)
        if names
        else sorted(
            dict.fromkeys(heads[word] for word in selected),
            key=lambda head: (-sum(word.count for word in groups[head]), head.lemma, head.type),
        )[: settings.total or None]
    )
    ids = match_ids([(head, groups[head]) for head in in_order], previous, retyped)
    tags = {tag.tag_id: tag.retire() for tag in previous}
    next_id = max(tags, default=-1) + 1
    for head in in_order:
        if head not in ids:
            ids[head], next_id = next_id, next_id + 1
        name = names.get(head, head.lemma)
        tags[ids[head]] = Tag(
            ids[head],
            name,
            head.type,
            synonyms=tuple(word.lemma for word in groups[head] if word.lemma != name),
            count=sum(word.count for word in groups[head]),
            groundable=is_groundable(head.lemma, head.type),
            prompt=prompt(name),
        )
    return list(tags.values())


def match_ids(
    groups: Iterable[tuple[Word, Sequence[Word]]], previous: Iterable[Tag], retyped: Set[int] = frozenset()
) -> dict[Word, int]:
    """The id of the earlier tag that each group of words goes on from, by the group's first word; no id twice.

    A tag of the same name comes first, active or retired, then one named by another word of the group, then an
    active one that had the group's words among its synonyms. The type of a ``retyped`` tag does not matter.
    """
    groups, previous = list(groups), sorted(previous, key=lambda tag: (not tag.active, tag.tag_id))
    named: dict[tuple[str, str], int] = {}
    meant: dict[tuple[str, str], int] = {}
    for tag in previous:
        named.setdefault((tag.name.lower(), role(tag.type)), tag.tag_id)
        if tag.active:
            meant.update(dict.fromkeys(((word, role(tag.type)) for word in tag.synonyms), tag.tag_id))
    for tag in previous:
        if tag.tag_id in retyped:
            for type_ in TYPES:
                named.setdefault((tag.name.lower(), role(type_)), tag.tag_id)
    ids: dict[Word, int] = {}
    taken: set[int] = set()
    for owners, only_head in ((named, True), (named, False), (meant, False)):
        for head, group in groups:
            if head in ids:
                continue
            for word in [head] if only_head else group:
                tag_id = owners.get((word.lemma, role(word.type)))
                if tag_id is not None and tag_id not in taken:
                    ids[head] = tag_id
                    taken.add(tag_id)
                    break
    return ids
