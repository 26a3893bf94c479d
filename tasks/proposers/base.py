"""What a region proposer is: settings that make a detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from tasks.labels.tags import Tag
from tasks.settings.rooms import Member

Box = tuple[float, float, float, float]
Proposals = Sequence[Sequence[tuple[int, Box, float]]]


@dataclass(frozen=True)
class ProposerContext:
    """What a detector is made with: the label system's ``tags``, how many regions of a tag are kept in a picture, and
    the ``device`` to compute on, as torch names it."""

    tags: tuple[Tag, ...]
    max_regions: int
    device: str


@dataclass(frozen=True)
class Detector:
    """Looks for tags in pictures.

    ``propose`` takes RGB pictures and for each the ids of the tags to look for, all of them among ``tags``. It gives
    for each picture (tag id, box, score): the box as x0, y0, x1, y1 in shares of the picture's width and height, the
    score 0..1, the best of a tag first. Where it fails on a batch it is asked about each picture alone, and a picture
    that it fails on has no region.
    """

    tags: frozenset[int]
    propose: Callable[[Sequence[Image.Image], Sequence[Sequence[int]]], Proposals]


class ProposerSettings(Member):
    """The base of all region proposers."""

    def make(self, context: ProposerContext) -> Detector | None:
        """The detector. Tags that it does not know are left to the annotator's attention; None: all of them are."""
        raise NotImplementedError

    def picture_seconds(self) -> float:
        """A first guess of the seconds that a picture takes on two cores."""
        return 0.1
