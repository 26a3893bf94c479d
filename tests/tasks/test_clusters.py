from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from storage.schemas import check
from storage.store import Snapshot, Store
from tasks.machine.inputs import Inputs
from tasks.settings.clean import CleanSettings
from tasks.settings.executor import ExecutorSettings
from tasks.stages.fit_clusters import cluster, reduce
from tasks.stages.judge import cluster_index, distances
from tests.tasks.stage_inputs import inputs_of


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def regions(features: dict[int, np.ndarray]) -> pa.Table:
    vectors = np.concatenate(list(features.values())).astype(np.float16)
    tags = [tag for tag, each in features.items() for _ in each]
    count = len(tags)
    return pa.table(
        {
            "image_id": [f"{number:016x}" for number in range(count)],
            "tag_id": pa.array(tags, pa.int32()),
            "box": pa.FixedSizeListArray.from_arrays(pa.array([0.0, 0, 1, 1] * count, pa.float32()), 4),
            "detector_score": pa.array([1.0] * count, pa.float32()),
            "tag_score": pa.array([0.9] * count, pa.float32()),
            "feature": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        }
    )


def two_looks(count: int, seed: int = 0) -> np.ndarray:
    """Half of the regions look one way and half another."""
    chance = np.random.default_rng(seed)
    centres = np.eye(8)[[0, 1]].repeat(count // 2, axis=0)
    return unit(centres + chance.normal(0, 0.05, (count, 8)))


def test_clusters_are_found_and_the_farthest_share_lies_beyond_the_radius() -> None:
    settings = CleanSettings(outlier_share=0.1, regions_a_cluster=50, max_clusters=8)
    features = two_looks(100)
    fit = cluster(features, settings)
    centroids, members, (radius, _) = fit.centroids, fit.members, fit.radii
    assert sorted(members.tolist()) == [50, 50]
    assert sorted(np.round(centroids).argmax(axis=1).tolist()) == [0, 1]
    nearest = np.linalg.norm(features[:, None] - centroids, axis=2).min(axis=1)
    assert (nearest > radius).sum() == 10


def test_a_tag_has_as_many_clusters_as_its_regions_allow(tmp_path: Path) -> None:
    settings = CleanSettings(regions_a_cluster=20, max_clusters=3)
    inputs = inputs_of(
        tmp_path, {"regions": regions({4: two_looks(200), 7: two_looks(50), 9: two_looks(20), 11: two_looks(18)})}
    )
    found = check("clusters", reduce(settings, inputs, ExecutorSettings())["clusters"])
    counts = {tag: sum(1 for other in found["tag_id"].to_pylist() if other == tag) for tag in (4, 7, 9, 11)}
    assert counts == {4: 3, 7: 2, 9: 1, 11: 0}


def test_clusters_depend_neither_on_workers_nor_on_parts(tmp_path: Path) -> None:
    table = regions({tag: two_looks(40, seed=tag) for tag in range(5)})
    settings = CleanSettings(max_regions_a_tag=30)
    whole = reduce(settings, inputs_of(tmp_path, {"regions": table}), ExecutorSettings(workers=1))["clusters"]
    assert sum(whole["count"].to_pylist()) == 5 * 30
    store = Store(tmp_path / "parts")
    shuffled = table.take(np.random.default_rng(0).permutation(table.num_rows))
    parts = tuple(
        store.write_part("regions", f"{at:016x}", f"p{at}", shuffled.slice(at, 37)) for at in range(0, 200, 37)
    )
    snapshot = store.publish(Snapshot("regions", "a" * 16, "test", "test", parts=parts))
    inputs = Inputs(store, {"regions": snapshot})
    assert reduce(settings, inputs, ExecutorSettings(workers=2))["clusters"].equals(whole)


def test_small_clusters_are_outliers_as_they_are(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    centres = np.eye(8)[[0] * 60 + [1] * 34 + [2] * 6]
    features = unit(centres + chance.normal(0, 0.02, (100, 8)))
    settings = CleanSettings(outlier_share=0.1, regions_a_cluster=33, max_clusters=3, outlier_measure="small_clusters")
    table = regions({1: features})
    clusters = reduce(settings, inputs_of(tmp_path, {"regions": table}), ExecutorSettings())["clusters"]
    beyond = distances(table, cluster_index(clusters)) > 1
    assert beyond.tolist() == [False] * 94 + [True] * 6


@pytest.mark.parametrize("mini_batches_from", [100, 100_000])
def test_equal_features_are_one_cluster_without_outliers(tmp_path: Path, mini_batches_from: int) -> None:
    table = regions({1: np.tile(unit(np.ones((1, 8))), (10_000, 1)), 2: two_looks(2)[:1]})
    settings = CleanSettings(mini_batches_from=mini_batches_from)
    clusters = reduce(settings, inputs_of(tmp_path, {"regions": table}), ExecutorSettings())["clusters"]
    assert set(clusters["tag_id"].to_pylist()) == {1}  # a single region is no cluster
    found = distances(table, cluster_index(clusters))
    assert (found[:-1] <= 1).all()
    assert np.isnan(found[-1])


def test_clusters_of_other_features_are_an_error_that_says_so() -> None:
    clusters = pa.table(
        {
            "tag_id": pa.array([1], pa.int32()),
            "cluster": pa.array([0], pa.int16()),
            "centroid": pa.array([[1.0, 0.0, 0.0]], pa.list_(pa.float32())),
            "radius": pa.array([0.5], pa.float32()),
            "count": pa.array([9], pa.int32()),
        }
    )
    with pytest.raises(ValueError, match="fit the clusters anew"):
        distances(regions({1: np.eye(2)}), cluster_index(clusters))


def test_distances_are_in_radii_and_to_the_nearest_cluster() -> None:
    clusters = pa.table(
        {
            "tag_id": pa.array([1, 1], pa.int32()),
            "cluster": pa.array([0, 1], pa.int16()),
            "centroid": pa.array([[1.0, 0.0], [0.0, 1.0]], pa.list_(pa.float32())),
            "radius": pa.array([0.5, 0.5], pa.float32()),
            "count": pa.array([9, 9], pa.int32()),
        }
    )
    table = regions({1: np.array([[1.0, 0.0], [0.0, 0.75]]), 2: np.array([[1.0, 0.0]])})
    found = distances(table, cluster_index(clusters))
    assert found[:2] == pytest.approx([0.0, 0.5])
    assert np.isnan(found[2])  # a tag without clusters is not judged by distance
