"""What a caption judge is: settings that make a function from pictures and captions to figures, ``caption_fit``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from tasks.settings.encode import EncodeSettings
from tasks.settings.rooms import Member

if TYPE_CHECKING:
    from tasks.machine.inputs import Inputs

CaptionFit = Callable[[Sequence[Image.Image], Sequence[Sequence[str]]], list[list[float]]]
"""RGB pictures, and the captions of each -> how well each caption fits its picture, -1..1, the same lists."""


@dataclass(frozen=True)
class CaptionJudgeContext:
    """What a caption judge is made with: the timm model that the store's images are encoded with, and the device to
    compute on, as torch names it."""

    image_encoder: str
    device: str


class CaptionJudgeSettings(Member):
    """The base of all caption judges."""

    def make(self, context: CaptionJudgeContext) -> CaptionFit | None:
        """The judge; None where no one is to be asked."""
        raise NotImplementedError

    def picture_seconds(self) -> float:
        """A first guess of the seconds that a picture takes on two cores."""
        return 0.03


def context_of(inputs: Inputs, device: object) -> CaptionJudgeContext:
    """The context in a stage that reads ``features``."""
    features = inputs.snapshots.get("features")
    encode = EncodeSettings(**(features.settings if features is not None else {}))
    return CaptionJudgeContext(encode.image_encoder, str(device))
