"""The settings of `fit-clusters`."""

from __future__ import annotations

from pydantic import Field

from tasks.settings.base import Settings


class FitClustersSettings(Settings):
    """How a tag's regions are clustered."""

    max_clusters: int = Field(8, ge=1, description="A tag has at most so many clusters.")
    regions_a_cluster: int = Field(20, ge=1, description="A tag has at most its regions divided by this clusters.")
    mini_batches_from: int = Field(
        10_000, ge=1, description="K-means sees mini-batches where a tag has more regions than this."
    )
    max_regions_a_tag: int = Field(
        50_000, ge=1, description="A fixed sample is clustered where a tag has more regions than this."
    )
    seed: int = Field(0, description="Another seed draws other first centroids of k-means.")
