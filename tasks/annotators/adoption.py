"""Adopts an annotator that is not trained: it is asked about the images that are held out to calibrate on."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.annotators import evidence as evidence_files
from tasks.annotators.asking import annotated
from tasks.annotators.base import Adoption, Annotator, AnnotatorContext, AnnotatorSettings, Batch
from tasks.images.tokens import StoredTokens
from tasks.machine.inputs import Inputs
from tasks.training.calibration import Evidence, mentioned_share
from tasks.training.data import TagColumns, tag_columns
from tasks.training.targets import caption_targets, split_ids


def measure(settings: AnnotatorSettings, adoption: Adoption) -> None:
    """Keeps in the folder what the annotator says of the held-out images, and what their captions name.

    Images that it fails on are left out; raises ValueError where it fails on all.
    """
    inputs = adoption.inputs
    tags = tag_columns(inputs.table("label_system"))
    annotator = settings.make(AnnotatorContext(adoption.folder, tags, adoption.device))
    columns = annotator.columns
    labels = [(tags.labels[column].name, tags.labels[column].type) for column in columns]
    batch = _held_out(inputs, tags)
    scores, answered = _asked(annotator, batch, adoption)
    described = bool(split_ids(inputs, "fine_tune"))
    named = batch.named[np.ix_(answered, columns)]
    taught = np.asarray(caption_targets(inputs, split_ids(inputs, "train"), tags)[:, columns].mean(axis=0)).ravel()
    types = [type_ for _, type_ in labels]
    known = described and len(named) > 0
    mentioned = mentioned_share(taught, named.mean(axis=0), types) if known else np.zeros(len(columns))
    evidence_files.save(adoption.folder, Evidence(scores, named, described, mentioned), labels)


def _held_out(inputs: Inputs, tags: TagColumns) -> Batch:
    """The images that are held out to calibrate on, and what their captions name."""
    wanted = pa.array(split_ids(inputs, "calibrate"), pa.string())
    pairs, features = (
        pa.concat_tables(part.filter(pc.is_in(part["image_id"], wanted)) for part in inputs.parts(name))
        for name in ("pairs", "features")
    )
    named = caption_targets(inputs, pairs["image_id"].to_pylist(), tags).toarray() > 0
    return Batch(pairs, StoredTokens(features), named)


def _asked(annotator: Annotator, batch: Batch, adoption: Adoption) -> tuple[np.ndarray, np.ndarray]:
    """The scores of the images that the annotator answers about, and their rows."""
    scores = np.zeros((len(batch), len(annotator.columns)), np.float32)
    answered = np.zeros(len(batch), bool)
    why = ""
    done = 0
    for rows in annotator.parts(batch):
        answers = annotated(annotator, batch.subset(rows))
        scores[rows] = answers.scores
        answered[rows] = [place not in answers.rejected for place in range(len(rows))]
        why = why or next(iter(answers.rejected.values()), "")
        done += len(rows)
        adoption.progress(done, len(batch), "calibration")
    if len(batch) and not answered.any():
        raise ValueError(f"the annotator answers about none of {len(batch):,} images: {why}")
    return scores[answered], np.flatnonzero(answered)
