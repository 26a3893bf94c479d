"""The sample world as a source: pictures that are drawn when they are read, with captions and the truth about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from pydantic import Field

from storage.keys import digest
from tasks.sources.item import SourceItem
from tasks.sources.source import Source

LICENCE = "CC-BY-4.0 (pictures by Twemoji)"


class SampleSource(Source):
    """The sample world, drawn on the spot."""

    kind: Literal["sample"] = "sample"
    seed: int = Field(0, ge=0, description="Another seed is another world.")
    train: int = Field(1500, ge=1, description="Image-caption pairs to learn from.")
    fine_tune: int = Field(200, ge=0, description="Fully described pairs to fine-tune on.")
    calibrate: int = Field(100, ge=0, description="Fully described pairs to set thresholds on.")
    test: int = Field(400, ge=1, description="Pictures to measure on.")

    def items(self) -> list[SourceItem]:
        """One item a picture, nothing drawn."""
        from tasks.sample_world import world

        version = f"{digest([world.VERSION, self.identity()])}-0"
        return [
            SourceItem(name, f"sample world {name}", split=split, version=version, licence=LICENCE)
            for name, split in world.item_names(self)
        ]

    def read(self, item: SourceItem) -> Iterator[SourceItem]:
        """The picture, drawn."""
        from tasks.sample_world import world

        drawn = world.draw(self, item.name)
        truth = {
            "objects": [{"name": name, "box": list(box)} for name, box in drawn.objects],
            "tags": [{"name": name, "type": type_} for name, type_ in (*drawn.tags, *drawn.other_words)],
            "caption_of": drawn.caption_of,
        }
        yield replace(item, data=drawn.image, captions=drawn.captions, truth=truth)

    def title(self) -> str:
        """What people call it."""
        return f"the sample world, seed {self.seed}"
