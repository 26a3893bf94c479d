"""The settings of `train-baseline`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tasks.settings.training import TrainSettings


class TrainBaselineSettings(TrainSettings):
    """The annotator: a model that is trained, or one that is ready."""

    pretrained: str = Field("", description="A model folder that annotates as it is; empty: one is trained.")

    def training(self) -> TrainSettings:
        """The settings of the training alone."""
        return TrainSettings(**self.model_dump(exclude={"pretrained"}))

    def files(self) -> tuple[str, ...]:
        if not self.pretrained:
            return ()
        folder = Path(self.pretrained)
        return tuple(sorted(map(str, folder.glob("*.*")))) or (str(folder / "config.json"),)
