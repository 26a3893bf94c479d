"""The settings of `measure`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from tasks.caption_judges.room import CAPTION_JUDGES
from tasks.caption_judges.tagger import TaggerJudge
from tasks.settings.base import PathName, Settings

if TYPE_CHECKING:
    from tasks.caption_judges.base import CaptionJudgeSettings as CaptionJudge
else:
    CaptionJudge = CAPTION_JUDGES.union()


class MeasureSettings(Settings):
    """What is measured of every image before training."""

    caption_judge: CaptionJudge = Field(
        TaggerJudge(),
        description="This judge says how well captions fit; screen.least_caption_fit says what is left out for it.",
    )
    classifier: PathName = Field(
        "",
        description="A filter, timm:MODEL or a classifier's .onnx file, looks for what is unwanted; empty: none does.",
    )
    unwanted: tuple[int, ...] = Field((), description="These classes of the classifier, by number, are not wanted.")

    @model_validator(mode="after")
    def _knows_classes(self) -> MeasureSettings:
        if self.classifier and not (self.classifier.startswith("timm:") or self.classifier.endswith(".onnx")):
            raise ValueError(f"a classifier is timm:MODEL or an .onnx file, not '{self.classifier}'")
        if bool(self.classifier) != bool(self.unwanted):
            raise ValueError("a classifier and the numbers of its unwanted classes go together: set measure.unwanted")
        return self

    def files(self) -> tuple[str, ...]:
        own = (self.classifier,) if self.classifier.endswith(".onnx") else ()
        return (*own, *self.caption_judge.files())
