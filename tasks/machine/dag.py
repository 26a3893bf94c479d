"""The DAG: every stage with what it reads, writes and depends on. Nothing here imports a stage's code.

A stage is a *map* over parts, a *reduce* over whole snapshots, or a *training*. Its code is the module named by
``entry``, imported only where the work is done: planning and deploying need no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tasks.settings.base import Settings
from tasks.settings.pipeline import PipelineSettings

Kind = Literal["map", "reduce", "training"]


@dataclass(frozen=True)
class Stage:
    """One stage of one round.

    ``aligned`` and ``whole`` map the names that the stage's code uses to the artifacts that they are in this round:
    an aligned input comes part by part, a whole one is pinned by its digest. Inputs in ``optional`` may be absent;
    those in ``carried`` are an earlier result of the stage itself, which it goes on from and whose change asks for no
    new one.
    A ``frozen`` stage keeps its result when more data comes, until a refit or a changed setting.
    A stage with a ``split`` is left out where the source has no pairs of that split.
    ``rate`` is a first guess of images a second on two cores; a store's own history replaces it.
    """

    name: str
    kind: Kind
    version: int
    entry: str
    settings: str
    about: str
    aligned: Mapping[str, str] = field(default_factory=dict)
    whole: Mapping[str, str] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    carried: frozenset[str] = frozenset()
    writes: tuple[str, ...] = ()
    model: str = ""
    split: str = ""
    frozen: bool = False
    uses_model: bool = False
    rate: float = 100.0

    @property
    def inputs(self) -> dict[str, str]:
        """All inputs: the name that the code uses, and the artifact."""
        return {**self.aligned, **self.whole}

    @property
    def outputs(self) -> tuple[str, ...]:
        """All artifacts that the stage makes, the model first."""
        return ((self.model,) if self.model else ()) + self.writes

    def settings_of(self, pipeline: PipelineSettings) -> Settings:
        """This stage's settings within the pipeline's. The last round's model annotates nothing: it needs no folds."""
        value: Settings = getattr(pipeline, self.settings)
        if self.model and self.model == of_round("ram", pipeline.rounds):
            value = value.model_copy(update={"folds": 0})
        return value


def stages(rounds: int = 1) -> tuple[Stage, ...]:
    """All stages in the order in which they run; rounds after the first carry their number, as in ``generate-2``."""
    listed = [*_prepare()]
    for number in range(1, rounds + 1):
        listed += _round(number)
    return tuple(listed + _finish(rounds))


def stage_named(name: str, rounds: int = 1) -> Stage:
    """The stage ``name``. Raises ValueError with the names there are."""
    for stage in stages(rounds):
        if stage.name == name:
            return stage
    raise ValueError(f"there is no stage '{name}'; known: {', '.join(stage.name for stage in stages(rounds))}")


def of_round(name: str, number: int) -> str:
    """The name that a stage or an artifact has in round ``number``."""
    return name if number == 1 else f"{name}-{number}"


def _prepare() -> list[Stage]:
    return [
        Stage(
            name="ingest",
            kind="map",
            version=3,
            entry="tasks.stages.ingest",
            settings="ingest",
            about="reads the source: images are checked, unfit rows are kept apart with their reason",
            writes=("pairs", "pairs_rejected", "truth"),
            rate=70,
        ),
        Stage(
            name="parse-captions",
            kind="map",
            version=3,
            entry="tasks.stages.parse_captions",
            settings="parse",
            about="finds objects, scenes, attributes and actions in the captions",
            aligned={"pairs": "pairs"},
            writes=("phrases", "phrases_rejected"),
            rate=400,
        ),
        Stage(
            name="build-labels",
            kind="reduce",
            version=2,
            entry="tasks.stages.build_labels",
            settings="labels",
            about="chooses the tags and merges synonyms",
            whole={"phrases": "phrases", "label_edits": "label_edits", "label_system_previous": "label_system"},
            optional=frozenset({"label_edits", "label_system_previous"}),
            carried=frozenset({"label_system_previous"}),
            writes=("label_system",),
            frozen=True,
            rate=2000,
        ),
        Stage(
            name="assign-tags",
            kind="map",
            version=1,
            entry="tasks.stages.assign_tags",
            settings="assign",
            about="maps phrases to tags",
            aligned={"phrases": "phrases"},
            whole={"label_system": "label_system"},
            writes=("caption_tags", "candidates"),
            rate=5000,
        ),
        Stage(
            name="encode",
            kind="map",
            version=2,
            entry="tasks.stages.encode",
            settings="encode",
            about="stores the frozen image encoder's spatial features",
            aligned={"pairs": "pairs"},
            writes=("features",),
            uses_model=True,
            rate=11,
        ),
        Stage(
            name="measure",
            kind="map",
            version=2,
            entry="tasks.stages.measure",
            settings="measure",
            about="hashes every image and measures what it is screened by",
            aligned={"pairs": "pairs", "features": "features"},
            writes=("measures",),
            uses_model=True,
            rate=150,
        ),
        Stage(
            name="screen",
            kind="reduce",
            version=2,
            entry="tasks.stages.screen",
            settings="screen",
            about="finds near-duplicates, unfit images and leaks of the evaluation set; trainings and exports obey",
            whole={"measures": "measures"},
            writes=("screening",),
            rate=5000,
        ),
        Stage(
            name="train-baseline",
            kind="training",
            version=4,
            entry="tasks.stages.train_baseline",
            settings="baseline",
            about="trains the annotator on the captions and their tags, and its fold models",
            whole={
                "pairs": "pairs",
                "features": "features",
                "caption_tags": "caption_tags",
                "label_system": "label_system",
                "screening": "screening",
            },
            optional=frozenset({"screening"}),
            writes=("baseline_log",),
            model="baseline",
            frozen=True,
            uses_model=True,
            rate=15,
        ),
    ]


def _round(number: int) -> list[Stage]:
    annotator = "baseline" if number == 1 else of_round("ram", number - 1)
    artifacts = ("tag_bars", "generated", "regions", "clusters", "judge_checks", "tag_verdicts", "ram")
    names = {name: of_round(name, number) for name in artifacts}
    previous = {} if number == 1 else {"previous_generated": of_round("generated", number - 1)}
    return [
        Stage(
            name=of_round("calibrate", number),
            kind="reduce",
            version=1,
            entry="tasks.stages.calibrate",
            settings="calibrate",
            about="finds out, out of fold, which tags the annotator may add, and where",
            whole={"annotator": annotator, "caption_tags": "caption_tags", "label_system": "label_system"},
            writes=(names["tag_bars"], of_round("annotator_checks", number)),
            frozen=True,
            uses_model=True,
            rate=2000,
        ),
        Stage(
            name=of_round("generate", number),
            kind="map",
            version=7,
            entry="tasks.stages.generate",
            settings="generate",
            about="the annotator adds captions and tags to every image",
            aligned={"pairs": "pairs", "features": "features", "caption_tags": "caption_tags", **previous},
            whole={"annotator": annotator, "label_system": "label_system", "tag_bars": names["tag_bars"]},
            writes=(names["generated"], of_round("generated_rejected", number)),
            uses_model=True,
            rate=80,
        ),
        Stage(
            name=of_round("ground", number),
            kind="map",
            version=5,
            entry="tasks.stages.ground",
            settings="ground",
            about="finds the regions of every groundable tag",
            aligned={
                "pairs": "pairs",
                "features": "features",
                "caption_tags": "caption_tags",
                "generated": names["generated"],
            },
            whole={"annotator": annotator, "label_system": "label_system", "tag_bars": names["tag_bars"]},
            writes=(names["regions"], of_round("regions_rejected", number)),
            uses_model=True,
            rate=130,
        ),
        Stage(
            name=of_round("fit-clusters", number),
            kind="reduce",
            version=1,
            entry="tasks.stages.fit_clusters",
            settings="clean",
            about="clusters each tag's regions with k-means++",
            whole={"regions": names["regions"]},
            writes=(names["clusters"],),
            frozen=True,
            rate=300,
        ),
        Stage(
            name=of_round("audit", number),
            kind="reduce",
            version=1,
            entry="tasks.stages.audit",
            settings="clean",
            about="tries the judge and the captioner on words that are known to be right",
            whole={
                "pairs": "pairs",
                "caption_tags": "caption_tags",
                "generated": names["generated"],
                "regions": names["regions"],
                "clusters": names["clusters"],
                "label_system": "label_system",
                "tag_bars": names["tag_bars"],
            },
            writes=(names["judge_checks"],),
            frozen=True,
            rate=1000,
        ),
        Stage(
            name=of_round("judge", number),
            kind="map",
            version=4,
            entry="tasks.stages.judge",
            settings="clean",
            about="keeps or removes every tag, with the reason",
            aligned={
                "pairs": "pairs",
                "caption_tags": "caption_tags",
                "generated": names["generated"],
                "regions": names["regions"],
            },
            whole={
                "clusters": names["clusters"],
                "label_system": "label_system",
                "tag_bars": names["tag_bars"],
                "judge_checks": names["judge_checks"],
                "verdict_edits": "verdict_edits",
            },
            optional=frozenset({"verdict_edits"}),
            writes=(names["tag_verdicts"],),
            rate=1400,
        ),
        Stage(
            name=of_round("retrain", number),
            kind="training",
            version=4,
            entry="tasks.stages.retrain",
            settings="retrain",
            about="trains RAM on the tags that were kept",
            whole={
                "pairs": "pairs",
                "features": "features",
                "caption_tags": "caption_tags",
                "generated": names["generated"],
                "tag_verdicts": names["tag_verdicts"],
                "label_system": "label_system",
                "screening": "screening",
                "ram_previous": names["ram"],
            },
            optional=frozenset({"ram_previous", "screening"}),
            carried=frozenset({"ram_previous"}),
            writes=(of_round("ram_log", number),),
            model=names["ram"],
            uses_model=True,
            rate=38,
        ),
    ]


def _finish(rounds: int) -> list[Stage]:
    last = {name: of_round(name, rounds) for name in ("ram", "tag_verdicts", "generated")}
    return [
        Stage(
            name="train-ablation",
            kind="training",
            version=4,
            entry="tasks.stages.train_ablation",
            settings="retrain",
            about="trains the ablation's other rows: the same trainer on other labels",
            whole={
                "pairs": "pairs",
                "features": "features",
                "caption_tags": "caption_tags",
                "label_system": "label_system",
                "screening": "screening",
                "tag_verdicts": last["tag_verdicts"],
                "generated": last["generated"],
                "truth": "truth",
            },
            optional=frozenset({"truth", "screening"}),
            writes=("ablation_log",),
            model="ablation",
            uses_model=True,
            rate=17,
        ),
        Stage(
            name="fine-tune",
            kind="training",
            version=4,
            entry="tasks.stages.fine_tune",
            settings="fine_tune",
            about="fine-tunes RAM on the fully described pairs at the higher resolution",
            whole={
                "pairs": "pairs",
                "features": "features",
                "caption_tags": "caption_tags",
                "label_system": "label_system",
                "screening": "screening",
                "ram": last["ram"],
                "ablation": "ablation",
            },
            optional=frozenset({"ablation", "screening"}),
            writes=("fine_tune_log",),
            model="ram_fine_tuned",
            split="fine_tune",
            uses_model=True,
            rate=42,
        ),
        Stage(
            name="evaluate",
            kind="reduce",
            version=3,
            entry="tasks.stages.evaluate",
            settings="evaluate",
            about="measures every model on the test pictures, and says whether the retrained one is better",
            whole={
                "pairs": "pairs",
                "features": "features",
                "caption_tags": "caption_tags",
                "truth": "truth",
                "label_system": "label_system",
                "tag_verdicts": last["tag_verdicts"],
                "generated": last["generated"],
                "baseline": "baseline",
                "ram": last["ram"],
                "ram_fine_tuned": "ram_fine_tuned",
                "ablation": "ablation",
            },
            optional=frozenset({"truth", "ram_fine_tuned", "ablation"}),
            writes=("predictions", "metrics", "verdict"),
            uses_model=True,
            rate=85,
        ),
    ]
