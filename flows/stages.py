"""One Prefect flow a stage. Each can be run by itself, from the command line or from Prefect's UI."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows.run_stage import run_stage
from storage.store import Store
from tasks.settings import (
    AssignSettings,
    BaselineSettings,
    CleanSettings,
    EncodeSettings,
    EngineSettings,
    EvaluateSettings,
    GenerateSettings,
    GroundSettings,
    IngestSettings,
    LabelSettings,
    MeasureSettings,
    ParseSettings,
    ScreenSettings,
    Settings,
    TrainSettings,
)
from tasks.stages import of_round, stage_named

Result = dict[str, Any]


def _run_name() -> str:
    """``<stage> on <store>``: what an operator looks for in a list of runs."""
    parameters = flow_run.parameters
    number = parameters.get("round_number", 1)
    name = of_round(str(flow_run.flow_name), int(number))
    return f"{name} on {str(parameters.get('store', '')).rstrip('/').rsplit('/', 1)[-1]}"


def _run(
    name: str,
    store: str,
    settings: Settings,
    engine: EngineSettings,
    force: bool,
    refit: bool = False,
    round_number: int = 1,
    rounds: int = 1,
) -> Result:
    rounds = max(rounds, round_number)
    stage = stage_named(of_round(name, round_number), rounds)
    return asdict(run_stage(Store(store), stage, settings, engine, rounds, force, refit))


@flow(name="ingest", flow_run_name=_run_name)
def ingest(
    store: str,
    settings: IngestSettings = IngestSettings(),
    engine: EngineSettings = EngineSettings(),
    force: bool = False,
) -> Result:
    """Reads what is new or changed in the source; unfit rows are kept apart with their reason."""
    return _run("ingest", store, settings, engine, force)


@flow(name="parse-captions", flow_run_name=_run_name)
def parse_captions(
    store: str,
    settings: ParseSettings = ParseSettings(),
    engine: EngineSettings = EngineSettings(),
    force: bool = False,
) -> Result:
    """Finds objects, scenes, attributes and actions in the captions."""
    return _run("parse-captions", store, settings, engine, force)


@flow(name="build-labels", flow_run_name=_run_name)
def build_labels(
    store: str,
    settings: LabelSettings = LabelSettings(),
    engine: EngineSettings = EngineSettings(),
    force: bool = False,
    refit: bool = False,
) -> Result:
    """Chooses the tags and merges synonyms; frozen until a refit."""
    return _run("build-labels", store, settings, engine, force, refit)


@flow(name="assign-tags", flow_run_name=_run_name)
def assign_tags(
    store: str,
    settings: AssignSettings = AssignSettings(),
    engine: EngineSettings = EngineSettings(),
    force: bool = False,
) -> Result:
    """Maps phrases to tags of the label system."""
    return _run("assign-tags", store, settings, engine, force)


@flow(name="encode", flow_run_name=_run_name)
def encode(
    store: str,
    settings: EncodeSettings = EncodeSettings(),
    engine: EngineSettings = EngineSettings(),
    force: bool = False,
) -> Result:
    """Stores the frozen image encoder's spatial features."""
    return _run("encode", store, settings, engine, force)


@flow(name="measure", flow_run_name=_run_name)
def measure(
    store: str,
    settings: MeasureSettings = MeasureSettings(),
    engine: EngineSettings = EngineSettings(),
    force: bool = False,
) -> Result:
    """Hashes every image and measures what it is screened by."""
    return _run("measure", store, settings, engine, force)


@flow(name="screen", flow_run_name=_run_name)
def screen(
    store: str,
    settings: ScreenSettings = ScreenSettings(),
    engine: EngineSettings = EngineSettings(),
    force: bool = False,
) -> Result:
    """Finds near-duplicates, unfit images and leaks of the evaluation set; nothing is deleted."""
    return _run("screen", store, settings, engine, force)


@flow(name="train-baseline", flow_run_name=_run_name)
def train_baseline(
    store: str,
    settings: BaselineSettings = BaselineSettings(architecture="tag2text", caption=True, folds=3),
    engine: EngineSettings = EngineSettings(),
    force: bool = False,
    refit: bool = False,
) -> Result:
    """Trains the annotator on the captions and their tags, and its fold models; frozen until a refit."""
    return _run("train-baseline", store, settings, engine, force, refit)


@flow(name="generate", flow_run_name=_run_name)
def generate(
    store: str,
    settings: GenerateSettings = GenerateSettings(),
    engine: EngineSettings = EngineSettings(),
    force: bool = False,
    round_number: int = 1,
) -> Result:
    """The annotator adds captions and tags to every image."""
    return _run("generate", store, settings, engine, force, False, round_number)


@flow(name="ground", flow_run_name=_run_name)
def ground(
    store: str,
    settings: GroundSettings = GroundSettings(),
    engine: EngineSettings = EngineSettings(),
    force: bool = False,
    round_number: int = 1,
) -> Result:
    """Finds the regions of every groundable tag."""
    return _run("ground", store, settings, engine, force, False, round_number)


@flow(name="fit-clusters", flow_run_name=_run_name)
def fit_clusters(
    store: str,
    settings: CleanSettings = CleanSettings(),
    engine: EngineSettings = EngineSettings(),
    force: bool = False,
    refit: bool = False,
    round_number: int = 1,
) -> Result:
    """Clusters each tag's regions with k-means++; frozen until a refit."""
    return _run("fit-clusters", store, settings, engine, force, refit, round_number)


@flow(name="judge", flow_run_name=_run_name)
def judge(
    store: str,
    settings: CleanSettings = CleanSettings(),
    engine: EngineSettings = EngineSettings(),
    force: bool = False,
    round_number: int = 1,
) -> Result:
    """Keeps or removes every tag, with the reason."""
    return _run("judge", store, settings, engine, force, False, round_number)


@flow(name="retrain", flow_run_name=_run_name)
def retrain(
    store: str,
    settings: TrainSettings = TrainSettings(),
    engine: EngineSettings = EngineSettings(),
    force: bool = False,
    round_number: int = 1,
) -> Result:
    """Trains RAM on the tags that were kept."""
    return _run("retrain", store, settings, engine, force, False, round_number)


@flow(name="fine-tune", flow_run_name=_run_name)
def fine_tune(
    store: str,
    settings: TrainSettings = TrainSettings(epochs=10),
    engine: EngineSettings = EngineSettings(),
    force: bool = False,
    rounds: int = 1,
) -> Result:
    """Fine-tunes RAM on the fully described pairs at the higher resolution."""
    return _run("fine-tune", store, settings, engine, force, rounds=rounds)


@flow(name="train-ablation", flow_run_name=_run_name)
def train_ablation(
    store: str,
    settings: TrainSettings = TrainSettings(),
    engine: EngineSettings = EngineSettings(),
    force: bool = False,
    rounds: int = 1,
) -> Result:
    """Trains the ablation's other rows: the same trainer on other labels."""
    return _run("train-ablation", store, settings, engine, force, rounds=rounds)


@flow(name="evaluate", flow_run_name=_run_name)
def evaluate(
    store: str,
    settings: EvaluateSettings = EvaluateSettings(),
    engine: EngineSettings = EngineSettings(),
    force: bool = False,
    rounds: int = 1,
) -> Result:
    """Measures every model on the test pictures."""
    return _run("evaluate", store, settings, engine, force, rounds=rounds)


FLOWS: dict[str, Any] = {
    "ingest": ingest,
    "parse-captions": parse_captions,
    "build-labels": build_labels,
    "assign-tags": assign_tags,
    "encode": encode,
    "measure": measure,
    "screen": screen,
    "train-baseline": train_baseline,
    "generate": generate,
    "ground": ground,
    "fit-clusters": fit_clusters,
    "judge": judge,
    "retrain": retrain,
    "fine-tune": fine_tune,
    "train-ablation": train_ablation,
    "evaluate": evaluate,
}
