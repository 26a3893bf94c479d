from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from storage.schemas import check
from storage.store import Snapshot, Store
from tasks.judging.typicality import QUANTILES, read_clusters, typicality
from tasks.machine.inputs import Inputs
from tasks.settings.executor import ExecutorSettings
from tasks.settings.fit_clusters import FitClustersSettings
from tasks.stages.fit_clusters import cluster, reduce
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


def test_clusters_are_found_and_know_how_far_their_regions_are() -> None:
    settings = FitClustersSettings(regions_a_cluster=50, max_clusters=8)
    features = two_looks(100)
    fit = cluster(features, settings)
    centroids, members = fit.centroids, fit.members
    assert sorted(members.tolist()) == [50, 50]
    assert sorted(np.round(centroids).argmax(axis=1).tolist()) == [0, 1]
    nearest = np.linalg.norm(features[:, None] - centroids, axis=2).min(axis=1)
    for share in (0.05, 0.1, 0.33):
        assert (nearest > fit.distances[round(100 * (1 - share))]).sum() == round(100 * share)


def test_a_tag_has_as_many_clusters_as_its_regions_allow(tmp_path: Path) -> None:
    settings = FitClustersSettings(regions_a_cluster=20, max_clusters=3)
    inputs = inputs_of(
        tmp_path, {"regions": regions({4: two_looks(200), 7: two_looks(50), 9: two_looks(20), 11: two_looks(18)})}
    )
    found = check("clusters", reduce(settings, inputs, ExecutorSettings())["clusters"])
    counts = {tag: sum(1 for other in found["tag_id"].to_pylist() if other == tag) for tag in (4, 7, 9, 11)}
    assert counts == {4: 3, 7: 2, 9: 1, 11: 0}


def test_clusters_depend_neither_on_workers_nor_on_parts(tmp_path: Path) -> None:
    table = regions({tag: two_looks(40, seed=tag) for tag in range(5)})
    settings = FitClustersSettings(max_regions_a_tag=30)
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
    settings = FitClustersSettings(regions_a_cluster=33, max_clusters=3)
    table = regions({1: features})
    clusters = reduce(settings, inputs_of(tmp_path, {"regions": table}), ExecutorSettings())["clusters"]
    typical = typicality(table, read_clusters(clusters), "small_clusters")
    assert (typical < 0.06).tolist() == [False] * 94 + [True] * 6
    assert not (typical < 0.05).any()  # the smallest cluster holds more than that


@pytest.mark.parametrize("mini_batches_from", [100, 100_000])
def test_equal_features_are_one_cluster_without_outliers(tmp_path: Path, mini_batches_from: int) -> None:
    table = regions({1: np.tile(unit(np.ones((1, 8))), (10_000, 1)), 2: two_looks(2)[:1]})
    settings = FitClustersSettings(mini_batches_from=mini_batches_from)
    clusters = reduce(settings, inputs_of(tmp_path, {"regions": table}), ExecutorSettings())["clusters"]
    assert set(clusters["tag_id"].to_pylist()) == {1}  # a single region is no cluster
    typical = typicality(table, read_clusters(clusters))
    assert (typical[:-1] == 1).all()
    assert np.isnan(typical[-1])


def test_clusters_of_other_features_are_an_error_that_says_so() -> None:
    clusters = pa.table(
        {
            "tag_id": pa.array([1], pa.int32()),
            "cluster": pa.array([0], pa.int16()),
            "centroid": pa.array([[1.0, 0.0, 0.0]], pa.list_(pa.float32())),
            "count": pa.array([9], pa.int32()),
            "distances": pa.array([QUANTILES.tolist()], pa.list_(pa.float32())),
        }
    )
    with pytest.raises(ValueError, match="fit the clusters anew"):
        typicality(regions({1: np.eye(2)}), read_clusters(clusters))


def test_a_region_is_as_typical_as_the_share_that_lies_farther_from_the_nearest_cluster() -> None:
    clusters = pa.table(
        {
            "tag_id": pa.array([1, 1], pa.int32()),
            "cluster": pa.array([0, 1], pa.int16()),
            "centroid": pa.array([[1.0, 0.0], [0.0, 1.0]], pa.list_(pa.float32())),
            "count": pa.array([9, 9], pa.int32()),
            "distances": pa.array([QUANTILES.tolist()] * 2, pa.list_(pa.float32())),
        }
    )
    table = regions({1: np.array([[1.0, 0.0], [0.0, 0.75]]), 2: np.array([[1.0, 0.0]])})
    typical = typicality(table, read_clusters(clusters))
    assert typical[:2] == pytest.approx([1.0, 0.75])
    assert np.isnan(typical[2])  # of a tag without clusters nothing is known
