"""The preset `auto`: from what there is to learn from, and what to compute with, to settings, each with its reason.

Nothing is looked up here (:mod:`ram_engine.at_hand` does that): facts in, choices out. `docs/results.md` and
`docs/experiments.md` have the measurements that the choices rest on.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import yaml

Effort = Literal["quick", "normal", "thorough"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)
SIDES = {
    "tf_efficientnet_lite0": 224,
    "tf_efficientnet_lite1": 240,
    "tf_efficientnet_lite2": 260,
}  # as they were trained
MANY = 20_000  # captions that teach a captioner more than one sentence, pictures that teach a tagger of any label
LEAST_COUNTS = {0: 3, 300: 5, 3_000: 10, 30_000: 20}  # from so many captions on: the least count of a tag's word
MOST_TAGS, LEAST_TAGS = 5_000, 100
WIDTH, STRIDE = 1280, 32  # of the EfficientNets' tokens, and pixels a token
DISK_SHARE, MEMORY_SHARE = 0.6, 0.4  # of what is free that features, and that a ridge regression, may take
EVIDENCE = 20_000  # pictures that calibrate a ridge regression
PRECISION = 0.7


@dataclass(frozen=True)
class Facts:
    """What settings are chosen by.

    ``pictures`` are at least 1, and so are ``captions`` where tags and annotator are not ready ones. ``memory_gb`` and
    ``disk_gb`` are 10^9 bytes, the disk's what is free where the store lies (infinite for a remote one). ``encoders``
    are those of :data:`SIDES` whose weights are installed, ``sentence_encoder`` whether its are. ``annotator`` are the
    settings of a ready one, where one is named.
    """

    pictures: int
    captions: int
    memory_gb: float
    disk_gb: float = math.inf
    gpu: bool = False
    encoders: tuple[str, ...] = tuple(SIDES)
    sentence_encoder: bool = True
    effort: Effort = "normal"
    annotator: Mapping[str, Any] | None = None

    @property
    def can_train(self) -> bool:
        """Whether captions and time suffice to train an annotator that writes captions."""
        return self.captions >= MANY and (self.effort == "thorough" or (self.gpu and self.effort == "normal"))

    def __str__(self) -> str:
        gpu = "a GPU" if self.gpu else "no GPU"
        return (
            f"{self.pictures:,} pictures with {self.captions:,} captions, {self.memory_gb:.0f} GB of memory, {gpu}, "
            f"effort {self.effort}"
        )


@dataclass(frozen=True)
class Choice:
    """Something that was chosen, the sentence with its reason, and the settings that follow, by section."""

    what: str
    told: str
    settings: Mapping[str, Mapping[str, Any]]

    def __str__(self) -> str:
        return f"{self.what}: {self.told}"


def choose(facts: Facts) -> list[Choice]:
    """All choices for one's own pictures."""
    own, *further = _encoders(facts)
    return [_labels(facts), _features(facts, own, further), _annotator(facts, [own, *further]), _student(facts, own),
            _thresholds()]  # fmt: skip


def settings_of(choices: Sequence[Choice]) -> dict[str, dict[str, Any]]:
    """The settings of all choices by section, as a preset has them."""
    merged: dict[str, dict[str, Any]] = {}
    for choice in choices:
        for section, values in choice.settings.items():
            merged.setdefault(section, {}).update(values)
    return merged


def as_yaml(facts: Facts, choices: Sequence[Choice]) -> str:
    """The choices as a preset file, the reasons as comments. ``chosen_for`` says for what, and is no setting."""
    counted = {"pictures": facts.pictures, "captions": facts.captions, "effort": facts.effort}
    lines = [
        f"# Chosen by the preset auto for {facts}.",
        "# Later runs of this store take these settings. Change what you like; --preset auto chooses anew.",
        "#",
        *(f"# {choice}" for choice in choices),
    ]
    values = {"chosen_for": counted, **settings_of(choices)}
    return "\n".join(lines) + "\n" + yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=110)


def _labels(facts: Facts) -> Choice:
    if not facts.captions:
        return Choice("tags", "those of your list, since no picture has a caption", {})
    starts, counts = zip(*LEAST_COUNTS.items(), strict=True)
    least = counts[bisect_right(starts, facts.captions) - 1]
    # of float64: left-out answers of the pictures, and for each of nine penalties a share of every channel
    bytes_a_tag = 8 * (4 * min(facts.pictures, EVIDENCE) + 11 * WIDTH)
    held = int(facts.memory_gb * 1e9 * MEMORY_SHARE / bytes_a_tag)
    most = max(LEAST_TAGS, min(MOST_TAGS, held))
    told = f"words that stand in {least} captions or more, since there are {facts.captions:,}; at most {most:,} of them"
    if most < MOST_TAGS:
        told += f", since there are {facts.memory_gb:.0f} GB of memory"
    return Choice("tags", told, {"build_labels": {"min_count": least, "total": most}})


def _encoders(facts: Facts) -> list[str]:
    """The encoders to look with, the student's first; never none."""
    known = sorted(facts.encoders, key=lambda name: SIDES[name]) or [next(iter(SIDES))]
    if (
        facts.effort == "thorough" and not facts.annotator
    ):  # the student looks with the largest, which is better and slower
        known = [known[-1], *known[:-1]]
    if facts.effort == "quick" or facts.annotator:
        return known[:1]
    while len(known) > 1 and _gigabytes(facts, known) > facts.disk_gb * DISK_SHARE:
        known = known[:-1]
    return known


def _gigabytes(facts: Facts, encoders: Sequence[str]) -> float:
    """What their features take: float16 tokens of every picture, the mean token among them."""
    tokens = sum(math.ceil(SIDES[name] / STRIDE) ** 2 + 1 for name in encoders)
    return facts.pictures * tokens * WIDTH * 2 / 1e9


def _features(facts: Facts, own: str, further: Sequence[str]) -> Choice:
    if not facts.encoders:
        why = "whose weights a model hub has to give, since the packages of the extra 'sample' are not installed"
    elif facts.annotator:
        why = "since the annotator looks with an encoder of its own"
    elif facts.effort == "quick":
        why = "since effort is quick"
    elif 1 + len(further) < len(facts.encoders):
        why = f"since features of more do not fit {facts.disk_gb:.0f} GB of free disk"
    elif len(facts.encoders) < len(SIDES):
        why = "since no other weights are installed (the extra 'encoders' has some)"
    else:
        why = "since they are all that are installed, and each sees something else"
    told = (
        f"{_at(own)}{''.join(f', {_at(name)}' for name in further)}, {_size(_gigabytes(facts, [own, *further]))}, {why}"
    )
    encode = {
        "image_encoder": own,
        "image_size": SIDES[own],
        "fine_tune_size": 0,
        "views": 1,
        "train_at_fine_tune_size": False,
        "annotator_encoders": [f"{name}@{SIDES[name]}" for name in further],
    }
    return Choice("image encoders", told, {"encode": encode})


def _size(gigabytes: float) -> str:
    size = f"{gigabytes:,.1f} GB" if gigabytes >= 1 else f"{max(1, gigabytes * 1000):.0f} MB"
    return f"{size} of features at most"


def _at(name: str) -> str:
    return f"{_short(name)} at {SIDES[name]} pixels"


def _short(name: str) -> str:
    return name.removeprefix("tf_efficientnet_")


def _annotator(facts: Facts, encoders: Sequence[str]) -> Choice:
    names = ", ".join(map(_short, encoders))
    linear = {"architecture": "tag2text", "decoder_layers": 0, "evidence": "mean"}
    if facts.annotator:
        told = "the ready one that you named, without folds, since it saw none of these pictures"
        return Choice("annotator", told, {"train_baseline": {"annotator": dict(facts.annotator)}})
    if facts.can_train:
        folds = 5 if facts.effort == "thorough" else 3
        told = (
            f"trained on {names}, with a captioner and {folds} folds, since {facts.captions:,} captions teach one and "
            + ("there is a GPU" if facts.gpu else "effort is thorough")
        )
        trained = {**linear, "caption": True, "folds": folds, "epochs": 10}
        return Choice("annotator", told, {"train_baseline": trained, "generate": {"captions": 1, "keep_below": 300}})
    generate = {"captions": 0, "keep_below": 300}
    if not facts.sentence_encoder:
        told = f"a linear classifier on {names} with 5 folds, since a ridge regression needs the sentence encoder"
        return Choice("annotator", told, {"train_baseline": {**linear, "folds": 5, "epochs": 10}, "generate": generate})
    if facts.captions < MANY:
        why = f"since {facts.captions:,} captions are too few to train one"
    elif facts.effort == "quick":
        why = "since effort is quick"
    else:
        why = "since training one takes a GPU, or effort=thorough"
    told = f"ridge regression on {names}, which needs no folds and writes no captions, {why}"
    return Choice("annotator", told, {"train_baseline": {**linear, "solver": "ridge"}, "generate": generate})


def _student(facts: Facts, own: str) -> Choice:
    fine_tune = {"epochs": 10, "learning_rate": 3e-4}
    if facts.can_train and facts.pictures >= MANY and facts.sentence_encoder:
        retrain = {
            "architecture": "ram",
            "epochs": 8,
            "learning_rate": 0.003,
            "width": 128,
            "dropout": 0.2,
            "distillation": "classes",
        }
        told = f"RAM on {_short(own)}, which takes any label, since {facts.pictures:,} pictures teach one"
        return Choice("tagger", told, {"retrain": retrain, "fine_tune": fine_tune})
    epochs = {"quick": 5, "normal": 10, "thorough": 20}[facts.effort]
    retrain = {
        "architecture": "tag2text",
        "decoder_layers": 0,
        "evidence": "mean",
        "batch_size": 64,
        "epochs": epochs,
        "learning_rate": 0.001,
        "weight_decay": 6,
    }
    why = f"since {facts.pictures:,} pictures are few" if facts.pictures < MANY else "since it is quick to train"
    told = f"a linear classifier on {_short(own)}, {epochs} epochs, {why}"
    return Choice("tagger", told, {"retrain": retrain, "fine_tune": fine_tune})


def _thresholds() -> Choice:
    told = f"at a precision of {PRECISION}, since a wrong tag is worse than a missing one"
    return Choice("thresholds", told, {"retrain": {"thresholds": "precision", "target_precision": PRECISION}})
