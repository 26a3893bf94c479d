"""The stage `parse-captions` (a map): captions to typed phrases.

Reads ``pairs``, writes ``phrases`` (a row a caption, also where nothing was found) and ``phrases_rejected``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from storage.schemas import contract
from tasks.parsing import CaptionParser
from tasks.settings import EngineSettings, ParseSettings

if TYPE_CHECKING:
    from tasks.inputs import Inputs

_REASONS = {
    "caption_empty": "The caption is empty.",
    "caption_without_words": "Nothing but punctuation, symbols, digits or markup.",
    "caption_too_long": "More words than the setting max_words allows.",
    "caption_not_english": "Most of its words are not English.",
}


def build(
    settings: ParseSettings, inputs: Inputs, engine: EngineSettings
) -> Callable[[Mapping[str, pa.Table]], Mapping[str, pa.Table]]:
    """A worker that parses the captions of one shard of ``pairs`` (columns ``image_id`` and ``captions``)."""
    parser = CaptionParser(settings.max_words)

    def parse(shard: Mapping[str, pa.Table]) -> Mapping[str, pa.Table]:
        pairs = shard["pairs"]
        keys = [
            (image_id, index, caption)
            for image_id, captions in zip(pairs["image_id"].to_pylist(), pairs["captions"].to_pylist(), strict=True)
            for index, caption in enumerate(captions)
        ]
        rows: list[dict[str, Any]] = []
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
