"""The settings of `evaluate`."""

from __future__ import annotations

from pydantic import Field

from tasks.settings.base import Settings


class EvaluateSettings(Settings):
    """What is measured, and which rows of the ablation are trained."""

    ablation: bool = Field(
        True, description="The rows to compare with are trained: parsed tags, + generation, the truth."
    )
