"""ConSE as the caption judge: an ImageNet classifier's words beside the caption's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.caption_judges.base import CaptionFit, CaptionJudgeContext, CaptionJudgeSettings


class ConseJudge(CaptionJudgeSettings):
    """ConSE, an ImageNet classifier whose words are held against the caption's: the cosine of the two."""

    kind: Literal["conse"] = "conse"
    image_encoder: str = Field(
        "", description="The timm model whose classifier it is; empty: the one that the images are encoded with."
    )

    def make(self, context: CaptionJudgeContext) -> CaptionFit:
        from tasks.caption_judges import cosines

        return cosines.of_conse(self.image_encoder or context.image_encoder, context.device)
