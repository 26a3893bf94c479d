"""The annotator that the engine trains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.annotators.base import Adoption, Annotator, AnnotatorContext, AnnotatorSettings

if TYPE_CHECKING:
    from tasks.annotators.evidence import AnnotatorEvidence
    from tasks.training.data import TagColumns


class Trained(AnnotatorSettings):
    """A model that is trained on the captions and their tags, as the settings beside it say."""

    brings_evidence: ClassVar[bool] = True
    kind: Literal["trained"] = "trained"

    def make(self, context: AnnotatorContext) -> Annotator:
        from tasks.annotators.models import TrainedAnnotator

        return TrainedAnnotator(context)

    def adopt(self, adoption: Adoption) -> None:
        raise TypeError("this annotator is trained, not adopted")

    def evidence(self, folder: Path, tags: TagColumns) -> AnnotatorEvidence:
        from tasks.annotators.models import evidence

        return evidence(folder, tags)
