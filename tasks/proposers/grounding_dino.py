"""Grounding DINO as the proposer, from its released weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.proposers.base import Detector, ProposerContext, ProposerSettings
from tasks.settings.base import PathName


class GroundingDino(ProposerSettings):
    """Grounding DINO, which is asked for every tag by its words."""

    kind: Literal["grounding_dino"] = "grounding_dino"
    checkpoint: str = Field(min_length=1, description="The weights: its .pth file, or hub:OWNER/NAME/FILE.")
    configuration: str = Field("swin-t", description="The model's size: swin-t, swin-b, or a file that describes it.")
    text_encoder: PathName = Field("", description="A folder with the BERT that it reads by; empty: from the hub.")
    threshold: float = Field(0.3, ge=0, le=1, description="The least score of a box.")
    long_edge: int = Field(800, ge=32, description="The longer side that pictures are scaled to, in pixels.")
    half_precision: bool = Field(False, description="Compute in bfloat16 where it may, for a GPU.")

    def files(self) -> tuple[str, ...]:
        own = (self.configuration,) if self.configuration.endswith(".py") else ()
        return own if self.checkpoint.startswith("hub:") else (self.checkpoint, *own)

    def make(self, context: ProposerContext) -> Detector:
        from models.regions import GroundingDinoProposer, grounding_dino

        model = grounding_dino.load(self.checkpoint, self.configuration, self.text_encoder).to(context.device)
        prompts = {tag.tag_id: tag.prompt or tag.name for tag in context.tags}
        proposer = GroundingDinoProposer(
            model,
            prompts,
            context.max_regions,
            self.threshold,
            self.long_edge,
            half_precision=self.half_precision,
        )
        return Detector(frozenset(prompts), proposer.propose)

    def picture_seconds(self) -> float:
        return 1.5 * (self.long_edge / 480) ** 2
