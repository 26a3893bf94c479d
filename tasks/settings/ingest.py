"""The settings of `ingest`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter, ValidationError

from tasks.settings.base import Settings
from tasks.sources.mixed import MixedSource
from tasks.sources.room import SOURCES
from tasks.sources.sample import SampleSource
from tasks.sources.source import Source

if TYPE_CHECKING:
    AnySource = Source
else:
    AnySource = SOURCES.union(MixedSource)


class IngestSettings(Settings):
    """How a source becomes pairs."""

    without_effect: ClassVar[frozenset[str]] = Settings.without_effect | {"shard_size"}  # of parts that are there

    source: AnySource = Field(SampleSource(), description="Where images and captions come from.")
    shard_size: int = Field(256, ge=1, description="So many images make a part, or fewer that have 64 MB together.")
    max_pixels: int = Field(64_000_000, ge=1, description="Larger images are rejected before they are decoded.")
    calibrate_share: float = Field(
        0.05, ge=0, lt=1, description="This share is held out for thresholds, where no split is given."
    )
    test_share: float = Field(
        0.1, ge=0, lt=1, description="This share is held out for evaluation, where no split is given."
    )
    bare: Literal["use", "reject"] = Field(
        "use", description="Pictures without a caption: the engine annotates them, or they are rejected."
    )
    error_budget: float = Field(0.2, ge=0, le=1, description="The stage fails beyond this share of rejected rows.")


def source_titles(source: Mapping[str, Any]) -> list[str]:
    """What people call the sources of which a stored one (its settings as a dictionary) is made."""
    try:
        known: Source = TypeAdapter(AnySource).validate_python(source)
    except ValidationError:  # the package that brought it has gone
        return [str(source.get("kind", "a data set"))]
    return [part.title() for part in known.sources()]
