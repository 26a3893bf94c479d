"""The settings of `calibrate`."""

from __future__ import annotations

from pydantic import Field

from tasks.settings.base import Settings


class CalibrateSettings(Settings):
    """What evidence the annotator owes before it may add a tag."""

    target_precision: float = Field(
        0.5, gt=0, lt=1, description="This share of a tag's additions has to be right, by its lower bound."
    )
    confidence: float = Field(0.7, gt=0.5, lt=1, description="The lower bound is so sure, of one side.")
