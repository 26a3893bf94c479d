"""Deployments of the pipeline, refresh, ablation and every stage, with a preset's settings as the forms' defaults."""

from __future__ import annotations

from typing import Any

from prefect import serve
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from flows.ablation import ablate
from flows.pipeline import LAST_STAGES, pipeline
from flows.refresh import refresh
from flows.stages import FLOWS, clean_tags
from storage.schemas import first_round_name
from tasks.machine.dag import stages
from tasks.settings.executor import ExecutorSettings
from tasks.settings.pipeline import PipelineSettings


def deployments(store: str, settings: PipelineSettings, executor: ExecutorSettings) -> list[RunnerDeployment]:
    """One deployment for the pipeline, refresh, ablation and each stage, on ``store``; each has its Run button."""
    shared: dict[str, Any] = {"store": store, "executor": executor.model_dump(mode="json")}
    parameters: dict[str, dict[str, Any]] = {
        "ram-data-engine": {**shared, "settings": settings.model_dump(mode="json")},
        "refresh": shared,
        "ablate": {
            **shared,
            "settings": settings.retrain.model_dump(mode="json"),
            "fine_tuning": settings.fine_tune.model_dump(mode="json"),
            "rounds": settings.rounds,
        },
        "clean-tags": {
            **shared,
            "ground_settings": settings.ground.model_dump(mode="json"),
            "clean_settings": settings.clean.model_dump(mode="json"),
        },
    }
    for stage in stages(settings.rounds):  # of the rounds of a stage the last one's settings stay: they are the same
        name = first_round_name(stage.name)
        parameters[name] = {**shared, "settings": stage.settings_of(settings).model_dump(mode="json")}
        if name in LAST_STAGES:
            parameters[name]["rounds"] = settings.rounds
    flows: list[Any] = [pipeline, refresh, ablate, *FLOWS.values(), clean_tags]
    return [
        flow.to_deployment(
            name=store.rstrip("/").rsplit("/", 1)[-1],
            parameters=parameters[flow.name],
            description=flow.description,
            tags=["ram-engine"],
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for flow in flows
    ]


def serve_deployments(store: str, settings: PipelineSettings, executor: ExecutorSettings) -> None:
    """Waits for runs of the deployments and runs them, one at a time, until it is interrupted."""
    serve(*deployments(store, settings, executor), limit=1, print_starting_message=False)
