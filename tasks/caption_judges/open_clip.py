"""A CLIP as the caption judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.caption_judges.base import CaptionFit, CaptionJudgeContext, CaptionJudgeSettings


class OpenClipJudge(CaptionJudgeSettings):
    """A CLIP that open_clip knows, by the cosine of picture and caption. ``MODEL:PRETRAINED`` sets both at once."""

    kind: Literal["open_clip"] = "open_clip"
    model: str = Field(min_length=1, description="Its name in open_clip, such as ViT-B-16.")
    pretrained: str = Field("", description="Its weights: a tag that open_clip knows, or a file; empty: OpenAI's.")

    @model_validator(mode="before")
    @classmethod
    def _split(cls, values: Any) -> Any:
        if isinstance(values, dict) and ":" in str(values.get("model", "")) and not values.get("pretrained"):
            model, _, pretrained = values["model"].partition(":")
            return {**values, "model": model, "pretrained": pretrained}
        return values

    def files(self) -> tuple[str, ...]:
        return (self.pretrained,) if Path(self.pretrained).is_file() else ()

    def make(self, context: CaptionJudgeContext) -> CaptionFit:
        from tasks.caption_judges import cosines

        return cosines.of_clip(":".join(filter(None, ["open_clip", self.model, self.pretrained])), context.device)
