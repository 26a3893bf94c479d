"""The engine `ray` on a cluster of two nodes on this machine, one of which is lost in the middle of a stage."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from ram_engine.configuration import configure
from storage.store import Store

ray = pytest.importorskip("ray", reason="ray is not installed: no test of the engine 'ray'")


def test_stages_go_on_where_a_node_is_lost(finished_store: Path, copied_store: Path) -> None:
    from ray.cluster_utils import Cluster

    from flows.stages import fit_clusters, generate, ground, judge, parse_captions

    settings, executor = configure("tiny", sets=["executor.kind=ray"])
    store, whole = Store(copied_store), Store(finished_store)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    executor = executor.model_copy(update={"address": cluster.address})
    phrases = copied_store / "phrases" / "parts"
    for part in phrases.glob("*.parquet"):
        part.unlink()

    def lose_a_node() -> None:
        while not list(phrases.glob("*.parquet")):
            time.sleep(0.01)
        cluster.remove_node(second)

    loser = threading.Thread(target=lose_a_node)
    loser.start()
    try:
        parsed = parse_captions(str(store.url), settings.parse_captions, executor=executor)
        loser.join(30)
        assert not loser.is_alive()
        assert parsed["computed"] == 5
        generate(store.url, settings.generate, executor=executor, force=True)
        ground(store.url, settings.ground, executor=executor, force=True)
        fit_clusters(store.url, settings.fit_clusters, executor=executor, force=True)
        judge(store.url, settings.judge, executor=executor, force=True)
    finally:
        ray.shutdown()
        cluster.shutdown()
    for artifact in ("phrases", "generated", "regions", "clusters", "tag_verdicts"):
        one, other = store.snapshot(artifact), whole.snapshot(artifact)
        assert one is not None
        assert other is not None
        assert one.digest == other.digest, artifact
        assert len({part.partition for part in one.parts}) == len(one.parts)
