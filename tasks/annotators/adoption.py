"""Adopts an annotator that is not trained: it is asked about the images that are held out to calibrate on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.annotators import evidence as evidence_files
from tasks.annotators.asking import annotated
from tasks.annotators.base import Adoption, Annotator, AnnotatorContext, AnnotatorSettings
from tasks.annotators.batches import batches
from tasks.training.calibration import Evidence, evidence_rows, mentioned_share
from tasks.training.data import tag_columns
from tasks.training.targets import are_described, caption_targets, ids_by_split, mention_shares


def measure(settings: AnnotatorSettings, adoption: Adoption) -> None:
    """Keeps in the folder what the annotator says of the held-out images, and what their captions name.

    Images that it fails on are left out; raises ValueError where it fails on all.
    """
    inputs = adoption.inputs
    tags = tag_columns(inputs.table("label_system"))
    annotator = settings.make(AnnotatorContext(adoption.folder, tags, adoption.device))
    columns = annotator.columns
    labels = [(tags.labels[column].name, tags.labels[column].type) for column in columns]
    of_split = ids_by_split(inputs)
    held_out = set(of_split["calibrate"].subset(evidence_rows(len(of_split["calibrate"]))))
    listed = (image_id for part in inputs.parts("pairs", ["image_id"]) for image_id in part["image_id"].to_pylist())
    ids = [image_id for image_id in listed if image_id in held_out]
    said = caption_targets(inputs, ids, tags).toarray() > 0
    scores, answered = _asked(annotator, ids, said, adoption)
    described = are_described(inputs, of_split)
    named = said[np.ix_(answered, columns)]
    taught = mention_shares(inputs, of_split["train"], tags)[columns]
    types = [type_ for _, type_ in labels]
    known = described and len(named) > 0
    mentioned = mentioned_share(taught, named.mean(axis=0), types) if known else np.zeros(len(columns))
    evidence_files.save(adoption.folder, Evidence(scores, named, described, mentioned), labels)


def _asked(
    annotator: Annotator, image_ids: Sequence[str], named: NDArray[np.bool_], adoption: Adoption
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """The scores of the images that the annotator answers about, and their places."""
    scores = np.zeros((len(image_ids), len(annotator.columns)), np.float32)
    answered = np.zeros(len(image_ids), bool)
    why = ""
    done = 0
    for places, batch in batches(adoption.inputs, image_ids, named):
        for rows in annotator.parts(batch):
            answers = annotated(annotator, batch.subset(rows))
            scores[places[rows]] = answers.scores
            answered[places[rows]] = [place not in answers.rejected for place in range(len(rows))]
            why = why or next(iter(answers.rejected.values()), "")
            done += len(rows)
            adoption.progress(done, len(image_ids), "calibration")
    if image_ids and not answered.any():
        raise ValueError(f"the annotator answers about none of {len(image_ids):,} images: {why}")
    return scores[answered], np.flatnonzero(answered)
