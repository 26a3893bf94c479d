"""Deployments of the pipeline, refresh, ablation and every stage: what a Prefect server offers with a Run button.

All of them follow from the stages' declarations and from a store's settings, in three places: `prefect.yaml` for the
sample, the file that ``ram-engine deploy`` writes for a store, and the deployments that ``ram-engine ui`` serves.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import prefect
import yaml
from prefect import Flow, serve
from prefect.types.entrypoint import EntrypointType

from flows.ablation import ablate
from flows.pipeline import pipeline
from flows.refresh import refresh
from flows.stages import clean_tags, stage_flows
from tasks.machine.dag import declarations, stages
from tasks.machine.declaration import Declaration
from tasks.settings.executor import ExecutorSettings
from tasks.settings.pipeline import PipelineSettings

PLAIN, TRAINING = "ram-engine", "ram-engine-training"  # the pool of stages that run no model, and that of all else
NIGHTLY = {
    "schedules": [{"cron": "0 3 * * *", "timezone": "UTC", "slug": "nightly"}],
    "concurrency_limit": {"limit": 1, "collision_strategy": "CANCEL_NEW", "grace_period_seconds": 60},
    "triggers": [
        {
            "type": "event",
            "enabled": True,
            "posture": "Reactive",
            "name": "refresh when data landed",
            "expect": ["ram-engine.data.landed"],
            "match": {"prefect.resource.id": "ram-engine.source.*"},
            "threshold": 1,
            "within": 0,
        }
    ],
}
WHOLE = """\
**The whole engine**, from captions to a retrained tagger. Runs every stage that is not up to date, and says first how
long that will take. *Start with* and *Stop after* run a stretch of it, *Force* computes one stage again, *Retry
rejected rows* tries those again that were set apart as unfit.
"""
REFRESH = """\
**What is new in the source** goes through every stage, with the label system, the annotator and the clusters as they
are. When enough is new a model is trained; it takes over unless it is worse than the present one by more than the
tolerance. Ends in seconds where nothing is new. Runs every night, and when the event `ram-engine.data.landed` comes.
"""
ABLATE = """\
**What each stage's labels are worth**: one trainer on what captions name, on what generation added, on what cleaning
kept, and on all that is there where that is known; several seeds each, with intervals. Needs a store that was run up to
*judge*. Table, chart and JSON go into the store, the table into the report.
"""
CLEAN = "Four stages in a row, ground, fit-clusters, audit and judge: they find and remove wrong tags."


@dataclass(frozen=True)
class Deployment:
    """A flow as it is offered: where workers find it, the words above its form, and what its form begins with.

    ``pool``: whose workers run it. ``triggers`` are schedules, events and limits as `prefect.yaml` has them.
    """

    flow: Flow[..., Any]
    entrypoint: str
    description: str
    pool: str = TRAINING
    parameters: dict[str, Any] = field(default_factory=dict)
    triggers: dict[str, Any] = field(default_factory=dict)


def deployments(settings: PipelineSettings) -> list[Deployment]:
    """All deployments, with ``settings`` in their forms: those that do not stand at their defaults."""
    chosen = {name: section.chosen() for name, section in settings if name != "rounds"}
    cleaning = {name: chosen[name] for name in ("ground", "fit_clusters", "judge")}
    ablation = {"settings": chosen["retrain"], "fine_tuning": chosen["fine_tune"], "rounds": settings.rounds}
    whole = {"settings": settings.chosen()}
    return [
        Deployment(pipeline, "flows.pipeline.pipeline", WHOLE, parameters=whole),
        Deployment(refresh, "flows.refresh.refresh", REFRESH, triggers=NIGHTLY),
        *(_of_stage(declared, settings) for declared in declarations()),
        Deployment(ablate, "flows.ablation.ablate", ABLATE, parameters=ablation),
        Deployment(clean_tags, "flows.stages.clean_tags", CLEAN, parameters=cleaning),
    ]


def _of_stage(declared: Declaration, settings: PipelineSettings) -> Deployment:
    last = [stage for stage in stages(settings.rounds) if stage.declared == declared][-1]
    parameters: dict[str, Any] = {"settings": last.settings_of(settings).chosen()}
    if declared.scope == "last":
        parameters["rounds"] = settings.rounds
    if declared.scope == "round" and settings.rounds > 1:
        parameters["round_number"] = settings.rounds  # whose settings these are
    fitted = " Frozen: more data changes nothing until a refit." if declared.frozen else ""
    return Deployment(
        stage_flows()[declared.name],
        f"flows.stages.{declared.identifier}",
        f"This stage {declared.about}.{fitted}",
        TRAINING if declared.uses_model else PLAIN,
        parameters,
    )


def deployment_file(
    name: str, store: str, settings: PipelineSettings, executor: ExecutorSettings, in_checkout: bool = False
) -> str:
    """A `prefect.yaml` of all deployments on ``store``, each called ``<flow>/<name>``.

    ``in_checkout``: workers take the flows from the folder that was deployed from; else from the installed package.
    What stands at its default is left to the forms.
    """
    shared: dict[str, Any] = {"store": store}
    if executor != ExecutorSettings():
        shared["executor"] = executor.chosen()
    listed = []
    for deployment in deployments(settings):
        module, _, function = deployment.entrypoint.rpartition(".")
        listed.append(
            {
                "name": name,
                "entrypoint": f"{module.replace('.', '/')}.py:{function}" if in_checkout else deployment.entrypoint,
                "description": _Text(deployment.description),
                "tags": ["ram-engine"],
                "work_pool": {"name": deployment.pool},
                "parameters": {**shared, **deployment.parameters},
                **deployment.triggers,
            }
        )
    content = {"name": "ram-engine", "prefect-version": prefect.__version__, "deployments": listed}
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True, default_flow_style=None)


class _Text(str):
    """Words that a YAML file holds as they are, line by line."""


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and repeats what stands twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    _Text,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def deploy(file: Path) -> None:
    """Registers the deployments of ``file`` with the Prefect server that is configured, and makes the pools they need.

    Raises :class:`ValueError` with what Prefect said where it refused.
    """
    for pool in (PLAIN, TRAINING):
        _prefect("work-pool", "create", pool, "--type", "process", "--overwrite")
    _prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(file))


def _prefect(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "prefect", *arguments], capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ValueError(f"prefect {arguments[-1]} failed: {said[-1] if said else f'exit code {done.returncode}'}")


def serve_deployments(store: str, settings: PipelineSettings, executor: ExecutorSettings) -> None:
    """Waits for runs of the deployments and runs them, one at a time, until it is interrupted."""
    shared = {"store": store, "executor": executor.chosen()}
    served: Any = [
        deployment.flow.to_deployment(
            name=store.rstrip("/").rsplit("/", 1)[-1],
            parameters={**shared, **deployment.parameters},
            description=deployment.description,
            tags=["ram-engine"],
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for deployment in deployments(settings)
    ]
    serve(*served, limit=1, print_starting_message=False)
