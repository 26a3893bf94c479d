"""A ready model as the annotator."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks.annotators.base import Adoption
from tasks.annotators.trained import Trained
from tasks.settings.base import PathName


class Pretrained(Trained):
    """A ready model, an imported checkpoint say: it keeps those of its labels that are tags, and is not trained."""

    kind: Literal["pretrained"] = "pretrained"  # type: ignore[assignment]
    path: PathName = Field(min_length=1, description="The model's folder.")

    def files(self) -> tuple[str, ...]:
        folder = Path(self.path)
        return tuple(sorted(map(str, folder.glob("*.*")))) or (str(folder / "config.json"),)

    def adopt(self, adoption: Adoption) -> None:
        from tasks.training.pretrained import adopt

        adopt(self.path, adoption)
