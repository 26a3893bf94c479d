"""The DAG: every stage, declared once, in the order in which they run. Installed packages may bring more.

A package adds a stage by an entry point of the group ``ram_engine.stages`` that names its
:class:`~tasks.machine.declaration.Declaration`; it runs right after what it reads has been made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, get_args

from storage import schemas
from storage.names import first_round_name
from tasks.machine.declaration import Declaration, Read, Scope, Stage, parts, perhaps, whole
from tasks.settings.assign_tags import AssignTagsSettings
from tasks.settings.build_labels import BuildLabelsSettings
from tasks.settings.calibrate import CalibrateSettings
from tasks.settings.encode import EncodeSettings
from tasks.settings.evaluate import EvaluateSettings
from tasks.settings.fit_clusters import FitClustersSettings
from tasks.settings.generate import GenerateSettings
from tasks.settings.ground import GroundSettings
from tasks.settings.ingest import IngestSettings
from tasks.settings.judge import JudgeSettings
from tasks.settings.measure import MeasureSettings
from tasks.settings.parse_captions import ParseCaptionsSettings
from tasks.settings.rooms import installed, package_of
from tasks.settings.screen import ScreenSettings
from tasks.settings.train_baseline import TrainBaselineSettings
from tasks.settings.training import TrainSettings

MOST_ROUNDS = 5
GROUP = "ram_engine.stages"
ANNOTATOR = Read("ram", "annotator", before="baseline")  # the baseline, later the model that was retrained before

OWN = (
    Declaration(
        name="ingest",
        kind="map",
        version=5,
        about="reads the source: images are checked and hashed, unfit rows are kept apart with their reason",
        usual=IngestSettings(),
        writes=("pairs", "images", "pairs_rejected", "truth"),
        rate=70,
    ),
    Declaration(
        name="parse-captions",
        kind="map",
        version=3,
        about="finds objects, scenes, attributes and actions in the captions",
        usual=ParseCaptionsSettings(),
        reads=parts("pairs"),
        writes=("phrases", "phrases_rejected"),
        rate=400,
    ),
    Declaration(
        name="build-labels",
        kind="reduce",
        version=2,
        about="chooses the tags and merges synonyms",
        usual=BuildLabelsSettings(),
        reads=(
            *whole("phrases"),
            *perhaps("label_edits"),
            Read("label_system", "label_system_previous", optional=True, carried=True),
        ),
        writes=("label_system",),
        frozen=True,
        rate=2000,
    ),
    Declaration(
        name="assign-tags",
        kind="map",
        version=1,
        about="maps phrases to tags",
        usual=AssignTagsSettings(),
        reads=(*parts("phrases"), *whole("label_system")),
        writes=("caption_tags", "candidates"),
        rate=5000,
    ),
    Declaration(
        name="encode",
        kind="map",
        version=3,
        about="stores the frozen image encoder's spatial features",
        usual=EncodeSettings(),
        reads=parts("pairs", "images"),
        writes=("features",),
        uses_model=True,
        rate=11,
    ),
    Declaration(
        name="measure",
        kind="map",
        version=3,
        about="measures what every image is screened by",
        usual=MeasureSettings(),
        reads=parts("pairs", "images", "features"),
        writes=("measures",),
        uses_model=True,
        rate=150,
    ),
    Declaration(
        name="screen",
        kind="reduce",
        version=2,
        about="finds near-duplicates, unfit images and leaks of the evaluation set; trainings and exports obey",
        usual=ScreenSettings(),
        reads=whole("measures"),
        writes=("screening",),
        rate=5000,
    ),
    Declaration(
        name="train-baseline",
        kind="training",
        version=5,
        about="trains the annotator on the captions and their tags, and its fold models",
        usual=TrainBaselineSettings(architecture="tag2text", caption=True, folds=3),
        reads=(*whole("pairs", "images", "features", "caption_tags", "label_system"), *perhaps("screening")),
        writes=("baseline_log",),
        model="baseline",
        frozen=True,
        uses_model=True,
        rate=15,
    ),
    Declaration(
        name="calibrate",
        kind="reduce",
        version=2,
        about="finds out, out of fold, which tags the annotator may add, and where",
        usual=CalibrateSettings(),
        scope="round",
        reads=(ANNOTATOR, *whole("caption_tags", "label_system")),
        writes=("tag_bars", "annotator_checks"),
        frozen=True,
        uses_model=True,
        rate=2000,
    ),
    Declaration(
        name="generate",
        kind="map",
        version=7,
        about="the annotator adds captions and tags to every image",
        usual=GenerateSettings(),
        scope="round",
        reads=(
            *parts("pairs", "images", "features", "caption_tags"),
            Read("generated", "previous_generated", by_part=True, before=""),
            ANNOTATOR,
            *whole("label_system", "tag_bars"),
        ),
        writes=("generated", "generated_rejected"),
        uses_model=True,
        rate=80,
    ),
    Declaration(
        name="ground",
        kind="map",
        version=6,
        about="finds the regions of every groundable tag",
        usual=GroundSettings(),
        scope="round",
        reads=(
            *parts("pairs", "images", "features", "caption_tags", "generated"),
            ANNOTATOR,
            *whole("label_system", "tag_bars"),
        ),
        writes=("regions", "regions_rejected"),
        uses_model=True,
        rate=130,
    ),
    Declaration(
        name="fit-clusters",
        kind="reduce",
        version=2,
        about="clusters each tag's regions with k-means++",
        usual=FitClustersSettings(),
        scope="round",
        reads=whole("regions"),
        writes=("clusters",),
        frozen=True,
        rate=300,
    ),
    Declaration(
        name="audit",
        kind="reduce",
        version=2,
        about="tries the judge and the captioner on words that are known to be right",
        usual=JudgeSettings(),
        section="judge",
        scope="round",
        reads=whole("pairs", "caption_tags", "generated", "regions", "clusters", "label_system", "tag_bars"),
        writes=("judge_checks",),
        frozen=True,
        rate=1000,
    ),
    Declaration(
        name="judge",
        kind="map",
        version=5,
        about="keeps or removes every tag, with the reason",
        usual=JudgeSettings(),
        scope="round",
        reads=(
            *parts("pairs", "caption_tags", "generated", "regions"),
            *whole("clusters", "label_system", "tag_bars", "judge_checks"),
            *perhaps("verdict_edits"),
        ),
        writes=("tag_verdicts",),
        rate=1400,
    ),
    Declaration(
        name="retrain",
        kind="training",
        version=5,
        about="trains RAM on the tags that were kept",
        usual=TrainSettings(),
        scope="round",
        reads=(
            *whole("pairs", "images", "features", "caption_tags", "generated", "tag_verdicts", "label_system"),
            *perhaps("screening"),
            Read("ram", "ram_previous", optional=True, carried=True),
        ),
        writes=("ram_log",),
        model="ram",
        last_round={"folds": 0},  # it annotates nothing
        uses_model=True,
        rate=38,
    ),
    Declaration(
        name="train-ablation",
        kind="training",
        version=5,
        about="trains the ablation's other rows: the same trainer on other labels",
        usual=TrainSettings(),
        section="retrain",
        scope="last",
        split="test",
        last_round={"folds": 0},
        reads=(
            *whole("pairs", "images", "features", "caption_tags", "label_system", "tag_verdicts", "generated"),
            *perhaps("screening", "truth"),
        ),
        writes=("ablation_log",),
        model="ablation",
        uses_model=True,
        rate=17,
    ),
    Declaration(
        name="fine-tune",
        kind="training",
        version=4,
        about="fine-tunes RAM on the fully described pairs at the higher resolution",
        usual=TrainSettings(epochs=10),
        scope="last",
        reads=(
            *whole("pairs", "images", "features", "caption_tags", "label_system", "ram"),
            *perhaps("screening", "ablation"),
        ),
        writes=("fine_tune_log",),
        model="ram_fine_tuned",
        split="fine_tune",
        uses_model=True,
        rate=42,
    ),
    Declaration(
        name="evaluate",
        kind="reduce",
        version=3,
        about="measures every model on the test pictures, and says whether the retrained one is better",
        usual=EvaluateSettings(),
        scope="last",
        split="test",
        reads=(
            *whole("pairs", "images", "features", "caption_tags", "label_system", "tag_verdicts", "ram"),
            *perhaps("truth", "ram_fine_tuned", "ablation"),
        ),
        writes=("predictions", "metrics", "verdict"),
        uses_model=True,
        rate=85,
    ),
)


def declarations() -> tuple[Declaration, ...]:
    """All stages in the order in which they run."""
    return _entered()[0]


def left_out_stages() -> dict[str, str]:
    """The stages of installed packages that do not fit, by the entry point's name: a sentence that says why.

    One that fails leaves the others, and every command that has no need of it, as they are.
    """
    return _entered()[1]


@cache
def _entered() -> tuple[tuple[Declaration, ...], dict[str, str]]:
    listed, waiting = list(OWN), installed(GROUP)
    while True:  # once more as long as one fits: it may make what another one reads
        left_out: dict[str, str] = {}
        for entry in waiting:
            package = package_of(entry)
            try:
                declared = entry.load()
                listed.insert(_place(declared, listed), replace(declared, package=package))
                schemas.add(declared.contracts)
            except Exception as error:  # whatever a package's module raises
                left_out[entry.name] = f"the stage '{entry.name}' of {package} is left out: {error} ({entry.value})"
        if len(left_out) in (0, len(waiting)):
            return tuple(listed), left_out
        waiting = [entry for entry in waiting if entry.name in left_out]


def _place(declared: Any, listed: Sequence[Declaration]) -> int:
    """Right after the last of the stages that make what it reads. Raises ValueError where it does not fit."""
    if not isinstance(declared, Declaration):
        raise ValueError("it is no Declaration")
    makers = {artifact: at for at, other in enumerate(listed) for artifact in other.outputs}
    needed = [read.artifact for read in declared.reads if not (read.optional or read.carried)]
    unknown = [artifact for artifact in needed if artifact not in makers]
    early = [artifact for artifact in needed if artifact in makers and _later(listed[makers[artifact]], declared)]
    known = {*schemas.CONTRACTS, *declared.contracts}
    unclear = [artifact for artifact in declared.writes if not (artifact in known or artifact.endswith("_log"))]
    sections = {other.identifier for other in listed if not other.section}
    demands = {
        f"its name '{declared.name}' is not of letters, digits and hyphens, or it is taken": _may_be_called(
            declared, listed
        ),
        f"it reads '{''.join(unknown[:1])}', which no stage makes": not unknown,
        f"it reads '{''.join(early[:1])}', which is made after it: its scope should be later": not early,
        "it makes nothing: set writes or model": bool(declared.outputs),
        "it makes what another stage makes": not makers.keys() & {*declared.outputs, *declared.contracts},
        f"there is no contract of '{''.join(unclear[:1])}', which it makes": not unclear,
        f"there is no section '{declared.section}' of settings": declared.section in ("", *sections),
    }
    for reason, kept in demands.items():
        if not kept:
            raise ValueError(reason)
    return max((makers[artifact] + 1 for artifact in needed), default=0)


def _later(maker: Declaration, reader: Declaration) -> bool:
    order = get_args(Scope)
    return order.index(maker.scope) > order.index(reader.scope)


def _may_be_called(declared: Declaration, listed: Sequence[Declaration]) -> bool:
    """Flows, settings and rounds are called after a stage."""
    taken = {"rounds", "executor", "clean_tags", *(other.identifier for other in listed)}
    name = declared.identifier
    return name.isidentifier() and name not in taken and first_round_name(declared.name) == declared.name


@cache
def stages(rounds: int = 1) -> tuple[Stage, ...]:
    """All stages in the order in which they run; rounds after the first carry their number, as in ``generate-2``."""
    declared = declarations()
    of_rounds = frozenset(artifact for one in declared if one.scope == "round" for artifact in one.outputs)
    ordered: list[Stage] = []
    for scope, numbers in (("once", [1]), ("round", range(1, rounds + 1)), ("last", [rounds])):
        for number in numbers:
            ordered += [one.in_round(number, rounds, of_rounds) for one in declared if one.scope == scope]
    return tuple(ordered)


def stage_named(name: str, rounds: int = 1) -> Stage:
    """The stage ``name``. Raises ValueError with the names there are."""
    for stage in stages(rounds):
        if stage.name == name:
            return stage
    raise ValueError(f"there is no stage '{name}'; known: {', '.join(stage.name for stage in stages(rounds))}")
