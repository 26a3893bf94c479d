"""Reduce stage `fit-clusters`: each tag's regions, clustered with k-means++ (Arthur and Vassilvitskii 2007).

Reads regions; writes clusters: centroids, and how far the regions of their tag lie from them. Regions are
read once and put down by tag in a scratch file; what is in memory is one tag a worker, however many regions there are.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from storage.schemas import contract
from tasks.judging.typicality import QUANTILES
from tasks.machine.cores import cores
from tasks.machine.inputs import Inputs
from tasks.settings.executor import ExecutorSettings
from tasks.settings.fit_clusters import FitClustersSettings

Features = NDArray[np.float32]


def reduce(settings: FitClustersSettings, inputs: Inputs, executor: ExecutorSettings) -> Mapping[str, pa.Table]:
    """``clusters`` of every tag that has regions enough; the others have no rows, and are not judged by distance.

    Tags are clustered side by side, each by one thread: the result does not depend on the number of workers.
    """
    with tempfile.TemporaryDirectory() as scratch:
        sorted_ = _by_tag(inputs, Path(scratch) / "regions", settings)
        fitted: dict[int, Fit] = {}
        with threadpool_limits(1), ThreadPoolExecutor(executor.workers or cores()) as threads:
            largest_first = sorted(sorted_.tags, key=lambda tag: -sorted_.tags[tag][1])
            fits = threads.map(lambda tag: cluster(sorted_.features(tag), settings), largest_first)
            for done, (tag, fit) in enumerate(zip(largest_first, fits, strict=True), 1):
                fitted[tag] = fit
                inputs.progress(done, len(largest_first))
    rows = [
        {"tag_id": tag, "cluster": number, "centroid": centroid, "count": count, "distances": fit.distances}
        for tag, fit in sorted(fitted.items())
        for number, (centroid, count) in enumerate(zip(fit.centroids.tolist(), fit.members.tolist(), strict=True))
    ]
    return {"clusters": pa.Table.from_pylist(rows, schema=contract("clusters").schema)}


@dataclass(frozen=True)
class Fit:
    """A tag's clusters: centroids (k, width), how many regions each has (k,), and the quantiles of the distances of all
    regions to their centroid (:data:`tasks.judging.typicality.QUANTILES`)."""

    centroids: Features
    members: NDArray[np.int64]
    distances: Features


def cluster(features: Features, settings: FitClustersSettings) -> Fit:
    """Clusters L2-normalised ``features`` (regions, width) into as many as the settings allow."""
    count = min(settings.max_clusters, max(1, len(features) // settings.regions_a_cluster))
    kind = KMeans if len(features) <= settings.mini_batches_from else MiniBatchKMeans
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of equal features there are fewer clusters
        model = kind(count, init="k-means++", n_init=1, random_state=settings.seed).fit(features)
    distances = np.linalg.norm(features - model.cluster_centers_[model.labels_], axis=1)
    members = np.bincount(model.labels_, minlength=count)
    return Fit(model.cluster_centers_, members, np.quantile(distances, QUANTILES).astype(np.float32))


@dataclass(frozen=True)
class _ByTag:
    """A file of records that are sorted by tag, and for each tag its first record and how many it has."""

    file: Path
    record: np.dtype[np.void]
    tags: Mapping[int, tuple[int, int]]

    def features(self, tag: int) -> Features:
        """(regions, width) in an order that does not depend on the parts."""
        first, count = self.tags[tag]
        found = np.fromfile(self.file, self.record, count, offset=first * self.record.itemsize)
        order = np.lexsort((*found["box"].T[::-1], found["image"]))
        features: Features = found["feature"][order].astype(np.float32)
        return features


def _by_tag(inputs: Inputs, file: Path, settings: FitClustersSettings) -> _ByTag:
    """Of tags with very many regions those of the images with the lowest ids: as good as drawn by lot."""
    counts = inputs.sql(_CHOSEN.format(most=settings.max_regions_a_tag)).to_pylist()
    enough = {row["tag_id"]: row for row in counts if row["rows"] >= settings.regions_a_cluster}
    starts = np.cumsum([0, *(row["rows"] for row in enough.values())])
    tags = {tag: (int(start), row["rows"]) for (tag, row), start in zip(enough.items(), starts[:-1], strict=True)}
    following = {tag: start for tag, (start, _) in tags.items()}
    record = np.dtype([])
    with open(file, "wb") as out:
        for part in inputs.parts("regions", ["image_id", "tag_id", "box", "feature"]) if enough else ():
            if not part.num_rows:
                continue
            width = part.schema.field("feature").type.list_size
            record = np.dtype([("image", "S16"), ("box", "f4", (4,)), ("feature", "f2", (width,))])
            for tag, records in _records(part, record):
                if tag not in enough:
                    continue
                chosen = records[records["image"] <= enough[tag]["last"].encode()]
                out.seek(following[tag] * record.itemsize)
                out.write(chosen.tobytes())
                following[tag] += len(chosen)
    return _ByTag(file, record, tags)


def _records(part: pa.Table, record: np.dtype[np.void]) -> Iterator[tuple[int, NDArray[np.void]]]:
    """The regions of a part, tag after tag."""
    part = part.sort_by("tag_id").combine_chunks()
    found = np.zeros(part.num_rows, record)
    found["image"] = np.array(part["image_id"].to_pylist(), "S16")
    for name in ("box", "feature"):
        flat = part[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        found[name] = flat.reshape(part.num_rows, -1)
    tags, starts = np.unique(part["tag_id"].to_numpy(), return_index=True)
    yield from zip(tags.tolist(), np.split(found, starts[1:]), strict=True)


_CHOSEN = """
SELECT tag_id, count(*) AS rows, max(image_id) AS last FROM (
    SELECT tag_id, image_id FROM regions
    QUALIFY rank() OVER (PARTITION BY tag_id ORDER BY image_id) <= {most}
) GROUP BY tag_id ORDER BY tag_id
"""
"""DuckDB: how many regions of each tag are clustered, and the last image that they are of."""
