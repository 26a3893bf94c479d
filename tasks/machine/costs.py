"""What a stage will cost: seconds on two cores, and bytes of disk.

First guesses are of the run in docs/demo.md, on a quiet machine, and know what a setting makes dearer: encoders
and their sizes, views, fold models, epochs, captions, detectors. What a store has measured corrects the seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from statistics import median

from storage.names import first_round_name
from storage.store import Store
from tasks.machine.dag import stages
from tasks.machine.declaration import Stage
from tasks.machine.planning import PlanError, made_with
from tasks.machine.stage_run import StageRun
from tasks.settings.base import Settings
from tasks.settings.encode import EncodeSettings
from tasks.settings.generate import GenerateSettings
from tasks.settings.ground import GroundSettings
from tasks.settings.measure import MeasureSettings
from tasks.settings.train_baseline import TrainBaselineSettings
from tasks.settings.training import TrainSettings

RUN_SECONDS = 8.0  # Prefect's server, and the last page
RUN_BYTES = 20e6  # Prefect's history of a run
STAGE_SECONDS, LOADING_SECONDS, TRAINING_SECONDS = 0.7, 2.5, 5.0  # before the first image
PIXEL_SECONDS, VIEW_SECONDS = 2e-7, 3e-3  # of tf_efficientnet_lite0; decoding, cropping and resizing a picture
IMAGE_EPOCH_SECONDS, MEAN_EPOCH_SECONDS, RIDGE_SECONDS = 2.4e-3, 1.5e-4, 1e-3
CLASSIFIER_SECONDS = 0.03  # of a picture
PIXEL_COSTS = {  # multiplications a pixel, over those of tf_efficientnet_lite0
    "tf_efficientnet_lite0": 1.0,
    "tf_efficientnet_lite1": 1.4,
    "tf_efficientnet_lite2": 1.6,
    "tf_efficientnet_lite3": 1.9,
    "tf_efficientnet_lite4": 2.2,
    "swin_base_patch4_window12_384": 39.0,
}
OTHER_ENCODER = 4.0
STRIDE, WIDTH_BYTES, PACKED = 32, 2 * 1280, 0.35  # of stored tokens: pixels a side, float16, what lz4 leaves
IMAGE_BYTES, REGION_BYTES, ROW_BYTES, MODEL_BYTES = 52e3, 11e3, 400.0, 17e6
SLOWEST_PACE, FASTEST_PACE = 50.0, 0.1  # beyond, something else was measured: a machine that slept, a stage taken up
TRAINED_ROWS = {"train-ablation": 3, "fine-tune": 3}  # models that a stage trains beside the fold models


@dataclass(frozen=True)
class Pricing:
    """What stages cost in a store that looks with ``encode``, at the ``paces`` that it has measured (:func:`paces`)."""

    paces: Mapping[str, float]
    encode: EncodeSettings

    @classmethod
    def of(cls, run: StageRun) -> Pricing:
        """That of the store of a run, which may be the run of `encode` itself."""
        own = run.settings if isinstance(run.settings, EncodeSettings) else encode_settings(run.store)
        return cls(paces(run.store, run.stage.rounds), own)

    def seconds(self, stage: Stage, settings: Settings, rows: int) -> float:
        """What ``rows`` images will take at the stage's own pace, else at that of the store's other stages."""
        usual = median(self.paces.values()) if self.paces else 1.0
        return first_guess(stage, settings, self.encode, rows) * self.paces.get(stage.name, usual)

    def stored_bytes(self, stage: Stage, settings: Settings, rows: int) -> float:
        """A first guess of the bytes that a stage adds to the store for ``rows`` images."""
        name = first_round_name(stage.name)
        if name == "ingest":
            return rows * IMAGE_BYTES
        if name == "encode":
            tokens = sum(views * (size / STRIDE) ** 2 for size, _, views in _looks(self.encode))
            return rows * tokens * WIDTH_BYTES * PACKED
        if isinstance(settings, TrainSettings) and stage.kind == "training":
            return _models(stage, settings) * _members(name, self.encode) * MODEL_BYTES
        return rows * (REGION_BYTES if name == "ground" else ROW_BYTES)


def encode_settings(store: Store) -> EncodeSettings:
    """The settings that a store's features were made with; the usual ones where it has none."""
    features = store.snapshot("features")
    return EncodeSettings() if features is None else EncodeSettings.model_validate(features.settings)


def paces(store: Store, rounds: int) -> dict[str, float]:
    """By stage the seconds of its last run in this store, over their first guess."""
    encode, measured = encode_settings(store), {}
    for stage in stages(rounds):
        snapshot = store.snapshot(stage.outputs[0])
        figures = {} if snapshot is None else snapshot.figures
        if snapshot is None or not figures.get("input_rows"):
            continue
        with suppress(PlanError, ValueError):  # settings of another version
            guess = first_guess(stage, made_with(stage, snapshot), encode, int(figures["input_rows"]))
            measured[stage.name] = min(SLOWEST_PACE, max(FASTEST_PACE, figures["seconds"] / guess))
    return measured


def first_guess(stage: Stage, settings: Settings, encode: EncodeSettings, rows: int) -> float:
    """The seconds that a stage takes for ``rows`` images on a quiet machine, its start included."""
    start = TRAINING_SECONDS if stage.kind == "training" else LOADING_SECONDS if stage.uses_model else STAGE_SECONDS
    return start + rows * _image_seconds(stage, settings, encode)


def _image_seconds(stage: Stage, settings: Settings, encode: EncodeSettings) -> float:
    name = first_round_name(stage.name)
    special: Mapping[str, Callable[[], float]] = {
        "encode": lambda: _encoding(encode),
        "measure": lambda: 1 / stage.rate + _judging(settings),
        "generate": lambda: _generating(stage, settings, encode),
        "ground": lambda: 1 / stage.rate + _grounding(settings),
    }
    if name in special:
        return special[name]()
    if isinstance(settings, TrainSettings) and stage.kind == "training":
        return _training(stage, settings, encode)
    return 1 / stage.rate


def _looks(encode: EncodeSettings) -> list[tuple[int, str, int]]:
    """(pixels a side, encoder, views) that a training image gets."""
    looks = [(encode.image_size, encode.image_encoder, encode.views)]
    if encode.fine_tune_size and encode.train_at_fine_tune_size:
        looks.append((encode.fine_tune_size, encode.image_encoder, 1))
    return looks + [(size, name, 1) for size, name in encode.further().items()]


def _encoding(encode: EncodeSettings) -> float:
    return sum(
        views * (VIEW_SECONDS + PIXEL_SECONDS * size**2 * PIXEL_COSTS.get(name, OTHER_ENCODER))
        for size, name, views in _looks(encode)
    )


def _models(stage: Stage, settings: TrainSettings) -> int:
    if isinstance(settings, TrainBaselineSettings) and not settings.is_trained:
        return 1
    return TRAINED_ROWS.get(stage.name, 1) + (settings.folds if settings.solver == "gradient" else 0)


def _members(name: str, encode: EncodeSettings) -> int:
    """The models of the annotator: one for each of its encoders."""
    return 1 + len(encode.annotator_encoders) if name in ("train-baseline", "generate") else 1


def _training(stage: Stage, settings: TrainSettings, encode: EncodeSettings) -> float:
    """A fold model learns from all images but those of its fold."""
    if isinstance(settings, TrainBaselineSettings) and not settings.is_trained:
        return 0.0
    members = _members(first_round_name(stage.name), encode)
    if settings.solver == "ridge":
        return members * RIDGE_SECONDS
    if stage.name == "fine-tune":  # on the fully described pairs alone, which are few
        return settings.epochs / 10 / stage.rate
    once = MEAN_EPOCH_SECONDS if settings.only_mean else IMAGE_EPOCH_SECONDS
    if not settings.frozen_encoder:
        once += 3 * _encoding(encode)  # forwards and backwards
    wholes = TRAINED_ROWS.get(stage.name, 1) + max(0, settings.folds - 1)
    return members * wholes * settings.epochs * once


def _judging(settings: Settings) -> float:
    assert isinstance(settings, MeasureSettings)
    return settings.caption_judge.picture_seconds() + CLASSIFIER_SECONDS * bool(settings.classifier)


def _generating(stage: Stage, settings: Settings, encode: EncodeSettings) -> float:
    assert isinstance(settings, GenerateSettings)
    annotating = (settings.captions + 0.25 * _members("generate", encode)) / stage.rate
    return annotating + settings.caption_judge.picture_seconds()


def _grounding(settings: Settings) -> float:
    assert isinstance(settings, GroundSettings)
    return settings.proposer.picture_seconds()
