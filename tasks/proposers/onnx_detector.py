"""A detector with a fixed list of classes as the proposer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import Field

from tasks.labels.tags import Tag
from tasks.proposers.base import Detector, ProposerContext, ProposerSettings
from tasks.settings.base import PathName


class OnnxDetector(ProposerSettings):
    """A YOLOX detector in ONNX form, which knows the tags that its classes name."""

    kind: Literal["onnx_detector"] = "onnx_detector"
    checkpoint: PathName = Field(min_length=1, description="The detector's .onnx file.")
    classes: PathName = Field(
        min_length=1,
        description="A file with its classes, one a line; more words that a class stands for after commas.",
    )
    threshold: float = Field(0.3, ge=0, le=1, description="The least score of a box.")

    def files(self) -> tuple[str, ...]:
        return (self.checkpoint, self.classes)

    def make(self, context: ProposerContext) -> Detector:
        from models.regions import OnnxDetectorProposer, read_classes

        words = read_classes(self.classes)
        classes = classes_of_tags(context.tags, words)
        proposer = OnnxDetectorProposer(self.checkpoint, classes, len(words), context.max_regions, self.threshold)
        return Detector(frozenset(classes), proposer.propose)

    def picture_seconds(self) -> float:
        return 0.08


def classes_of_tags(tags: Iterable[Tag], classes: Sequence[Sequence[str]]) -> dict[int, int]:
    """Tag id -> the detector's class that has one of its words, its name first, then its synonyms."""
    number = {word: at for at, words in reversed(list(enumerate(classes))) for word in words}
    class_of = {}
    for tag in tags:
        known = [number[word] for word in tag.words if word in number]
        if known and tag.groundable:
            class_of[tag.tag_id] = known[0]
    return class_of
