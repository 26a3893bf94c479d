"""The settings of `train-baseline`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.annotators.room import ANNOTATORS
from tasks.annotators.trained import Trained
from tasks.settings.training import TrainSettings

if TYPE_CHECKING:
    from tasks.annotators.base import AnnotatorSettings as AnyAnnotator
else:
    AnyAnnotator = ANNOTATORS.union()


class TrainBaselineSettings(TrainSettings):
    """The annotator: a model that is trained, or one that is ready."""

    annotator: AnyAnnotator = Field(
        Trained(), description="This annotator is used; the other settings are of one that is trained."
    )

    @property
    def is_trained(self) -> bool:
        """Whether the annotator is trained, rather than adopted."""
        return type(self.annotator) is Trained

    def training(self) -> TrainSettings:
        """The settings of the training alone."""
        return TrainSettings(**self.model_dump(exclude={"annotator"}))

    def files(self) -> tuple[str, ...]:
        return self.annotator.files()
