"""The settings of `generate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.caption_judges.room import CAPTION_JUDGES
from tasks.caption_judges.tagger import TaggerJudge
from tasks.settings.base import Settings

if TYPE_CHECKING:
    from tasks.caption_judges.base import CaptionJudgeSettings as CaptionJudge
else:
    CaptionJudge = CAPTION_JUDGES.union()


class GenerateSettings(Settings):
    """How the annotator adds captions and tags."""

    captions: int = Field(
        1, ge=0, le=5, description="So many captions are written for an image; those after the first are sampled."
    )
    decoding: Literal["beam", "nucleus"] = Field(
        "beam", description="The first caption comes of a beam search, or is sampled."
    )
    beams: int = Field(3, ge=1, description="The beam search follows so many beams.")
    max_length: int = Field(30, ge=2, description="A caption has at most so many word pieces.")
    caption_support: float = Field(
        0.4, ge=0, le=1, description="A generated caption adds a tag only from this probability of the tagger on."
    )
    keep_below: int = Field(20, ge=0, description="So many scores are kept of the best tags below their threshold.")
    error_budget: float = Field(
        0.2, ge=0, le=1, description="The stage fails where the annotator fails on a larger share of the images."
    )
    caption_judge: CaptionJudge = Field(
        TaggerJudge(),
        description="This judge says how well captions fit; judge.least_caption_fit says what falls for it.",
    )

    def files(self) -> tuple[str, ...]:
        return self.caption_judge.files()
