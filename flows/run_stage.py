"""How any stage runs: plan, run the shards, commit the snapshots, tell. The flows of all stages call this."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, wait
from prefect.task_runners import ThreadPoolTaskRunner

from flows.progress import StageProgress, console, stage_progress
from storage.store import Part, Snapshot, Store
from tasks import ingest, planning, training_child
from tasks.engines import Engine, open_engine
from tasks.planning import StageFailedError, StagePlan
from tasks.settings import EngineSettings, IngestSettings, Settings
from tasks.stages import Stage
from tasks.worker import Shard, ShardResult, WorkerFactory

MOST_TASK_RUNS = 200  # beyond so many shards a stage, a task run handles a batch of them


@dataclass(frozen=True)
class StageSummary:
    """What a stage did: rows of its outputs, shards, rejected rows by reason, seconds."""

    stage: str
    key: str
    rows: Mapping[str, int]
    computed: int = 0
    reused: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""

    def line(self) -> str:
        """One readable line for a terminal."""
        rows = ", ".join(f"{count:,} {name}" for name, count in self.rows.items() if not name.endswith("_rejected"))
        parts = [f"{self.stage:<16} {self.seconds:6.1f} s  {rows}"]
        if self.reused:
            parts.append(f"{self.computed} shards computed, {self.reused} reused")
        if self.rejected:
            total = sum(self.rejected.values())
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.rejected.items()))
            parts.append(f"{total} rejected ({reasons})")
        if self.note:
            parts.append(self.note)
        return "; ".join(parts)


def plan(store: Store, stage: Stage, settings: Settings, force: bool = False, refit: bool = False) -> StagePlan:
    """What a stage would compute now."""
    if isinstance(settings, IngestSettings):
        return ingest.plan(store, stage, settings, force)
    return planning.plan_stage(store, stage, settings, force, refit)


def run_stage(
    store: Store,
    stage: Stage,
    settings: Settings,
    engine: EngineSettings,
    rounds: int = 1,
    force: bool = False,
    refit: bool = False,
) -> StageSummary:
    """Brings the outputs of ``stage`` up to date, within a flow run.

    Raises :class:`StageFailedError` when a shard fails or more rows are rejected than the error budget allows; all
    parts that were finished stay, and the next run goes on from them.
    """
    started = time.monotonic()
    work = plan(store, stage, settings, force, refit)
    if work.kept:
        return keep_stage(store, work)
    planned = planning.estimate(store, stage, settings, work.rows)
    if stage.kind == "training":
        snapshots = _train(store, work, engine, rounds)
    else:
        snapshots = _compute(store, work, engine)
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
        store.publish(replace(snapshot, figures=figures))
    _tell(summary, settings)
    return summary


def keep_stage(store: Store, work: StagePlan) -> StageSummary:
    """Makes the snapshots that already answer the latest ones."""
    return StageSummary(work.stage.name, work.key, planning.point_to(store, work), note=work.note)


def _compute(store: Store, work: StagePlan, engine: EngineSettings) -> list[Snapshot]:
    """Runs the shards of a map or reduce stage; each is a Prefect task run, or a batch of them beyond many."""
    engine = engine.model_copy(update={"workers": _workers(engine, work)})
    factory = WorkerFactory(work.stage, work.settings, engine, store.url, work.snapshots)
    done: dict[str, list[Part]] = {name: list((work.done or {}).get(name, ())) for name in work.stage.writes}
    failures: list[BaseException] = []
    if work.shards:
        running = open_engine(engine, factory)
        try:
            with stage_progress(work.stage.name) as progress:
                results, failures = _run_shards(work, running, engine, progress)
        finally:
            running.close()
        for result in results:
            for artifact, part in result.parts.items():
                done[artifact].append(part)
    if failures:
        first = failures[0]
        raise StageFailedError(
            f"{work.stage.name}: {len(failures)} of {len(work.shards)} shards failed, the first with "
            f"{type(first).__name__}: {first}. {len(work.shards) - len(failures)} shards are done and will be reused."
        ) from first
    tombstones = dict(work.tombstones or {})
    if isinstance(work.settings, IngestSettings):
        made = {shard.key for shard in work.shards}
        merged, tombstones = ingest.merge_duplicates(store, work, [p for p in done["pairs"] if p.key in made])
        for artifact, part in merged.items():
            done[artifact].append(part)
        _check_budget(store, work, done)
    return [_snapshot(work, artifact, tuple(parts), tombstones) for artifact, parts in done.items()]


def _run_shards(
    work: StagePlan, running: Engine, engine: EngineSettings, progress: StageProgress
) -> tuple[list[ShardResult], list[BaseException]]:
    size = math.ceil(len(work.shards) / MOST_TASK_RUNS)
    batches = [work.shards[start : start + size] for start in range(0, len(work.shards), size)]
    total, finished = work.rows, 0

    @task(
        name=work.stage.name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=2,
        retry_delay_seconds=[1, 10],
        retry_condition_fn=_is_transient,
    )
    def compute(index: int) -> list[ShardResult]:
        nonlocal finished
        results = []
        futures: dict[concurrent.futures.Future[ShardResult], Shard] = {
            running.submit(shard): shard for shard in batches[index]
        }
        for future in concurrent.futures.as_completed(futures):
            results.append(future.result())
            finished += futures[future].rows
            progress(finished, total)
        return results

    progress(0, total)
    runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=engine.workers + 1)
    with runner:
        futures = [runner.submit(compute, {"index": index}, wait_for=None) for index in range(len(batches))]
        wait(list[PrefectFuture[Any]](futures))
    results: list[ShardResult] = []
    failures: list[BaseException] = []
    for future in futures:
        state = future.state
        value = state.result(raise_on_failure=False)
        if isinstance(value, BaseException):
            failures.append(value)
        elif value is not None:
            results += value
    return results, failures


def _is_transient(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a failure may pass by itself: input and output, not a mistake in the data or the code."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError | PermissionError)


def _workers(engine: EngineSettings, work: StagePlan) -> int:
    """One worker a core for plain code; one in all for a model, which uses every core itself."""
    if engine.workers:
        wanted = engine.workers
    else:
        wanted = 1 if work.stage.uses_model and engine.kind == "threads" else os.cpu_count() or 1
    return max(1, min(wanted, len(work.shards)))


def _check_budget(store: Store, work: StagePlan, done: Mapping[str, list[Part]]) -> None:
    """Fails an ingest that rejects more than its error budget: a wrong folder rather than a few bad files."""
    rejected = sum(part.rows for part in done["pairs_rejected"])
    total = rejected + sum(part.rows for part in done["pairs"])
    budget = work.settings.error_budget if isinstance(work.settings, IngestSettings) else 1.0
    if total == 0:
        raise StageFailedError("ingest: the source holds no image; check its path and columns")
    if rejected > budget * total:
        reasons = _reasons(store, "pairs_rejected", done["pairs_rejected"])
        raise StageFailedError(
            f"ingest: {rejected} of {total} rows were rejected ({_counted(reasons)}), more than the error budget of "
            f"{budget:.0%}; mend the source, or raise it with --set ingest.error_budget=1"
        )


def _train(store: Store, work: StagePlan, engine: EngineSettings, rounds: int) -> list[Snapshot]:
    """Runs a training as a child process that ends with this one; its unfinished work is kept for the next run."""
    stage = work.stage
    folder = store.work_folder(f"{stage.name}-{work.key}")
    order = training_child.Order(
        stage=stage.name,
        rounds=rounds,
        store=store.url,
        settings=work.settings,
        engine=engine,
        snapshots=work.snapshots,
        folder=str(folder),
        key=work.key,
    )
    part: Part | None = None
    with stage_progress(stage.name) as progress, tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log.txt"
        child, messages = training_child.start(order, log)
        try:
            with contextlib.suppress(EOFError):  # of a child that has ended
                while True:
                    message = messages.recv()
                    if isinstance(message, Part):
                        part = message
                    else:
                        progress(message.done, message.total, message.what)
            child.join()
        except BaseException:
            child.kill()
            raise
        text = log.read_text(errors="replace").strip() if log.is_file() else ""
    if child.exitcode or part is None:
        last = text.splitlines()[-1] if text else f"exit code {child.exitcode}"
        get_run_logger().error(text)
        raise StageFailedError(
            f"{stage.name}: the training stopped with {last}. The last good checkpoint is kept; run again to go on."
        )
    digest = store.write_model(stage.model, work.key, folder)
    model = replace(_snapshot(work, stage.model, (), {}), model=digest)
    return [model, _snapshot(work, stage.writes[0], (part,), {})]


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
        settings=work.settings.model_dump(mode="json"),
        inputs={alias: f"{snapshot.artifact}@{snapshot.key}" for alias, snapshot in work.snapshots.items()},
    )


def _summary(store: Store, work: StagePlan, snapshots: list[Snapshot], seconds: float) -> StageSummary:
    rejected: Counter[str] = Counter()
    for snapshot in snapshots:
        if snapshot.artifact.endswith("_rejected"):
            rejected += _reasons(store, snapshot.artifact, list(snapshot.parts))
    computed = len(work.shards)
    total = max((len(snapshot.parts) for snapshot in snapshots), default=0)
    return StageSummary(
        stage=work.stage.name,
        key=work.key,
        rows={snapshot.artifact: snapshot.rows for snapshot in snapshots if not snapshot.model},
        computed=computed,
        reused=max(0, total - computed),
        rejected=dict(rejected),
        seconds=seconds,
    )


def _reasons(store: Store, artifact: str, parts: list[Part]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for part in parts:
        if part.rows:
            counts.update(store.read_part(artifact, part, ["reason"])["reason"].to_pylist())
    return counts


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))


def _tell(summary: StageSummary, settings: Settings) -> None:
    console.print(summary.line())
    get_run_logger().info(summary.line())
    rows = "\n".join(f"| rows of `{name}` | {count:,} |" for name, count in summary.rows.items())
    rejected = "\n".join(f"| rejected: {reason} | {count:,} |" for reason, count in summary.rejected.items())
    chosen = json.dumps(settings.model_dump(mode="json"), indent=1)
    create_markdown_artifact(
        f"## {summary.stage}\n\n| | |\n|---|---|\n{rows}\n| shards computed | {summary.computed} |\n"
        f"| shards reused | {summary.reused} |\n| seconds | {summary.seconds:.1f} |\n{rejected}\n\n"
        f"```json\n{chosen}\n```\n",
        key=summary.stage,
        description=summary.line(),
    )
