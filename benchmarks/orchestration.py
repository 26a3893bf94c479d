"""What orchestration costs: Prefect and the store for 1,000 shards on each executor, the pause before the next flow,
and the planner alone over 14M rows in 7,000 parts.

``python benchmarks/orchestration.py [--executors threads,ray]``. The stage is real, `assign-tags`, over parts of one
phrase: what it computes takes no time, so that what remains is the cost of a shard: its task run, its Parquet part, its
digest. ``overhead_share`` is that cost on threads, as a share of a shard of ten seconds on the same number of workers.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from flows.environment import local_prefect
from storage.keys import digest
from storage.schemas import contract
from storage.store import Part, Snapshot, Store
from tasks.machine.dag import stage_named
from tasks.machine.planning import plan
from tasks.machine.stage_run import StageRun
from tasks.settings.assign_tags import AssignTagsSettings
from tasks.settings.executor import ExecutorSettings

SHARDS = 1_000
SHARD_SECONDS = 10.0
PLANNED_PARTS, PLANNED_ROWS = 7_000, 14_000_000
STAGE = stage_named("assign-tags")


def make_store(folder: Path, shards: int) -> Store:
    """A store whose phrases lie in ``shards`` parts of one row, and a label system of one tag."""
    store = Store(folder)
    tag = {
        "tag_id": 0,
        "name": "dog",
        "type": "object",
        "synonyms": [],
        "count": 1,
        "groundable": True,
        "prompt": "dog",
        "active": True,
    }
    labels = pa.Table.from_pylist([tag], contract("label_system").schema)
    parts = (store.write_part("label_system", "labels", "", labels),)
    store.publish(Snapshot("label_system", "labels", "benchmark", "benchmark", parts))
    phrase = {"surface": "dog", "lemma": "dog", "type": "object", "start": 0, "end": 3}
    written = []
    for number in range(shards):
        row = {"image_id": f"{number:016x}", "caption_index": 0, "phrases": [phrase]}
        table = pa.Table.from_pylist([row], contract("phrases").schema)
        key = digest(["phrases", number])
        written.append(store.write_part("phrases", key, key, table))
    store.publish(Snapshot("phrases", "phrases", "benchmark", "benchmark", tuple(written)))
    return store


def shard_seconds(store: Store, kind: str, workers: int, shards: int) -> dict[str, float]:
    """Seconds a shard of a forced run, beside those of a run of no shard, and the pause before the next flow run."""
    from flows.stages import assign_tags

    executor = ExecutorSettings(kind=kind, workers=workers)  # type: ignore[arg-type]
    started = time.perf_counter()
    assign_tags(store.url, AssignTagsSettings(), executor=executor, force=True)
    ran = time.perf_counter() - started
    started = time.perf_counter()
    kept = assign_tags(store.url, AssignTagsSettings(), executor=executor)
    idle = time.perf_counter() - started
    assert kept["kept"]
    return {"seconds_a_shard": ran / shards, "next_flow_run_seconds": idle, "shards_a_second": shards / ran}


def planner(folder: Path, most_parts: int) -> Iterator[dict[str, float]]:
    """Seconds and memory of planning a map stage over stores that differ in their number of parts."""
    for parts in (most_parts // 4, most_parts):
        store = Store(folder / str(parts))
        rows = PLANNED_ROWS // PLANNED_PARTS
        listed = tuple(
            Part(digest(["phrases", number]), digest(["pairs", number]), rows, 100_000, digest(["rows", number]))
            for number in range(parts)
        )
        store.publish(Snapshot("phrases", "phrases", "benchmark", "benchmark", listed))
        labels = Part("labels", "", 1, 1_000, "labels")
        store.publish(Snapshot("label_system", "labels", "benchmark", "benchmark", (labels,)))
        started = time.perf_counter()
        work = plan(StageRun(store, STAGE, AssignTagsSettings()))
        seconds = time.perf_counter() - started
        assert (len(work.shards), work.rows) == (parts, parts * rows)
        tracemalloc.start()  # in a second pass: watching costs time
        plan(StageRun(store, STAGE, AssignTagsSettings()))
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        yield {"parts": parts, "rows": work.rows, "seconds": seconds, "megabytes": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executors", default="threads,processes,ray")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shards", type=int, default=SHARDS)
    parser.add_argument("--parts", type=int, default=PLANNED_PARTS, help="parts of the plan")
    parser.add_argument("--smoke", action="store_true", help="five shards in threads: does it run?")
    options = parser.parse_args()
    if options.smoke:
        options.executors, options.shards, options.parts = "threads", 5, 40
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        planned = list(planner(Path(scratch), options.parts))
        print(f"{'planner':<12} {'parts':>6} {'rows':>12} {'seconds':>8} {'MB':>6}")
        for row in planned:
            print(f"{'':<12} {row['parts']:>6} {row['rows']:>12,} {row['seconds']:>8.2f} {row['megabytes']:>6.0f}")
        result |= {
            "planner_seconds": planned[-1]["seconds"],
            "planner_megabytes": planned[-1]["megabytes"],
            # 1: four times the parts take four times as long
            "planner_linearity": planned[-1]["seconds"] / planned[0]["seconds"] / 4,
        }
        store = make_store(Path(scratch) / "store", options.shards)
        print(f"\n{'executor':<12} {'ms a shard':>10} {'shards/s':>9} {'next flow run, s':>17}")
        with local_prefect(Path(scratch) / "prefect"):
            from flows.local_server import local_server

            with local_server(str(Path(scratch) / "server.log")):
                for kind in options.executors.split(","):
                    figures = shard_seconds(store, kind, options.workers, options.shards)
                    print(
                        f"{kind:<12} {1e3 * figures['seconds_a_shard']:>10.1f} {figures['shards_a_second']:>9.0f} "
                        f"{figures['next_flow_run_seconds']:>17.2f}"
                    )
                    result |= {f"{name}_{kind}": value for name, value in figures.items()}
        if "seconds_a_shard_threads" in result:
            result["overhead_share"] = result["seconds_a_shard_threads"] * options.workers / SHARD_SECONDS
    print(json.dumps({name: round(value, 5) for name, value in result.items()}))


if __name__ == "__main__":
    main()
