"""How any stage runs: plan, run the shards, commit the snapshots, tell. The flows of all stages call this."""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from filelock import FileLock, Timeout
from prefect import get_run_logger

from flows.progress import console, stage_progress
from flows.shards import run_shards
from flows.stage_report import tell
from flows.trainings import train
from storage import full_disk
from storage.addresses import concealed
from storage.leases import Lease, confirm, leased, narrow
from storage.names import first_round_name
from storage.store import DamagedPartError, Part, Snapshot, Store
from tasks.executors.executor import open_executor, with_workers
from tasks.machine import planning
from tasks.machine.costs import Pricing
from tasks.machine.planning import StageFailedError, StagePlan
from tasks.machine.stage_run import StageOutcome, StageRun
from tasks.machine.worker import ShardResult, WorkerFactory

_plans: contextvars.ContextVar[list[StagePlan]] = contextvars.ContextVar("plans")


@contextlib.contextmanager
def plans_at_hand(plans: Iterable[StagePlan]) -> Iterator[None]:
    """Within it :func:`planned` takes each of these plans once, where it still holds, in place of planning again."""
    token = _plans.set([*_plans.get([]), *plans])
    try:
        yield
    finally:
        _plans.reset(token)


def planned(run: StageRun) -> StagePlan:
    """The plan at hand of a run, if nothing has changed since it was made; else a new one."""
    plans = _plans.get([])
    for plan in reversed(plans):
        if plan.holds(run):
            plans.remove(plan)  # a run that is repeated, since a part was damaged, plans anew
            return replace(plan, run=run)
    return planning.plan(run)


def run_stage(run: StageRun) -> StageOutcome:
    """Brings the outputs of a stage up to date, within a flow run. Of two runs on one store the second waits.

    Raises :class:`StageFailedError` when a shard fails or more rows are rejected than the error budget allows; all
    parts that were finished stay, and the next run goes on from them.
    """
    store, stage = run.store, run.stage
    with _alone(store, stage.name), leased(store, stage.name) as lease:
        try:
            work = planned(run)
            return keep_stage(work) if work.kept else _run(work, lease)
        except (DamagedPartError, StageFailedError) as error:
            damaged = error.__cause__ if isinstance(error, StageFailedError) else error
            if isinstance(damaged, DamagedPartError):  # so that the next plan computes it again
                store.discard(damaged)
            raise


def _run(work: StagePlan, lease: Lease) -> StageOutcome:
    started = time.monotonic()
    run, stage = work.run, work.stage
    narrow(run.store, lease, _counted_on(work))
    priced = Pricing.of(run).seconds(stage, run.settings, work.rows)
    if stage.kind == "training":
        digest, part = train(work)
        model = replace(_snapshot(work, stage.model, (), {}), model=digest)
        snapshots = [model, _snapshot(work, stage.writes[0], (part,), {})]
    else:
        snapshots = _compute(work)
    outcome = _outcome(work, snapshots, time.monotonic() - started)
    figures = {
        "seconds": outcome.seconds,
        "planned_seconds": priced,
        "input_rows": float(work.rows),
        "computed": float(outcome.computed),
        "reused": float(outcome.reused),
        **{f"rejected.{reason}": float(count) for reason, count in outcome.rejected.items()},
    }
    confirm(run.store, lease)
    for snapshot in snapshots:
        run.store.check_present(snapshot)
    for snapshot in snapshots:
        run.store.publish(replace(snapshot, figures=figures, held_back="a candidate" if run.candidate else ""))
    tell(outcome)
    return outcome


@contextlib.contextmanager
def _alone(store: Store, stage: str) -> Iterator[None]:
    lock = FileLock(store.lock_file(f"{stage}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print(f"{stage:<16} waits for another run of this stage on this store")
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


def keep_stage(work: StagePlan) -> StageOutcome:
    """Makes the snapshots that already answer the latest ones."""
    return StageOutcome(work.stage.name, work.key, planning.point_to(work), note=work.note, kept=True)


def _compute(work: StagePlan) -> list[Snapshot]:
    """Runs the shards of a map or reduce stage; each is a Prefect task run, or a batch of them beyond many."""
    store, stage = work.run.store, work.stage
    executor = with_workers(work.run.executor, stage, len(work.shards))
    factory = WorkerFactory(stage, work.settings, executor, store.url, work.snapshots)
    done: dict[str, list[Part]] = {name: list((work.done or {}).get(name, ())) for name in stage.writes}
    failures: list[BaseException] = []
    results: list[ShardResult] = []
    if work.shards:
        running = open_executor(executor, factory)
        try:
            with stage_progress(stage.name) as progress:
                results, failures = run_shards(work, running, executor, progress)
        finally:
            running.close()
        for result in results:
            for artifact, part in result.parts.items():
                done[artifact].append(part)
    if failures:
        raise StageFailedError(_failed(work, len(results), failures[0])) from failures[0]
    tombstones = work.tombstones or {}
    if not stage.inputs:
        tombstones = stage.code().conclude(work, done)
    snapshots = [_snapshot(work, artifact, tuple(parts), tombstones) for artifact, parts in done.items()]
    _check_budget(work, snapshots)
    return snapshots


def _failed(work: StagePlan, done: int, error: BaseException) -> str:
    """What a person is told of shards that failed, ``error`` first; the text of a ValueError is for people as it is."""
    if full := full_disk.of(error, *work.run.store.folders):
        reason = str(full)
    else:
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    if len(work.shards) == 1:
        return f"{work.stage.name}: {reason}"
    return (
        f"{work.stage.name}: {len(work.shards) - done} of {len(work.shards)} shards failed, the first with {reason}. "
        f"{done} shards are done and will be reused."
    )


def _check_budget(work: StagePlan, snapshots: list[Snapshot]) -> None:
    """Fails a stage that rejects more than its error budget: a wrong folder rather than a few bad files."""
    budget = getattr(work.settings, "error_budget", 1.0)
    for snapshot in snapshots:
        if not first_round_name(snapshot.artifact).endswith("_rejected") or not snapshot.rows:
            continue
        reasons = _reasons(work.run.store, snapshot)
        total = reasons.total() + snapshots[0].rows
        if reasons.total() > budget * total:
            raise StageFailedError(
                f"{work.stage.name}: {reasons.total()} of {total} rows were rejected ({_counted(reasons)}), more than "
                f"the error budget of {budget:.0%}; what was done is kept: mend the source, or raise the budget with "
                f"--set {work.stage.section}.error_budget=1"
            )


def _snapshot(work: StagePlan, artifact: str, parts: tuple[Part, ...], tombstones: Mapping[str, list[str]]) -> Snapshot:
    present = {part.partition for part in parts}
    return Snapshot(
        artifact=artifact,
        key=work.key,
        stage=work.stage.name,
        stage_version=work.stage.version,
        recipe=work.recipe,
        parts=tuple(sorted(parts, key=lambda part: (part.partition, part.key))),
        tombstones={key: sorted(ids) for key, ids in tombstones.items() if key in present},
        removed=work.run.store.removed_rows(artifact, parts, tombstones),
        settings=work.settings.absolute()
        .mapped(concealed)
        .model_dump(mode="json"),  # a refresh may run in another folder
        inputs={alias: snapshot.name for alias, snapshot in work.snapshots.items()},
    )


def _outcome(work: StagePlan, snapshots: list[Snapshot], seconds: float) -> StageOutcome:
    rejected: Counter[str] = Counter()
    for snapshot in snapshots:
        if snapshot.artifact.endswith("_rejected"):
            rejected += _reasons(work.run.store, snapshot)
    computed = len(work.shards)
    total = max((len(snapshot.parts) for snapshot in snapshots), default=0)
    return StageOutcome(
        stage=work.stage.name,
        key=work.key,
        rows={snapshot.artifact: snapshot.rows for snapshot in snapshots if not snapshot.model},
        read=work.rows,
        computed=computed,
        reused=max(0, total - computed),
        rejected=dict(rejected),
        seconds=seconds,
        note="" if work.stage.inputs else work.stage.code().told(work.run.store, snapshots[0]),
    )


def _reasons(store: Store, rejected: Snapshot) -> Counter[str]:
    counts: Counter[str] = Counter()
    for table in store.tables(replace(rejected, parts=tuple(part for part in rejected.parts if part.rows)), ["reason"]):
        counts.update(table["reason"].to_pylist())
    return counts


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
