"""What a region proposer is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in shares of the picture's width and height


class Proposal(NamedTuple):
    """A box in which a tag is said to be, with the proposer's own score, 0..1."""

    tag_id: int
    box: Box
    score: float


Images = TypeVar("Images", contravariant=True)


class RegionProposer(Protocol[Images]):
    """Looks for the given tags of every image of a batch."""

    def propose(self, images: Images, tag_ids: Sequence[Sequence[int]]) -> list[list[Proposal]]:
        """For each image its proposals, in the order of its ``tag_ids`` and the best of a tag first.

        ``images`` is what the proposer reads: image tokens (B, 1 + N, C), or pictures. A tag that is nowhere to be
        seen has no proposal.
        """
        ...
