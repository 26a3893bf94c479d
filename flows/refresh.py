"""The refresh: what is new in the source goes through every stage as the store was made; a better model takes over."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.parameters import RETRAIN_SHARE, STORE, TOLERANCE, USUAL_EXECUTOR, Share, Url
from flows.pipeline import bring_up_to_date, tell_of_damage, tell_what_is_known
from flows.progress import console
from flows.showing import show
from flows.stage_report import reported_at_the_end, whole_report
from flows.stages import run_name
from storage.markdown import table
from storage.names import of_round
from storage.store import Snapshot, Store
from tasks.machine import refreshing
from tasks.machine.declaration import Stage
from tasks.machine.refreshing import Made
from tasks.machine.repairs import repairing
from tasks.machine.stage_run import Again, StageRun
from tasks.settings.executor import ExecutorSettings


@flow(name="refresh", flow_run_name=run_name)
def refresh(
    store: Url = STORE,
    retrain_share: Share = RETRAIN_SHARE,
    tolerance: Share = TOLERANCE,
    executor: ExecutorSettings = USUAL_EXECUTOR,
) -> dict[str, Any]:
    """Brings a store up to date with its source: new and changed images alone are computed, with the label system, the
    annotator and the clusters as they are. A new model is trained when enough is new, and takes over if it is good."""
    opened = Store(store, create=False)
    made = refreshing.made(opened)
    with reported_at_the_end():
        outcome = _refresh(opened, made, retrain_share, tolerance, executor)
    if outcome["computed"]:
        told = whole_report(store, made.rounds, return_state=True)
        if told.is_failed():
            console.print(f"  the report could not be written: {told.message}")
    _tell(outcome)
    return outcome


def _refresh(
    opened: Store, made: Made, retrain_share: float, tolerance: float, executor: ExecutorSettings
) -> dict[str, Any]:
    """What was computed, and what became of the model."""
    trained = of_round("ram", made.rounds)
    tell_what_is_known(opened)
    computed = repairing(opened, lambda: _refresh_data(opened, made, executor), tell_of_damage)
    outcome: dict[str, Any] = {"computed": computed}
    last = refreshing.newest(opened, trained)
    pairs = opened.snapshot("pairs")
    change = refreshing.change_since(opened, last)
    changed = change.images + change.relabelled
    share = changed / max(1, pairs.rows if pairs else 0)
    outcome |= {
        "changed_images": change.images,
        "relabelled_images": change.relabelled,
        "share": round(share, 4),
    }
    undecided = last.held_back == refreshing.UNDECIDED  # the refresh that trained it was stopped
    if (changed and share >= retrain_share) or undecided:
        outcome |= _retrain(opened, made, executor, tolerance)
        outcome["computed"] += [*(stage.name for stage in _trainings(made)), "evaluate"]
    else:
        more = f" ({share:.1%}); a new one is trained from {retrain_share:.1%}" if changed else ""
        outcome["model"] = f"kept: {change}{more}"
    return outcome


def _refresh_data(store: Store, made: Made, executor: ExecutorSettings) -> list[str]:
    """All stages but the trainings and what follows from them; returns the names of those that computed something."""
    computed = []
    for stage in made.stages():
        if (stage.kind != "training" or stage.frozen) and stage.name != "evaluate":
            result = bring_up_to_date(StageRun(store, stage, made.settings[stage.name], executor))
            if not result["kept"]:
                computed.append(stage.name)
    return computed


def _trainings(made: Made) -> list[Stage]:
    return [stage for stage in made.stages() if stage.name in (of_round("retrain", made.rounds), "fine-tune")]


def _retrain(store: Store, made: Made, executor: ExecutorSettings, tolerance: float) -> dict[str, Any]:
    """Trains candidates, measures them and the present model on the same pictures, and lets the better one be."""
    present = _evaluate(store, made, executor, [], candidate=False)
    candidates: list[Snapshot] = []
    for stage in _trainings(made):
        again = Again(
            warm_start=stage.name != "fine-tune",
            # the ablation's models are of the data as it was
            inputs=tuple(_named(candidates)) + (("ablation@none",) if stage.name == "fine-tune" else ()),
        )
        candidates += _candidates(store, stage, made, executor, again)
    measured = _evaluate(store, made, executor, _named(candidates), candidate=True)
    before, after = (refreshing.final_map(store, one["metrics"]) for one in (present, measured))
    models = [*candidates, *measured.values()]
    figures = {"map_before": round(before, 4), "map_after": round(after, 4)}
    if after >= before - tolerance:
        refreshing.promote(store, models)
        return {"model": f"promoted: mAP {after:.3f}, before {before:.3f}", "promoted": True, **figures}
    reason = f"mAP {after:.3f} against {before:.3f} of the model before"
    refreshing.hold_back(store, models, reason)
    return {"model": f"held back: {reason}", "promoted": False, **figures}


def _candidates(store: Store, stage: Stage, made: Made, executor: ExecutorSettings, again: Again) -> list[Snapshot]:
    run = StageRun(store, stage, made.settings[stage.name], executor, again, candidate=True)
    result = bring_up_to_date(run)
    found = [store.snapshot(artifact, result["key"]) for artifact in stage.outputs]
    return [snapshot for snapshot in found if snapshot is not None]


def _evaluate(
    store: Store, made: Made, executor: ExecutorSettings, inputs: list[str], candidate: bool
) -> dict[str, Snapshot]:
    stage = next(stage for stage in made.stages() if stage.name == "evaluate")
    again = Again(inputs=tuple(inputs))
    result = bring_up_to_date(StageRun(store, stage, made.settings[stage.name], executor, again, candidate))
    found = {artifact: store.snapshot(artifact, result["key"]) for artifact in stage.outputs}
    return {artifact: snapshot for artifact, snapshot in found.items() if snapshot is not None}


def _named(snapshots: list[Snapshot]) -> list[str]:
    return [str(snapshot.name) for snapshot in snapshots if snapshot.model]


def _tell(outcome: dict[str, Any]) -> None:
    computed = ", ".join(outcome["computed"]) or "nothing"
    console.print(f"refresh: computed {computed}; model {outcome['model']}")
    get_run_logger().info("computed %s; model %s", computed, outcome["model"])
    rows = {
        "images that came, left or changed since the last training": f"{outcome['changed_images']:,}",
        "others that have other tags since": f"{outcome['relabelled_images']:,}",
        "share of all images": f"{outcome['share']:.1%}",
        "stages that computed something": computed,
        "model": outcome["model"],
    }
    page = f"## Refresh\n\n{table(('', ''), list(rows.items()))}\n"
    show(create_markdown_artifact, page, key="refresh", description=outcome["model"])
