"""The settings of `ingest`."""

from __future__ import annotations

from pydantic import Field

from tasks.settings.base import Settings
from tasks.settings.sources import MixedSource, OneSource, SampleSource


class IngestSettings(Settings):
    """How a source becomes pairs."""

    source: OneSource | MixedSource = Field(SampleSource(), description="Where images and captions come from.")
    shard_size: int = Field(256, ge=1, description="Images a part.")
    max_pixels: int = Field(64_000_000, ge=1, description="Larger images are rejected before they are decoded.")
    calibrate_share: float = Field(0.05, ge=0, lt=1, description="Held out for thresholds, where no split is given.")
    test_share: float = Field(0.1, ge=0, lt=1, description="Held out for evaluation, where no split is given.")
    error_budget: float = Field(0.2, ge=0, le=1, description="The share of rejected rows beyond which it fails.")
