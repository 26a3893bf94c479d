"""How typical a region is of its tag: the share of the tag's regions that lie farther from their centroid than it.

The clusters know the distances of the regions that they were fitted on; what share of them counts as outliers is said
where regions are judged, so that another share needs no other clusters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

OutlierMeasure = Literal["distance", "small_clusters"]
QUANTILES = np.linspace(0, 1, 101)  # that clusters have of their tag's distances
SAME = 1e-6  # distances below it are those of equal features


@dataclass(frozen=True)
class TagClusters:
    """A tag's clusters: ``centroids`` (k, width), their ``members`` (k,), and the :data:`QUANTILES` of the distances of
    all of its regions to their centroid."""

    centroids: NDArray[np.float32]
    members: NDArray[np.int64]
    distances: NDArray[np.float32]

    def by_distance(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(regions,): the share of the tag's regions that lie farther from their centroid than each of ``features``
        (regions, width); between two quantiles on the line that joins them."""
        distances = np.linalg.norm(features[:, None] - self.centroids, axis=2).min(axis=1)
        values, first = np.unique(np.maximum(self.distances, SAME), return_index=True)
        return np.asarray(1 - np.interp(np.maximum(distances, SAME), values, QUANTILES[first]))

    def by_small_clusters(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(regions,): the share of the tag's regions that are in clusters no larger than the one each of ``features``
        is nearest to, counted to the middle of the last region."""
        nearest = np.linalg.norm(features[:, None] - self.centroids, axis=2).argmin(axis=1)
        order = np.argsort(self.members, kind="stable")
        share = np.empty(len(order))
        share[order] = (np.cumsum(self.members[order]) - 0.5) / self.members.sum()
        return np.asarray(share[nearest])


def read_clusters(clusters: pa.Table) -> Mapping[int, TagClusters]:
    """The ``clusters`` of each tag by its id."""
    rows: dict[int, list[dict[str, object]]] = {}
    for row in clusters.sort_by([("tag_id", "ascending"), ("cluster", "ascending")]).to_pylist():
        rows.setdefault(row["tag_id"], []).append(row)
    return {
        tag_id: TagClusters(
            np.array([row["centroid"] for row in of_tag], np.float32),
            np.array([row["count"] for row in of_tag], np.int64),
            np.array(of_tag[0]["distances"], np.float32),
        )
        for tag_id, of_tag in rows.items()
    }


def typicality(
    regions: pa.Table, clusters: Mapping[int, TagClusters], measure: OutlierMeasure = "distance"
) -> NDArray[np.float32]:
    """(regions,): how typical each of ``regions`` is of its tag, 0..1, by ``measure``; NaN for a tag without clusters.

    A region is an outlier of its tag where less than the outlier share is less typical than it. Raises ValueError where
    the clusters are of features of another width.
    """
    typical = np.full(regions.num_rows, np.nan, np.float32)
    if not regions.num_rows:
        return typical
    tags = regions["tag_id"].to_numpy()
    features = regions["feature"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(tags), -1)
    for tag_id in np.unique(tags):
        if tag_id not in clusters:
            continue
        width = clusters[tag_id].centroids.shape[1]
        if width != features.shape[1]:
            raise ValueError(
                f"tag {tag_id}: its clusters are of features {width} wide, the regions' are {features.shape[1]} wide: "
                "fit the clusters anew (--refit)"
            )
        of_tag = clusters[tag_id]
        by = of_tag.by_distance if measure == "distance" else of_tag.by_small_clusters
        typical[tags == tag_id] = by(features[tags == tag_id].astype(np.float32))
    return typical


def is_good(
    tag_score: NDArray[np.floating], typical: NDArray[np.floating], least_score: float, outlier_share: float
) -> NDArray[np.bool_]:
    """(regions,): whether a region speaks for its tag: it looks like it, and is no outlier of it. NaN is no outlier."""
    return np.asarray((tag_score >= np.float32(least_score)) & ~(typical < np.float32(outlier_share)))
