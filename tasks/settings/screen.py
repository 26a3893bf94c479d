"""The settings of `screen`."""

from __future__ import annotations

from pydantic import Field

from tasks.settings.base import Settings


class ScreenSettings(Settings):
    """Which images trainings and exports leave out."""

    hash_bits: int = Field(
        4, ge=-1, le=16, description="Images whose perceptual hashes differ in at most so many bits are one; -1: none."
    )
    least_cosine: float = Field(0.94, ge=0, description="Images as alike as this are one; above 1: none.")
    leakage: bool = Field(True, description="Images in training that are held out as well are left out.")
    least_side: int = Field(0, ge=0, description="Images whose shorter side has fewer pixels are left out.")
    most_aspect: float = Field(
        0, ge=0, description="Images are left out whose longer side is more than so many times the shorter; 0: none is."
    )
    least_caption_fit: float = Field(
        -1,
        ge=-1,
        le=1,
        description="Images are left out whose best caption fits less than this by measure.caption_judge.",
    )
    most_unwanted: float = Field(
        0.5, ge=0, le=1, description="Images are left out that show unwanted classes with a higher probability."
    )
