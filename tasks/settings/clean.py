"""x"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.settings.base import Settings


class CleanSettings(Settings):
    """Which tags fall."""

    outlier_share: float = Field(0.1, ge=0, lt=1, description="The share of a tag's regions that are outliers.")
    max_clusters: int = Field(8, ge=1, description="Of a tag.")
    regions_a_cluster: int = Field(20, ge=1, description="A tag has at most its regions divided by this clusters.")
    mini_batches_from: int = Field(10_000, ge=1, description="Of more regions k-means sees mini-batches.")
    max_regions_a_tag: int = Field(50_000, ge=1, description="Of more regions a fixed sample is clustered.")
    outlier_measure: Literal["distance", "small_clusters"] = Field(
        "distance", description="An outlier is far from its centroid, or in one of the tag's smallest clusters."
    )
    region_threshold: float = Field(0.1, ge=0, le=1, description="A region's least probability of its tag.")
    doubt: float = Field(
        0.01, ge=0, le=1, description="A whole picture's probability from which its regions fell no tag."
    )
    no_box: Literal["keep", "drop"] = Field("keep", description="What becomes of a tag that no region was found for.")
    least_agreement: float = Field(
        -4.0, description="A caption's tag falls where it and the caption's others are less likely (log) than this."
    )
    least_fit: float = Field(
        -1.0,
        ge=-1,
        le=1,
        description="Captions, original and generated, whose caption_fit by generate.caption_judge is less than this "
        "name nothing.",
    )
    seed: int = Field(0, description="Of k-means.")
