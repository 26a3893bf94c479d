"""The pipeline: all stages in order, each a flow of its own, only those whose inputs or settings changed."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact
from prefect.cache_policies import NO_CACHE

from flows.progress import console
from flows.run_stage import keep_stage, plan
from flows.stages import FLOWS
from storage.schemas import first_round_name
from storage.store import Store
from tasks import planning
from tasks.settings import EngineSettings, PipelineSettings
from tasks.stages import Stage, stages


@flow(name="pipeline", flow_run_name="pipeline on {store}")
def pipeline(
    store: str,
    settings: PipelineSettings = PipelineSettings(),
    engine: EngineSettings = EngineSettings(),
    until: str = "",
    force: str = "",
    refit: bool = False,
) -> list[dict[str, Any]]:
    """Runs every stage that is not up to date.

    ``until`` names the last stage to run, ``force`` a stage to compute again although it is done; ``refit`` fits label
    system, baseline and clusters anew, which makes everything after them new as well.
    """
    opened = Store(store)
    summaries = []
    for stage in stages(settings.rounds):
        if reason := planning.left_out(opened, stage, settings):
            console.print(f"{stage.name:<16} left out: {reason}")
            continue
        summaries.append(_bring_up_to_date(opened, stage, settings, engine, stage.name == force, refit))
        if stage.name == until:
            break
    return summaries


def _bring_up_to_date(
    store: Store, stage: Stage, settings: PipelineSettings, engine: EngineSettings, force: bool, refit: bool
) -> dict[str, Any]:
    chosen = stage.settings_of(settings)
    work = plan(store, stage, chosen, force, refit)
    if work.kept:
        summary = keep_stage(store, work)
        get_run_logger().info("%s is up to date %s", stage.name, summary.note)
        return {"stage": stage.name, "key": summary.key, "kept": True}
    return run_one(store, stage, settings, engine, force, refit)


def run_one(
    store: Store, stage: Stage, settings: PipelineSettings, engine: EngineSettings, force: bool, refit: bool
) -> dict[str, Any]:
    """Runs one stage's flow and writes the report anew."""
    options: dict[str, Any] = {"force": force}
    name = first_round_name(stage.name)
    if stage.frozen:
        options["refit"] = refit
    if name in ROUND_STAGES:
        options["round_number"] = int(stage.name.removeprefix(name).lstrip("-") or 1)
    if name in LAST_STAGES:
        options["rounds"] = settings.rounds
    result: dict[str, Any] = FLOWS[name](store.url, stage.settings_of(settings), engine, **options)
    told = write_report(store.url, settings.rounds, return_state=True)
    if told.is_failed():
        console.print(f"  the report could not be written: {told.message}")
    return result


ROUND_STAGES = {"generate", "ground", "fit-clusters", "judge", "retrain"}
LAST_STAGES = {"fine-tune", "train-ablation", "evaluate"}


@task(name="report", cache_policy=NO_CACHE)
def write_report(store: str, rounds: int) -> None:
    """Writes the report of all that the store holds. A failure is told, and costs the run nothing else."""
    from tasks.report.write import write_report as write

    name = write(Store(store, create=False), rounds)
    create_link_artifact(f"file://{store}/{name}", link_text="report.html", key="report")
