"""What region proposers find."""

from __future__ import annotations

from typing import NamedTuple

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in shares of the picture's width and height


class Proposal(NamedTuple):
    """A box in which a tag is said to be, with the proposer's own score, 0..1."""

    tag_id: int
    box: Box
    score: float
