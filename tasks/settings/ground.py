"""The settings of `ground`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.proposers.cross_attention import CrossAttention
from tasks.proposers.room import PROPOSERS
from tasks.settings.base import Settings

if TYPE_CHECKING:
    from tasks.proposers.base import ProposerSettings as Proposer
else:
    Proposer = PROPOSERS.union()


class GroundSettings(Settings):
    """Where the regions of a tag are looked for."""

    proposer: Proposer = Field(
        CrossAttention(),
        description="This proposer finds the regions. Tags that a detector does not know are left to the annotator's "
        "attention.",
    )
    max_regions: int = Field(2, ge=1, description="So many regions are kept for a tag in an image.")
    error_budget: float = Field(0.2, ge=0, le=1, description="The stage fails beyond this share of rejected regions.")

    def files(self) -> tuple[str, ...]:
        return self.proposer.files()
