"""Reduce stage `fit-clusters`: each tag's regions, clustered with k-means++ (Arthur and Vassilvitskii 2007).

Reads regions; writes clusters: centroids, and the radius beyond which a region is an outlier of its tag.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from storage.schemas import contract
from tasks.inputs import Inputs
from tasks.settings import CleanSettings, EngineSettings

ROWS_AT_ONCE = 500_000  # of features in memory


def reduce(settings: CleanSettings, inputs: Inputs, engine: EngineSettings) -> Mapping[str, pa.Table]:
    """``clusters`` of every tag that has regions enough; the others have no rows, and are not judged by distance."""
    counts = inputs.sql("SELECT tag_id, count(*) AS rows FROM regions GROUP BY tag_id ORDER BY tag_id").to_pylist()
    enough = {row["tag_id"]: row["rows"] for row in counts if row["rows"] >= settings.regions_a_cluster}
    rows = []
    done = 0
    for tag_ids in _groups(enough, settings.max_regions_a_tag):
        for tag_id, features in _features(inputs, tag_ids, settings.max_regions_a_tag):
            centroids, members, radius = cluster(features, settings)
            rows += [
                {"tag_id": tag_id, "cluster": number, "centroid": centroid, "radius": radius, "count": int(count)}
                for number, (centroid, count) in enumerate(zip(centroids.tolist(), members, strict=True))
            ]
            done += 1
            inputs.progress(done, len(enough))
    return {"clusters": pa.Table.from_pylist(rows, schema=contract("clusters").schema)}


def cluster(
    features: NDArray[np.float32], settings: CleanSettings
) -> tuple[NDArray[np.float32], NDArray[np.int64], float]:
    """Centroids (k, width), members of each (k,), and the distance that ``outlier_share`` of the regions exceed.

    ``features`` (regions, width) are L2-normalised; k is ``max_clusters`` or what ``regions_a_cluster`` allows.
    """
    count = min(settings.max_clusters, max(1, len(features) // settings.regions_a_cluster))
    model = KMeans(count, init="k-means++", n_init=1, random_state=settings.seed).fit(features)
    distances = np.linalg.norm(features - model.cluster_centers_[model.labels_], axis=1)
    radius = float(np.quantile(distances, 1 - settings.outlier_share))
    return model.cluster_centers_, np.bincount(model.labels_, minlength=count), radius


def _groups(rows: Mapping[int, int], most: int) -> Iterator[list[int]]:
    """Tags whose regions fit into memory together: all regions are read once a group, never once a tag."""
    group: list[int] = []
    size = 0
    for tag_id, count in rows.items():
        if group and size + min(count, most) > ROWS_AT_ONCE:
            yield group
            group, size = [], 0
        group.append(tag_id)
        size += min(count, most)
    if group:
        yield group


def _features(inputs: Inputs, tag_ids: list[int], most: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Each tag with its regions' features in an order that does not depend on the parts; a fixed sample of many."""
    table = inputs.sql(
        f"""
        SELECT tag_id, feature FROM regions WHERE tag_id IN ({", ".join(map(str, tag_ids))})
        QUALIFY row_number() OVER (PARTITION BY tag_id ORDER BY hash(image_id), box) <= {most}
        ORDER BY tag_id, image_id, box
        """
    )
    tags = table["tag_id"].to_numpy()
    features = table["feature"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(tags), -1)
    for tag_id in tag_ids:
        yield tag_id, features[tags == tag_id].astype(np.float32)
