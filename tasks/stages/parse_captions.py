"""The stage `parse-captions` (a map): captions to typed phrases.

Reads ``pairs``, writes ``phrases`` (a row a caption, also where nothing was found) and ``phrases_rejected``. A caption
whose tags the source gives is not parsed: they are its phrases. Tags that are the image's and no caption's have the
caption index -1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from storage.schemas import contract
from tasks.parsing import CaptionParser
from tasks.settings.executor import ExecutorSettings
from tasks.settings.parse_captions import ParseCaptionsSettings

if TYPE_CHECKING:
    from tasks.machine.inputs import Inputs

_REASONS = {
    "caption_empty": "The caption is empty.",
    "caption_without_words": "Nothing but punctuation, symbols, digits or markup.",
    "caption_too_long": "More words than the setting max_words allows.",
    "caption_not_english": "Most of its words are not English.",
}


def build(
    settings: ParseCaptionsSettings, inputs: Inputs, executor: ExecutorSettings
) -> Callable[[Mapping[str, pa.Table]], Mapping[str, pa.Table]]:
    """A worker that parses the captions of one shard of ``pairs`` (columns ``image_id`` and ``captions``)."""
    parser = CaptionParser(settings.max_words)

    @cache
    def type_of(name: str) -> str:
        """What the parser takes a tag for that stands alone; an object where it does not know."""
        found = parser.parse([name])[0].phrases
        return next((phrase.type for phrase in found if phrase.lemma == name.lower()), "object")

    def parse(shard: Mapping[str, pa.Table]) -> Mapping[str, pa.Table]:
        pairs = shard["pairs"]
        keys: list[tuple[str, int, str]] = []
        rows: list[dict[str, Any]] = []
        for pair in pairs.select(["image_id", "captions", "ready_tags"]).to_pylist():
            ready = {one["caption_index"]: one["tags"] for one in pair["ready_tags"] or ()}
            for index, tags in ready.items():
                phrases = [_phrase_of(tag["name"], tag["type"] or type_of(tag["name"])) for tag in tags]
                rows.append({"image_id": pair["image_id"], "caption_index": index, "phrases": phrases})
            texts = enumerate(pair["captions"])
            keys += [(pair["image_id"], index, caption) for index, caption in texts if index not in ready]
        rejected: list[dict[str, Any]] = []
        for (image_id, index, _), parsed in zip(keys, parser.parse([caption for *_, caption in keys]), strict=True):
            phrases = [vars(phrase) for phrase in parsed.phrases]
            rows.append({"image_id": image_id, "caption_index": index, "phrases": phrases})
            if parsed.rejected:
                rejected.append(
                    {
                        "image_id": image_id,
                        "where": f"caption {index}",
                        "reason": parsed.rejected,
                        "detail": _REASONS[parsed.rejected],
                    }
                )
        return {
            "phrases": pa.Table.from_pylist(rows, contract("phrases").schema),
            "phrases_rejected": pa.Table.from_pylist(rejected, contract("phrases_rejected").schema),
        }

    return parse


def _phrase_of(name: str, type_: str) -> dict[str, Any]:
    """A tag that the source gives, which stands nowhere in the caption."""
    return {"surface": name, "lemma": name.lower(), "type": type_, "start": 0, "end": 0}
