"""One Prefect flow a stage, and `clean-tags`, which chains three. Each can be run by itself, also from Prefect's UI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows.parameters import (
    CANDIDATE,
    FORCE,
    INPUTS,
    REFIT,
    RETRY_REJECTED,
    ROUND,
    ROUNDS,
    STORE,
    USUAL,
    USUAL_EXECUTOR,
    WARM_START,
    Round,
    Url,
)
from flows.progress import console
from flows.run_stage import run_stage
from flows.stage_report import tell, write_reports
from storage.store import Store
from tasks.machine.dag import of_round, stage_named
from tasks.machine.planning import Again
from tasks.settings.assign_tags import AssignTagsSettings
from tasks.settings.base import Settings
from tasks.settings.build_labels import BuildLabelsSettings
from tasks.settings.calibrate import CalibrateSettings
from tasks.settings.clean import CleanSettings
from tasks.settings.encode import EncodeSettings
from tasks.settings.evaluate import EvaluateSettings
from tasks.settings.executor import ExecutorSettings
from tasks.settings.generate import GenerateSettings
from tasks.settings.ground import GroundSettings
from tasks.settings.ingest import IngestSettings
from tasks.settings.measure import MeasureSettings
from tasks.settings.parse_captions import ParseCaptionsSettings
from tasks.settings.screen import ScreenSettings
from tasks.settings.train_baseline import TrainBaselineSettings
from tasks.settings.training import TrainSettings

Result = dict[str, Any]


def run_name() -> str:
    """``<stage> on <store>``: what an operator looks for in a list of runs."""
    parameters = flow_run.parameters
    name = of_round(str(flow_run.flow_name), int(parameters.get("round_number", 1)))
    return f"{name} on {str(parameters.get('store', '')).rstrip('/').rsplit('/', 1)[-1]}"


def _run(
    name: str,
    store: str,
    settings: Settings,
    executor: ExecutorSettings,
    again: Again,
    round_number: int = 1,
    rounds: int = 1,
    candidate: bool = False,
) -> Result:
    rounds = max(rounds, round_number)
    stage = stage_named(of_round(name, round_number), rounds)
    summary = run_stage(Store(store), stage, settings, executor, rounds, again, "a candidate" if candidate else "")
    if summary.kept:
        tell(summary)
        return asdict(summary)
    told = write_reports(store, stage, settings, summary, rounds, return_state=True)
    if told.is_failed():
        console.print(f"  the report could not be written: {told.message}")
    return asdict(summary)


def again(force: bool, inputs: Sequence[str], **more: bool) -> Again:
    """What a form asks to be computed although it is done."""
    return Again(force=force, inputs=tuple(one.strip() for one in inputs if one.strip()), **more)


@flow(name="ingest", flow_run_name=run_name)
def ingest(
    store: Url = STORE,
    settings: IngestSettings = USUAL.ingest,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    force: bool = FORCE,
    retry_rejected: bool = RETRY_REJECTED,
) -> Result:
    """Reads what is new or changed in the source; unfit rows are kept apart with their reason."""
    return _run("ingest", store, settings, executor, Again(force, retry_rejected=retry_rejected))


@flow(name="parse-captions", flow_run_name=run_name)
def parse_captions(
    store: Url = STORE,
    settings: ParseCaptionsSettings = USUAL.parse,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    force: bool = FORCE,
    retry_rejected: bool = RETRY_REJECTED,
    inputs: list[str] = INPUTS,
) -> Result:
    """Finds objects, scenes, attributes and actions in the captions."""
    return _run("parse-captions", store, settings, executor, again(force, inputs, retry_rejected=retry_rejected))


@flow(name="build-labels", flow_run_name=run_name)
def build_labels(
    store: Url = STORE,
    settings: BuildLabelsSettings = USUAL.labels,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    force: bool = FORCE,
    refit: bool = REFIT,
    inputs: list[str] = INPUTS,
) -> Result:
    """Chooses the tags and merges synonyms; frozen until a refit."""
    return _run("build-labels", store, settings, executor, again(force, inputs, refit=refit))


@flow(name="assign-tags", flow_run_name=run_name)
def assign_tags(
    store: Url = STORE,
    settings: AssignTagsSettings = USUAL.assign,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    force: bool = FORCE,
    inputs: list[str] = INPUTS,
) -> Result:
    """Maps phrases to tags of the label system."""
    return _run("assign-tags", store, settings, executor, again(force, inputs))


@flow(name="encode", flow_run_name=run_name)
def encode(
    store: Url = STORE,
    settings: EncodeSettings = USUAL.encode,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    force: bool = FORCE,
    inputs: list[str] = INPUTS,
) -> Result:
    """Stores the frozen image encoder's spatial features."""
    return _run("encode", store, settings, executor, again(force, inputs))


@flow(name="measure", flow_run_name=run_name)
def measure(
    store: Url = STORE,
    settings: MeasureSettings = USUAL.measure,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    force: bool = FORCE,
    inputs: list[str] = INPUTS,
) -> Result:
    """Hashes every image and measures what it is screened by."""
    return _run("measure", store, settings, executor, again(force, inputs))


@flow(name="screen", flow_run_name=run_name)
def screen(
    store: Url = STORE,
    settings: ScreenSettings = USUAL.screen,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    force: bool = FORCE,
    inputs: list[str] = INPUTS,
) -> Result:
    """Finds near-duplicates, unfit images and leaks of the evaluation set; nothing is deleted."""
    return _run("screen", store, settings, executor, again(force, inputs))


@flow(name="train-baseline", flow_run_name=run_name)
def train_baseline(
    store: Url = STORE,
    settings: TrainBaselineSettings = USUAL.baseline,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    force: bool = FORCE,
    refit: bool = REFIT,
    inputs: list[str] = INPUTS,
) -> Result:
    """Trains the annotator on the captions and their tags, and its fold models; frozen until a refit."""
    return _run("train-baseline", store, settings, executor, again(force, inputs, refit=refit))


@flow(name="calibrate", flow_run_name=run_name)
def calibrate(
    store: Url = STORE,
    settings: CalibrateSettings = USUAL.calibrate,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    force: bool = FORCE,
    refit: bool = REFIT,
    inputs: list[str] = INPUTS,
    round_number: Round = ROUND,
) -> Result:
    """Finds out, out of fold, which tags the annotator may add, and where; frozen until a refit."""
    return _run("calibrate", store, settings, executor, again(force, inputs, refit=refit), round_number=round_number)


@flow(name="generate", flow_run_name=run_name)
def generate(
    store: Url = STORE,
    settings: GenerateSettings = USUAL.generate,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    force: bool = FORCE,
    retry_rejected: bool = RETRY_REJECTED,
    inputs: list[str] = INPUTS,
    round_number: Round = ROUND,
) -> Result:
    """The annotator adds captions and tags to every image."""
    return _run(
        "generate",
        store,
        settings,
        executor,
        again(force, inputs, retry_rejected=retry_rejected),
        round_number=round_number,
    )


@flow(name="ground", flow_run_name=run_name)
def ground(
    store: Url = STORE,
    settings: GroundSettings = USUAL.ground,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    force: bool = FORCE,
    retry_rejected: bool = RETRY_REJECTED,
    inputs: list[str] = INPUTS,
    round_number: Round = ROUND,
) -> Result:
    """Finds the regions of every groundable tag."""
    return _run(
        "ground",
        store,
        settings,
        executor,
        again(force, inputs, retry_rejected=retry_rejected),
        round_number=round_number,
    )


@flow(name="fit-clusters", flow_run_name=run_name)
def fit_clusters(
    store: Url = STORE,
    settings: CleanSettings = USUAL.clean,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    force: bool = FORCE,
    refit: bool = REFIT,
    inputs: list[str] = INPUTS,
    round_number: Round = ROUND,
) -> Result:
    """Clusters each tag's regions with k-means++; frozen until a refit."""
    return _run("fit-clusters", store, settings, executor, again(force, inputs, refit=refit), round_number=round_number)


@flow(name="audit", flow_run_name=run_name)
def audit(
    store: Url = STORE,
    settings: CleanSettings = USUAL.clean,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    force: bool = FORCE,
    refit: bool = REFIT,
    inputs: list[str] = INPUTS,
    round_number: Round = ROUND,
) -> Result:
    """Tries the judge and the captioner on words that are known to be right; frozen until a refit."""
    return _run("audit", store, settings, executor, again(force, inputs, refit=refit), round_number=round_number)


@flow(name="judge", flow_run_name=run_name)
def judge(
    store: Url = STORE,
    settings: CleanSettings = USUAL.clean,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    force: bool = FORCE,
    inputs: list[str] = INPUTS,
    round_number: Round = ROUND,
) -> Result:
    """Keeps or removes every tag, with the reason."""
    return _run("judge", store, settings, executor, again(force, inputs), round_number=round_number)


@flow(name="retrain", flow_run_name=run_name)
def retrain(
    store: Url = STORE,
    settings: TrainSettings = USUAL.retrain,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    force: bool = FORCE,
    inputs: list[str] = INPUTS,
    warm_start: bool = WARM_START,
    round_number: Round = ROUND,
    candidate: bool = CANDIDATE,
) -> Result:
    """Trains RAM on the tags that were kept."""
    return _run(
        "retrain",
        store,
        settings,
        executor,
        again(force, inputs, warm_start=warm_start),
        round_number=round_number,
        candidate=candidate,
    )


@flow(name="fine-tune", flow_run_name=run_name)
def fine_tune(
    store: Url = STORE,
    settings: TrainSettings = USUAL.fine_tune,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    force: bool = FORCE,
    inputs: list[str] = INPUTS,
    rounds: Round = ROUNDS,
    candidate: bool = CANDIDATE,
) -> Result:
    """Fine-tunes RAM on the fully described pairs at the higher resolution."""
    return _run("fine-tune", store, settings, executor, again(force, inputs), rounds=rounds, candidate=candidate)


@flow(name="train-ablation", flow_run_name=run_name)
def train_ablation(
    store: Url = STORE,
    settings: TrainSettings = USUAL.retrain,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    force: bool = FORCE,
    inputs: list[str] = INPUTS,
    rounds: Round = ROUNDS,
) -> Result:
    """Trains the ablation's other rows: the same trainer on other labels."""
    return _run("train-ablation", store, settings, executor, again(force, inputs), rounds=rounds)


@flow(name="evaluate", flow_run_name=run_name)
def evaluate(
    store: Url = STORE,
    settings: EvaluateSettings = USUAL.evaluate,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    force: bool = FORCE,
    inputs: list[str] = INPUTS,
    rounds: Round = ROUNDS,
    candidate: bool = CANDIDATE,
) -> Result:
    """Measures every model on the test pictures."""
    return _run("evaluate", store, settings, executor, again(force, inputs), rounds=rounds, candidate=candidate)


@flow(name="clean-tags", flow_run_name=run_name)
def clean_tags(
    store: Url = STORE,
    ground_settings: GroundSettings = USUAL.ground,
    clean_settings: CleanSettings = USUAL.clean,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    refit: bool = REFIT,
    round_number: Round = ROUND,
) -> list[Result]:
    """Finds the regions of every tag, clusters them, and judges the tags: ground, fit-clusters, audit, judge."""
    return [
        ground(store, ground_settings, executor, round_number=round_number),
        fit_clusters(store, clean_settings, executor, refit=refit, round_number=round_number),
        audit(store, clean_settings, executor, refit=refit, round_number=round_number),
        judge(store, clean_settings, executor, round_number=round_number),
    ]


FLOWS: dict[str, Any] = {
    "ingest": ingest,
    "parse-captions": parse_captions,
    "build-labels": build_labels,
    "assign-tags": assign_tags,
    "encode": encode,
    "measure": measure,
    "screen": screen,
    "train-baseline": train_baseline,
    "calibrate": calibrate,
    "generate": generate,
    "ground": ground,
    "fit-clusters": fit_clusters,
    "audit": audit,
    "judge": judge,
    "retrain": retrain,
    "fine-tune": fine_tune,
    "train-ablation": train_ablation,
    "evaluate": evaluate,
}
