"""The annotator that a model folder holds: the folder says itself of which kind it is, and with which settings."""

from __future__ import annotations

import json
from pathlib import Path

from tasks.annotators.base import Annotator, AnnotatorContext, AnnotatorSettings
from tasks.annotators.room import ANNOTATORS
from tasks.annotators.trained import Trained

FILE = "annotator.json"  # of one that was adopted; a folder without it was trained


def write(folder: Path, settings: AnnotatorSettings) -> None:
    """Says in ``folder`` which annotator it holds."""
    said = {"package": settings.package, "settings": settings.model_dump(mode="json")}
    (folder / FILE).write_text(json.dumps(said, indent=1), encoding="utf-8")


def read(folder: Path) -> AnnotatorSettings:
    """The settings of the annotator in ``folder``. Raises ValueError where the package that brought it is gone."""
    if not (folder / FILE).is_file():
        return Trained()
    said = json.loads((folder / FILE).read_text(encoding="utf-8"))
    kind = said["settings"]["kind"]
    if kind not in ANNOTATORS.members:
        raise ValueError(f"the annotator '{kind}' came with {said['package']}, which is not installed here")
    return ANNOTATORS.members[kind].model_validate(said["settings"])


def open_annotator(context: AnnotatorContext) -> Annotator:
    """The annotator in the context's folder."""
    return read(context.folder).make(context)
