"""Several sources in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.sources.room import SOURCES
from tasks.sources.source import Source

if TYPE_CHECKING:
    OneSource = Source
else:
    OneSource = SOURCES.union()


class MixedSource(Source):
    """Several sources in one: an image that stands in two of them is one image with all its captions."""

    kind: Literal["mixed"] = "mixed"
    parts: tuple[OneSource, ...] = Field(min_length=1, description="The sources, in order.")

    def sources(self) -> tuple[Source, ...]:
        """Its parts."""
        return self.parts
