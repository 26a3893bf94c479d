"""The settings of `judge`, which `audit` tries."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.settings.base import Settings


class JudgeSettings(Settings):
    """Which tags fall."""

    outlier_share: float = Field(
        0.1, ge=0, lt=1, description="So large a share of a tag's regions are outliers: those that are least typical."
    )
    outlier_measure: Literal["distance", "small_clusters"] = Field(
        "distance", description="An outlier is far from its centroid, or in one of the tag's smallest clusters."
    )
    region_threshold: float = Field(
        0.1, ge=0, le=1, description="A region speaks for its tag from this probability of the tag on."
    )
    doubt: float = Field(
        0.01, ge=0, le=1, description="Regions fell no tag that the whole picture gives this probability or more."
    )
    no_box: Literal["keep", "drop"] = Field(
        "keep", description="A tag that no region was found for is kept, or dropped."
    )
    least_agreement: float = Field(
        -4.0, description="A caption's tag falls where it and the caption's others are less likely (log) than this."
    )
    least_caption_fit: float = Field(
        -1.0,
        ge=-1,
        le=1,
        description="Captions, original and generated, name nothing where they fit less than this by "
        "generate.caption_judge.",
    )
