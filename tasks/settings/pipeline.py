"""All of a pipeline's settings."""

from __future__ import annotations

from pydantic import Field

from tasks.settings.assign_tags import AssignTagsSettings
from tasks.settings.base import Settings
from tasks.settings.build_labels import BuildLabelsSettings
from tasks.settings.calibrate import CalibrateSettings
from tasks.settings.clean import CleanSettings
from tasks.settings.encode import EncodeSettings
from tasks.settings.evaluate import EvaluateSettings
from tasks.settings.generate import GenerateSettings
from tasks.settings.ground import GroundSettings
from tasks.settings.ingest import IngestSettings
from tasks.settings.measure import MeasureSettings
from tasks.settings.parse_captions import ParseCaptionsSettings
from tasks.settings.screen import ScreenSettings
from tasks.settings.train_baseline import TrainBaselineSettings
from tasks.settings.training import TrainSettings

MOST_ROUNDS = 5


class PipelineSettings(Settings):
    """All of a pipeline's settings; a preset is one of these as YAML."""

    ingest: IngestSettings = IngestSettings()
    parse: ParseCaptionsSettings = ParseCaptionsSettings()
    labels: BuildLabelsSettings = BuildLabelsSettings()
    assign: AssignTagsSettings = AssignTagsSettings()
    encode: EncodeSettings = EncodeSettings()
    measure: MeasureSettings = MeasureSettings()
    screen: ScreenSettings = ScreenSettings()
    baseline: TrainBaselineSettings = TrainBaselineSettings(architecture="tag2text", caption=True, folds=3)
    calibrate: CalibrateSettings = CalibrateSettings()
    generate: GenerateSettings = GenerateSettings()
    ground: GroundSettings = GroundSettings()
    clean: CleanSettings = CleanSettings()
    retrain: TrainSettings = TrainSettings()
    fine_tune: TrainSettings = TrainSettings(epochs=10)
    evaluate: EvaluateSettings = EvaluateSettings()
    rounds: int = Field(1, ge=1, le=MOST_ROUNDS, description="In round two and later the retrained model annotates.")
