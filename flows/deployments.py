"""Deployments of the pipeline and of every stage, with a preset's settings as the form's defaults."""

from __future__ import annotations

from typing import Any

from prefect import serve
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from flows.pipeline import LAST_STAGES, ROUND_STAGES, pipeline
from flows.stages import FLOWS
from storage.schemas import first_round_name
from tasks.settings import EngineSettings, PipelineSettings
from tasks.stages import stages


def deployments(store: str, settings: PipelineSettings, engine: EngineSettings) -> list[RunnerDeployment]:
    """One deployment for the pipeline and one a stage, on ``store``; each has its Run button in Prefect's UI."""
    shared: dict[str, Any] = {"store": store, "engine": engine.model_dump(mode="json")}
    parameters: dict[str, dict[str, Any]] = {"pipeline": {**shared, "settings": settings.model_dump(mode="json")}}
    for stage in stages(settings.rounds):  # of the rounds of a stage the last one's settings stay: they are the same
        name = first_round_name(stage.name)
        parameters[name] = {**shared, "settings": stage.settings_of(settings).model_dump(mode="json")}
        if name in ROUND_STAGES:
            parameters[name]["round_number"] = 1
        if name in LAST_STAGES:
            parameters[name]["rounds"] = settings.rounds
    flows: dict[str, Any] = {"pipeline": pipeline, **FLOWS}
    return [
        flow.to_deployment(
            name="local",
            parameters=parameters[name],
            description=flow.description,
            tags=["ram-engine"],
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for name, flow in flows.items()
    ]


def serve_deployments(store: str, settings: PipelineSettings, engine: EngineSettings) -> None:
    """Waits for runs of the deployments and runs them, one at a time, until it is interrupted."""
    serve(*deployments(store, settings, engine), limit=1, print_starting_message=False)
