"""No caption judge beside the tagger."""

from __future__ import annotations

from typing import Literal

from tasks.caption_judges.base import CaptionFit, CaptionJudgeContext, CaptionJudgeSettings


class TaggerJudge(CaptionJudgeSettings):
    """No one but the tagger, which judges a caption by the tags that it names."""

    kind: Literal["tagger"] = "tagger"

    def make(self, context: CaptionJudgeContext) -> CaptionFit | None:
        return None

    def picture_seconds(self) -> float:
        return 0.0
