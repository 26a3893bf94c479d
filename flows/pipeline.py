"""The pipeline: all stages in order, each a flow of its own, only those whose inputs or settings changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import httpx
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import get_current_settings

from flows.parameters import (
    FORCED_STAGE,
    REFIT,
    RETRY_REJECTED,
    START,
    STORE,
    UNTIL,
    USUAL,
    USUAL_EXECUTOR,
    StageName,
    Url,
)
from flows.progress import console
from flows.run_stage import keep_stage, planned, plans_at_hand
from flows.showing import show
from flows.stage_report import link_report, reported_at_the_end
from flows.stages import options, run_name, stage_flows
from storage import full_disk
from storage.addresses import concealed, revealed
from storage.markdown import table
from storage.store import DamagedPartError, Store
from tasks.machine import planning
from tasks.machine.outlook import PlannedStage, Request, cost, outlook
from tasks.machine.repairs import repairing
from tasks.machine.stage_run import StageRun
from tasks.settings.executor import ExecutorSettings
from tasks.settings.pipeline import PipelineSettings

PATIENCE_SECONDS = (1, 2, 5, 10, 20, 40)  # a server that is away for a minute costs a run nothing


@flow(name="ram-data-engine", flow_run_name=run_name)
def pipeline(
    store: Url = STORE,
    settings: PipelineSettings = USUAL,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    start: StageName = START,
    until: StageName = UNTIL,
    force: StageName = FORCED_STAGE,
    retry_rejected: bool = RETRY_REJECTED,
    refit: bool = REFIT,
) -> list[dict[str, Any]]:
    """The whole engine, from captions to a retrained tagger: runs every stage that is not up to date."""
    opened, settings = Store(store), settings.mapped(revealed)
    request = Request(settings.rounds, start, until, force, retry_rejected, refit)
    coming = repairing(opened, lambda: outlook(opened, settings, request, planned), tell_of_damage)
    tell_what_is_known(opened)
    announce(coming)
    outcomes: dict[str, dict[str, Any]] = {}

    def run_all() -> None:
        _run_all(opened, settings, executor, request, outcomes)
        _finish(store, settings.rounds)

    try:
        with plans_at_hand(stage.work for stage in coming if stage.work is not None), reported_at_the_end():
            repairing(opened, run_all, tell_of_damage)
    except Exception:
        finish(store, settings.rounds, return_state=True)  # what was done is to be seen
        raise
    return list(outcomes.values())


def announce(coming: list[PlannedStage]) -> None:
    """Says before it starts what the run will compute, with minutes: a refit may be most of the work."""
    todo = [one for one in coming if one.state not in ("done", "kept")]
    if not todo:
        get_run_logger().info("everything is up to date")
        return
    rows = [
        (one.stage.name, one.state, str(one.shards or ""), f"{one.rows:,}", f"{one.seconds / 60:.1f}", one.note)
        for one in todo
    ]
    seconds, stored = cost(todo)
    minutes, gigabytes = seconds / 60, stored / 1e9
    get_run_logger().info("%d stages to compute, about %.0f minutes and %.1f GB", len(todo), minutes, gigabytes)
    show(
        create_markdown_artifact,
        f"## What this run will compute\n\n{table(('stage', 'state', 'shards', 'rows', 'minutes', ''), rows)}\n",
        key="plan",
        description=f"about {minutes:.0f} minutes and {gigabytes:.1f} GB",
    )


def tell_of_damage(message: str) -> None:
    """Says what a run computes again, in the terminal and in its log."""
    console.print(f"  {message}")
    get_run_logger().warning("%s", message)


def tell_what_is_known(store: Store) -> None:
    """Names the damaged parts that readers found before: planned as missing, they are mended without being read."""
    for file in store.found_damaged():
        tell_of_damage(f"{file} is damaged or missing: it is computed again where this run comes to it")


def _run_all(
    store: Store,
    settings: PipelineSettings,
    executor: ExecutorSettings,
    request: Request,
    outcomes: dict[str, dict[str, Any]],
) -> None:
    """Brings all stages up to date, and ``outcomes``, by stage, with them."""
    for stage in request.stages():
        if reason := planning.left_out(store, stage, settings):
            console.print(f"{stage.name:<16} left out: {reason}")
            continue
        run = StageRun(store, stage, stage.settings_of(settings), executor, request.again(stage))
        outcome = bring_up_to_date(run)
        if not outcome["kept"] or stage.name not in outcomes:  # after a repair most stages are kept
            outcomes[stage.name] = outcome


def bring_up_to_date(run: StageRun) -> dict[str, Any]:
    """Runs the stage's flow unless the store already holds its outcome; tells by ``kept`` which."""
    work = planned(run)
    if not work.kept:
        with plans_at_hand([work]):
            return run_flow(run)
    outcome = keep_stage(work)
    get_run_logger().info(outcome.line())
    return asdict(outcome)


def run_flow(run: StageRun) -> dict[str, Any]:
    """Runs one stage's flow. Raises DamagedPartError where a part that it read was damaged (and is removed now)."""
    call = stage_flows()[run.stage.declared.name]
    try:
        result: dict[str, Any] = patiently(lambda: call(run.store.url, run.settings.mapped(concealed), **options(run)))
    except planning.StageFailedError as error:
        if isinstance(error.__cause__, DamagedPartError):
            raise error.__cause__ from error
        raise
    return result


def patiently(call: Callable[[], Any]) -> Any:
    """Calls again, with longer and longer pauses, while Prefect's server is away or ill: the store keeps the work."""
    for pause in PATIENCE_SECONDS:
        try:
            return call()
        except (httpx.TransportError, PrefectHTTPStatusError) as error:
            if isinstance(error, PrefectHTTPStatusError) and error.response.status_code < 500:
                raise
            if full := full_disk.of(error) or full_disk.nothing_left(get_current_settings().home):
                raise full from error
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            console.print(f"  Prefect's server cannot be reached ({reason}); trying again in {pause} s")
            time.sleep(pause)
    return call()


def _finish(store: str, rounds: int) -> None:
    """Writes the pipeline's page; raises DamagedPartError where that read a damaged part."""
    told = finish(store, rounds, return_state=True)
    if told.is_failed():
        error = told.result(raise_on_failure=False)
        if isinstance(error, DamagedPartError):
            raise error
        console.print(f"  the pipeline's page could not be written: {told.message}")


@task(name="pipeline report", cache_policy=NO_CACHE)
def finish(store: str, rounds: int) -> None:
    """The pipeline's page, which begins with the verdict, and the report in the store."""
    from tasks.report import operator
    from tasks.report.write import write_report

    opened = Store(store, create=False)
    page = operator.pipeline_page(opened, rounds)
    opened.write_text("reports/ram-data-engine.md", page)
    show(create_markdown_artifact, page, key="ram-data-engine", description="is the retrained model better?")
    link_report(opened, write_report(opened, rounds))
