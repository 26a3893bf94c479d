"""What an annotator says of images that it did not learn from, counted by tag: what `calibrate` decides by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.training.calibration import Evidence, TagCounts
from tasks.training.data import TagColumns

TAGS = "tags.json"  # of an adopted annotator: the name and type of each column of its evidence


@dataclass(frozen=True)
class AnnotatorEvidence:
    """What an annotator says of images that it did not learn from, counted by tag.

    ``columns`` (labels,) are its labels' places among the label system's columns; ``halves`` are the counts of every
    other image, and of the rest, out of ``images``; ``described``: whether captions of these name all that is there,
    of which those of training images name the share ``mentioned`` (labels,).
    """

    columns: NDArray[np.intp]
    halves: tuple[TagCounts, TagCounts]
    images: int
    described: bool
    mentioned: NDArray[np.floating]


def counted(
    of_models: Iterable[Evidence], models: int, active: NDArray[np.intp], columns: NDArray[np.intp]
) -> AnnotatorEvidence:
    """The evidence of so many ``models``: about images of their own each, or, where these are described, the same ones.

    Of their labels the numbers ``active`` are tags, which stand among the label system's ``columns``.
    """
    nothing = TagCounts.of(np.zeros((0, len(active))), np.zeros((0, len(active)), bool))
    counts = AnnotatorEvidence(columns, (nothing, nothing), 0, False, np.zeros(len(active)))
    shown = 0.0
    for number, evidence in enumerate(of_models):  # one at a time is in memory
        weight = 1 / models if evidence.described else 1.0
        logits, named = evidence.logits[:, active], evidence.named[:, active]
        parts = [TagCounts.of(logits[at::2], named[at::2], weight) for at in (0, 1)]
        shown += len(logits) * weight
        mentioned = counts.mentioned if number else evidence.mentioned[active]
        halves = (counts.halves[0] + parts[0], counts.halves[1] + parts[1])
        counts = AnnotatorEvidence(columns, halves, round(shown), evidence.described, mentioned)
    return counts


def save(folder: Path, evidence: Evidence, labels: Sequence[tuple[str, str]]) -> None:
    """Keeps the evidence of an adopted annotator, whose columns are the tags ``labels``, (name, type) each."""
    evidence.save(folder)
    (folder / TAGS).write_text(json.dumps(list(labels)), encoding="utf-8")


def of_adopted(folder: Path, tags: TagColumns) -> AnnotatorEvidence:
    """What :func:`save` kept, of those of its tags that are active still."""
    place = {(label.name, label.type): column for column, label in enumerate(tags.labels)}
    labels = json.loads((folder / TAGS).read_text(encoding="utf-8"))
    columns = np.array([place.get((name, type_), -1) for name, type_ in labels], np.intp)
    active = np.flatnonzero(columns >= 0)
    evidence = Evidence.load(folder)
    return counted([evidence] if evidence is not None else [], 1, active, columns[active])
