"""The stage `assign-tags` (map): phrases become tag ids of the pinned label system; unknown words become candidates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from storage.schemas import contract
from tasks.labels.counts import STOP_WORDS
from tasks.labels.lookup import TagLookup
from tasks.labels.tags import read_tags
from tasks.machine.inputs import Inputs
from tasks.settings.assign_tags import AssignTagsSettings
from tasks.settings.executor import ExecutorSettings


def build(
    settings: AssignTagsSettings, inputs: Inputs, executor: ExecutorSettings
) -> Callable[[Mapping[str, pa.Table]], Mapping[str, pa.Table]]:
    """A worker that maps the ``phrases`` of a shard.

    Returns ``caption_tags`` (ids in the order of first mention, each once) and the unknown words as ``candidates``.
    """
    lookup = TagLookup(read_tags(inputs.table("label_system")))

    def assign(shard: Mapping[str, pa.Table]) -> Mapping[str, pa.Table]:
        captions = shard["phrases"]
        words, positions = _distinct_words(captions["phrases"])
        tags = [lookup.find(*word) for word in words]
        ids = [tag.tag_id if tag is not None and tag.active else None for tag in tags]
        is_unknown = [tag is None and word[0] not in STOP_WORDS for tag, word in zip(tags, words, strict=True)]
        tag_ids = []
        unknown: Counter[int] = Counter()
        for caption in positions:
            named = dict.fromkeys(caption)
            tag_ids.append([tag_id for tag_id in dict.fromkeys(ids[word] for word in named) if tag_id is not None])
            unknown.update(word for word in named if is_unknown[word])
        caption_tags = captions.select(["image_id", "caption_index"]).append_column(
            "tag_ids", pa.array(tag_ids, pa.list_(pa.int32()))
        )
        candidates = [
            {"lemma": words[word][0], "type": words[word][1], "count": count}
            for word, count in unknown.most_common()
            if count >= settings.min_candidate_count
        ]
        return {
            "caption_tags": caption_tags,
            "candidates": pa.Table.from_pylist(candidates, schema=contract("candidates").schema),
        }

    return assign


def _distinct_words(phrases: pa.ChunkedArray) -> tuple[list[tuple[str, str]], list[list[int]]]:
    """The distinct (lemma, type) of a column of phrases, and for each caption the places of its words among them."""
    lists = phrases.combine_chunks()
    flat = lists.flatten()
    lemmas, types = flat.field("lemma"), flat.field("type")
    joined = pc.binary_join_element_wise(lemmas, types, "\n").dictionary_encode()
    words = [(lemma, type_) for lemma, _, type_ in (word.rpartition("\n") for word in joined.dictionary.to_pylist())]
    return words, pa.ListArray.from_arrays(_offsets(lists), joined.indices).to_pylist()


def _offsets(lists: pa.ListArray) -> pa.Array:
    """The offsets into the flattened list, from 0, also where ``lists`` is a slice of a longer array."""
    return pc.subtract(lists.offsets, lists.offsets[0])
