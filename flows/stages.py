"""One Prefect flow a stage, made from the stages' declarations, and `clean-tags`, which chains four of them.

Prefect draws a form from a function's signature: that of a stage's flow is put together from what its declaration says.
An entry point such as ``flows/stages.py:fit_clusters`` finds the flow of a stage by its name.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from typing import Any

from prefect import Flow, flow
from prefect.runtime import flow_run

from flows import parameters as words
from flows.parameters import REFIT, ROUND, STORE, USUAL, USUAL_EXECUTOR, Round, Url
from flows.progress import console
from flows.run_stage import run_stage
from flows.stage_report import report_is_due, tell, write_reports
from storage.addresses import revealed
from storage.names import of_round
from storage.store import Store
from tasks.machine.dag import declarations, stage_named
from tasks.machine.declaration import Declaration
from tasks.machine.stage_run import Again, StageRun
from tasks.settings.executor import ExecutorSettings
from tasks.settings.fit_clusters import FitClustersSettings
from tasks.settings.ground import GroundSettings
from tasks.settings.judge import JudgeSettings

Result = dict[str, Any]


def run_name() -> str:
    """``<stage> on <store>``: what an operator looks for in a list of runs."""
    parameters = flow_run.parameters
    name = of_round(str(flow_run.flow_name), int(parameters.get("round_number", 1)))
    return f"{name} on {str(parameters.get('store', '')).rstrip('/').rsplit('/', 1)[-1]}"


@cache
def stage_flows() -> dict[str, Flow[..., Result]]:
    """The flow of each stage, by the stage's name."""
    return {declared.name: _flow_of(declared) for declared in declarations()}


def __getattr__(name: str) -> Flow[..., Result]:
    """The flow of a stage as an attribute of this module, as Prefect's entry points want it."""
    for declared in declarations():
        if declared.identifier == name:
            return stage_flows()[declared.name]
    raise AttributeError(name)


def _flow_of(declared: Declaration) -> Flow[..., Result]:
    def run(**given: Any) -> Result:
        return _run(declared, given)

    run.__name__ = run.__qualname__ = declared.identifier
    fitted = "; frozen until a refit" if declared.frozen else ""
    run.__doc__ = f"{declared.about[0].upper()}{declared.about[1:]}{fitted}."
    run.__signature__ = inspect.Signature(list(_parameters(declared)))  # type: ignore[attr-defined]
    return flow(name=declared.name, flow_run_name=run_name)(run)


def _parameters(declared: Declaration) -> Iterator[inspect.Parameter]:
    """The parameters of a stage's flow; what is changed most comes first."""

    def parameter(name: str, type_: Any, default: Any) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=type_)

    yield parameter("store", Url, STORE)
    yield parameter("settings", type(declared.usual), declared.usual)
    yield parameter("force", bool, words.FORCE)
    if declared.frozen:
        yield parameter("refit", bool, REFIT)
    if declared.rejects:
        yield parameter("retry_rejected", bool, words.RETRY_REJECTED)
    if declared.continues:
        yield parameter("warm_start", bool, words.WARM_START)
    if declared.scope == "round":
        yield parameter("round_number", Round, ROUND)
    if declared.scope == "last":
        yield parameter("rounds", Round, words.ROUNDS)
    if declared.reads:
        yield parameter("inputs", list[str], words.INPUTS)
    yield parameter("candidate", bool, words.CANDIDATE)
    yield parameter("executor", ExecutorSettings, USUAL_EXECUTOR)


def options(run: StageRun) -> dict[str, Any]:
    """What the flow of a run's stage is called with beside store and settings."""
    declared, again = run.stage.declared, run.again
    chosen = {
        "force": again.force,
        "refit": again.refit,
        "retry_rejected": again.retry_rejected,
        "warm_start": again.warm_start,
        "inputs": list(again.inputs),
        "candidate": run.candidate,
        "round_number": run.stage.number,
        "rounds": run.stage.rounds,
        "executor": run.executor,
    }
    taken = {parameter.name for parameter in _parameters(declared)}
    return {name: value for name, value in chosen.items() if name in taken}


def _run(declared: Declaration, given: dict[str, Any]) -> Result:
    """Runs the stage as its flow was asked to, and writes what an operator reads of it."""
    number = given.get("round_number", 1)
    stage = stage_named(
        of_round(declared.name, number) if declared.scope == "round" else declared.name,
        max(given.get("rounds", 1), number),
    )
    again = Again(
        force=given["force"],
        refit=given.get("refit", False),
        retry_rejected=given.get("retry_rejected", False),
        inputs=tuple(name.strip() for name in given.get("inputs", ()) if name.strip()),
        warm_start=given.get("warm_start", False),
    )
    store, settings = given["store"], given["settings"].mapped(revealed)
    outcome = run_stage(StageRun(Store(store), stage, settings, given["executor"], again, given["candidate"]))
    if outcome.kept:
        tell(outcome)
        return asdict(outcome)
    told = write_reports(store, stage, settings, outcome, report_is_due(), return_state=True)
    if told.is_failed():
        console.print(f"  the report could not be written: {told.message}")
    return asdict(outcome)


@flow(name="clean-tags", flow_run_name=run_name)
def clean_tags(
    store: Url = STORE,
    ground: GroundSettings = USUAL.ground,
    fit_clusters: FitClustersSettings = USUAL.fit_clusters,
    judge: JudgeSettings = USUAL.judge,
    refit: bool = REFIT,
    round_number: Round = ROUND,
    executor: ExecutorSettings = USUAL_EXECUTOR,
) -> list[Result]:
    """Finds the regions of every tag, clusters them, and judges the tags: ground, fit-clusters, audit, judge."""
    flows = stage_flows()
    chosen: dict[str, Any] = {"round_number": round_number, "executor": executor}
    return [
        flows["ground"](store, ground, **chosen),
        flows["fit-clusters"](store, fit_clusters, refit=refit, **chosen),
        flows["audit"](store, judge, refit=refit, **chosen),
        flows["judge"](store, judge, **chosen),
    ]
