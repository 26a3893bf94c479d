"""The settings of `ground`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from tasks.settings.base import Settings


def _needs(field: str, values: list[str], *others: str) -> dict[str, Any]:
    """JSON schema: where ``field`` is one of ``values``, the ``others`` are not empty. Forms refuse it then."""
    filled: dict[str, Any] = {other: {"minLength": 1} for other in others}
    return {
        "if": {"properties": {field: {"enum": values}}, "required": [field]},
        "then": {"properties": filled, "required": list(others)},
    }


class GroundSettings(Settings):
    """Where the regions of a tag are looked for."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                _needs("proposer", ["grounding_dino", "onnx_detector"], "checkpoint"),
                _needs("proposer", ["onnx_detector"], "classes"),
            ]
        }
    )

    proposer: Literal["cross_attention", "grounding_dino", "onnx_detector"] = Field(
        "cross_attention",
        description="The annotator's own attention, Grounding DINO, or a detector with a list of classes; of tags that "
        "are none of its classes the attention tells.",
    )
    max_regions: int = Field(2, ge=1, description="Regions kept for a tag in an image.")
    error_budget: float = Field(0.2, ge=0, le=1, description="The share of rejected regions beyond which it fails.")
    checkpoint: str = Field(
        "",
        description="The detector's weights: Grounding DINO's .pth (or hub:OWNER/NAME/FILE), or a YOLOX as .onnx.",
    )
    classes: str = Field(
        "", description="The detector's classes, one a line; more words that it stands for after commas."
    )
    configuration: str = Field("swin-t", description="Grounding DINO's: swin-t, swin-b, or a file.")
    text_encoder: str = Field("", description="A folder with Grounding DINO's BERT; empty: from the hub.")
    threshold: float = Field(0.3, ge=0, le=1, description="The least score of a detector's box.")
    long_edge: int = Field(800, ge=32, description="Pictures are scaled to it for Grounding DINO, in pixels.")
    half_precision: bool = Field(False, description="Grounding DINO computes in bfloat16 where it may, for a GPU.")

    @model_validator(mode="after")
    def _has_weights(self) -> GroundSettings:
        if self.proposer != "cross_attention" and not self.checkpoint:
            raise ValueError(f"{self.proposer} needs its weights: set ground.checkpoint to the file")
        if self.proposer == "onnx_detector" and not self.classes:
            raise ValueError("onnx_detector needs to know its classes: set ground.classes to a file with one a line")
        return self

    def files(self) -> tuple[str, ...]:
        if self.proposer == "cross_attention":
            return ()
        if self.proposer == "onnx_detector":
            return (self.checkpoint, self.classes)
        own = (self.configuration,) if self.configuration.endswith(".py") else ()
        return own if self.checkpoint.startswith("hub:") else (self.checkpoint, *own)
