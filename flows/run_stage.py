"""How any stage runs: plan, run the shards, commit the snapshots, tell. The flows of all stages call this."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

from filelock import FileLock, Timeout
from prefect import get_run_logger

from flows.progress import console, stage_progress
from flows.shards import run_shards
from flows.stage_report import StageSummary, tell
from flows.trainings import train
from storage.leases import Lease, leased, narrow
from storage.schemas import first_round_name
from storage.store import DamagedPartError, Part, Snapshot, Store
from tasks.machine import costs, planning
from tasks.machine.dag import Stage
from tasks.machine.executors import open_executor, with_workers
from tasks.machine.outlook import plan
from tasks.machine.planning import Again, StageFailedError, StagePlan
from tasks.machine.worker import ShardResult, WorkerFactory
from tasks.settings.base import Settings
from tasks.settings.encode import EncodeSettings
from tasks.settings.executor import ExecutorSettings
from tasks.settings.ingest import IngestSettings
from tasks.stages import ingest


def run_stage(
    store: Store,
    stage: Stage,
    settings: Settings,
    executor: ExecutorSettings,
    rounds: int = 1,
    again: Again = Again(),
    hold_back: str = "",
) -> StageSummary:
    """Brings the outputs of ``stage`` up to date, within a flow run. Of two runs on one store the second waits.

    ``hold_back`` says why what is made now does not become the latest by itself; "": it does.
    Raises :class:`StageFailedError` when a shard fails or more rows are rejected than the error budget allows; all
    parts that were finished stay, and the next run goes on from them.
    """
    with _alone(store, stage), leased(store, stage.name) as lease:
        try:
            return _run(store, stage, settings, executor, rounds, again, hold_back, lease)
        except (DamagedPartError, StageFailedError) as error:
            damaged = error.__cause__ if isinstance(error, StageFailedError) else error
            if isinstance(damaged, DamagedPartError):  # so that the next plan computes it again
                store.remove_part(damaged.artifact, damaged.part)
            raise


def _run(
    store: Store,
    stage: Stage,
    settings: Settings,
    executor: ExecutorSettings,
    rounds: int,
    again: Again,
    hold_back: str,
    lease: Lease,
) -> StageSummary:
    started = time.monotonic()
    work = plan(store, stage, settings, again)
    if work.kept:
        return keep_stage(store, work)
    narrow(store, lease, _counted_on(work))
    features = store.snapshot("features")
    encode = EncodeSettings() if features is None else EncodeSettings.model_validate(features.settings)
    if isinstance(settings, EncodeSettings):
        encode = settings
    planned = costs.seconds(stage, settings, encode, work.rows, costs.paces(store, rounds))
    if stage.kind == "training":
        digest, part = train(store, work, executor, rounds)
        model = replace(_snapshot(store, work, stage.model, (), {}), model=digest)
        snapshots = [model, _snapshot(store, work, stage.writes[0], (part,), {})]
    else:
        snapshots = _compute(store, work, executor)
    summary = _summary(store, work, snapshots, time.monotonic() - started)
    for snapshot in snapshots:
        figures = {
            "seconds": summary.seconds,
            "planned_seconds": planned,
            "input_rows": float(work.rows),
            "computed": float(summary.computed),
            "reused": float(summary.reused),
            **{f"rejected.{reason}": float(count) for reason, count in summary.rejected.items()},
        }
        store.publish(replace(snapshot, figures=figures, held_back=hold_back))
    tell(summary)
    return summary


@contextlib.contextmanager
def _alone(store: Store, stage: Stage) -> Iterator[None]:
    lock = FileLock(store.lock_file(f"{stage.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print(f"{stage.name:<16} waits for another run of this stage on this store")
        get_run_logger().info("waits for another run of this stage on this store")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _counted_on(work: StagePlan) -> dict[str, frozenset[str]]:
    """The keys that the stage reads, reuses and makes, by artifact: what garbage collection must leave."""
    keys: dict[str, set[str]] = defaultdict(set)
    for snapshot in work.snapshots.values():
        keys[snapshot.artifact] |= {snapshot.key, *(part.key for part in snapshot.parts)}
    made = {work.key, *(shard.key for shard in work.shards)}
    for artifact in work.stage.outputs:
        keys[artifact] |= made | {part.key for part in (work.done or {}).get(artifact, ())}
    return {artifact: frozenset(listed) for artifact, listed in keys.items()}


def keep_stage(store: Store, work: StagePlan) -> StageSummary:
    """Makes the snapshots that already answer the latest ones."""
    return StageSummary(work.stage.name, work.key, planning.point_to(store, work), note=work.note, kept=True)


def _compute(store: Store, work: StagePlan, executor: ExecutorSettings) -> list[Snapshot]:
    """Runs the shards of a map or reduce stage; each is a Prefect task run, or a batch of them beyond many."""
    executor = with_workers(executor, work.stage, len(work.shards))
    factory = WorkerFactory(work.stage, work.settings, executor, store.url, work.snapshots)
    done: dict[str, list[Part]] = {name: list((work.done or {}).get(name, ())) for name in work.stage.writes}
    failures: list[BaseException] = []
    results: list[ShardResult] = []
    if work.shards:
        running = open_executor(executor, factory)
        try:
            with stage_progress(work.stage.name) as progress:
                results, failures = run_shards(work, running, executor, progress)
        finally:
            running.close()
        for result in results:
            for artifact, part in result.parts.items():
                done[artifact].append(part)
    if failures:
        first = failures[0]
        raise StageFailedError(
            f"{work.stage.name}: {len(work.shards) - len(results)} of {len(work.shards)} shards failed, the first with "
            f"{type(first).__name__}: {first}. {len(results)} shards are done and will be reused."
        ) from first
    tombstones = dict(work.tombstones or {})
    if isinstance(work.settings, IngestSettings):
        made = {shard.key for shard in work.shards}
        merged, tombstones = ingest.merge_duplicates(store, work, [p for p in done["pairs"] if p.key in made])
        for artifact, part in merged.items():
            done[artifact].append(part)
        if not any(part.rows for parts in done.values() for part in parts):
            raise StageFailedError("ingest: the source holds no image; check its path and columns")
    snapshots = [_snapshot(store, work, artifact, tuple(parts), tombstones) for artifact, parts in done.items()]
    _check_budget(store, work, snapshots)
    return snapshots


def _check_budget(store: Store, work: StagePlan, snapshots: list[Snapshot]) -> None:
    """Fails a stage that rejects more than its error budget: a wrong folder rather than a few bad files."""
    budget = getattr(work.settings, "error_budget", 1.0)
    for snapshot in snapshots:
        if not first_round_name(snapshot.artifact).endswith("_rejected") or not snapshot.rows:
            continue
        reasons = _reasons(store, snapshot)
        total = reasons.total() + snapshots[0].rows
        if reasons.total() > budget * total:
            raise StageFailedError(
                f"{work.stage.name}: {reasons.total()} of {total} rows were rejected ({_counted(reasons)}), more than "
                f"the error budget of {budget:.0%}; what was done is kept: mend the source, or raise the budget with "
                f"--set {work.stage.settings}.error_budget=1"
            )


def _snapshot(
    store: Store, work: StagePlan, artifact: str, parts: tuple[Part, ...], tombstones: Mapping[str, list[str]]
) -> Snapshot:
    present = {part.partition for part in parts}
    return Snapshot(
        artifact=artifact,
        key=work.key,
        stage=work.stage.name,
        stage_version=work.stage.version,
        recipe=work.recipe,
        parts=tuple(sorted(parts, key=lambda part: (part.partition, part.key))),
        tombstones={key: sorted(ids) for key, ids in tombstones.items() if key in present},
        removed=store.removed_rows(artifact, parts, tombstones),
        settings=work.settings.model_dump(mode="json"),
        inputs={alias: f"{snapshot.artifact}@{snapshot.key}" for alias, snapshot in work.snapshots.items()},
    )


def _summary(store: Store, work: StagePlan, snapshots: list[Snapshot], seconds: float) -> StageSummary:
    rejected: Counter[str] = Counter()
    for snapshot in snapshots:
        if snapshot.artifact.endswith("_rejected"):
            rejected += _reasons(store, snapshot)
    computed = len(work.shards)
    total = max((len(snapshot.parts) for snapshot in snapshots), default=0)
    return StageSummary(
        stage=work.stage.name,
        key=work.key,
        rows={snapshot.artifact: snapshot.rows for snapshot in snapshots if not snapshot.model},
        read=work.rows,
        computed=computed,
        reused=max(0, total - computed),
        rejected=dict(rejected),
        seconds=seconds,
    )


def _reasons(store: Store, rejected: Snapshot) -> Counter[str]:
    counts: Counter[str] = Counter()
    for table in store.tables(replace(rejected, parts=tuple(part for part in rejected.parts if part.rows)), ["reason"]):
        counts.update(table["reason"].to_pylist())
    return counts


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
