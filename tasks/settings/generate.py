"""The settings of `generate`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tasks.settings.base import Settings


class GenerateSettings(Settings):
    """How the annotator adds captions and tags."""

    captions: int = Field(1, ge=0, le=5, description="Captions an image; those after the first are sampled.")
    decoding: Literal["beam", "nucleus"] = Field("beam", description="Of the first caption; nucleus samples it.")
    beams: int = Field(3, ge=1, description="Of the beam search.")
    max_length: int = Field(30, ge=2, description="Of a caption, in word pieces.")
    caption_support: float = Field(
        0.4, ge=0, le=1, description="A generated caption adds a tag only from this probability of the tagger on."
    )
    keep_below: int = Field(20, ge=0, description="Scores kept of the best tags below their threshold.")
    caption_judge: str = Field(
        "tagger",
        description="Who says whether a caption fits its picture: tagger (by the tags that it names), conse, or "
        "open_clip:MODEL[:PRETRAINED]; what falls for it: judge.least_fit.",
        json_schema_extra={"pattern": "^(tagger|conse|open_clip:.+)$"},
    )

    @model_validator(mode="after")
    def _knows_judge(self) -> GenerateSettings:
        if self.caption_judge not in ("tagger", "conse") and not self.caption_judge.startswith("open_clip:"):
            raise ValueError(
                f"there is no caption judge '{self.caption_judge}': say tagger, conse or open_clip:ViT-B-16, say"
            )
        return self
