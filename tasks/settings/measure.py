"""The settings of `measure`."""

from __future__ import annotations

from pydantic import Field, model_validator

from tasks.settings.base import PathName, Settings


class MeasureSettings(Settings):
    """What is measured of every image before training."""

    judge: str = Field(
        "tagger",
        description="Who says how well captions fit: conse, or open_clip:MODEL[:PRETRAINED]; tagger: no one is asked.",
    )
    image_encoder: str = Field("tf_efficientnet_lite0", description="Of conse: the timm model of its classifier.")
    classifier: PathName = Field("", description="A filter: timm:MODEL, or a classifier's .onnx file; empty: none.")
    unwanted: tuple[int, ...] = Field((), description="Numbers of the classifier's classes that are not wanted.")

    @model_validator(mode="after")
    def _knows_classes(self) -> MeasureSettings:
        if self.classifier and not (self.classifier.startswith("timm:") or self.classifier.endswith(".onnx")):
            raise ValueError(f"a classifier is timm:MODEL or an .onnx file, not '{self.classifier}'")
        if bool(self.classifier) != bool(self.unwanted):
            raise ValueError("a classifier and the numbers of its unwanted classes go together: set measure.unwanted")
        return self

    def files(self) -> tuple[str, ...]:
        return (self.classifier,) if self.classifier.endswith(".onnx") else ()
