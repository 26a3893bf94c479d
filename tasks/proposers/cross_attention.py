"""The annotator's own attention as the proposer."""

from __future__ import annotations

from typing import Literal

from tasks.proposers.base import Detector, ProposerContext, ProposerSettings


class CrossAttention(ProposerSettings):
    """The annotator's own attention, which needs no weights from outside."""

    kind: Literal["cross_attention"] = "cross_attention"

    def make(self, context: ProposerContext) -> Detector | None:
        return None

    def picture_seconds(self) -> float:
        return 0.0
