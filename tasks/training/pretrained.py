"""A ready model as the annotator: it keeps those of its labels that are tags here, and gets thresholds for them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models import Label, Tagger, load_tagger, tagger_folder
from tasks.annotators.base import Adoption
from tasks.labels.tags import Tag, read_tags
from tasks.machine.inputs import Inputs
from tasks.training.calibration import evidence_rows
from tasks.training.data import store_pictures, tag_columns
from tasks.training.ids import ImageIds
from tasks.training.jobs import WHOLE, Progress, evidence_of, set_thresholds, write_record
from tasks.training.targets import are_described, caption_targets, ids_by_split, mention_shares

BATCH = 8


def adopt(path: str, adoption: Adoption) -> None:
    """Makes the model in ``path`` the annotator in the adoption's folder.

    It keeps the labels that are tags of the label system, by name or synonym. Where images are held out to calibrate
    on, thresholds are fitted to them; else its own stay. It was trained on none of the images, so there are no folds.
    Raises ValueError where it knows none of the tags.
    """
    settings, inputs, folder = adoption.settings, adoption.inputs, adoption.folder
    label_system = inputs.table("label_system")
    model = load_tagger(path).to(adoption.device)
    known = matches(read_tags(label_system), model.labels)
    if not known:
        raise ValueError(f"the model in {path} knows none of the label system's active tags")
    columns = tag_columns(label_system)
    names = [columns.labels[columns.column[tag]] for tag in known]
    model.keep_labels(
        list(known.values()),
        [
            replace(name, threshold=model.labels[label].threshold)
            for name, label in zip(names, known.values(), strict=True)
        ],
    )
    own = folder / WHOLE
    own.mkdir(parents=True, exist_ok=True)
    ids = ids_by_split(inputs)
    held_out = ids["calibrate"].subset(evidence_rows(len(ids["calibrate"])))
    if len(held_out):
        places = [columns.column[tag] for tag in known]
        named = caption_targets(inputs, held_out, columns)[:, places].toarray() > 0
        taught = mention_shares(inputs, ids["train"], columns)[places]
        logits = _logits(model, inputs, held_out, folder / "scratch", adoption.progress)
        evidence = evidence_of(model, logits, named, taught.astype(np.float32), are_described(inputs, ids))
        evidence.save(own)
        set_thresholds(model, evidence, settings)
    tagger_folder.save(model.cpu(), own)
    # it looks at pictures, since the stored features are of another encoder, and was not solved on them
    write_record(own, settings.model_copy(update={"frozen_encoder": False, "solver": "gradient"}), ())


def matches(tags: Iterable[Tag], labels: Sequence[Label]) -> dict[int, int]:
    """Active tag's id -> number of the label that means it: of the same type if there is one, else of the same name."""
    typed = {(label.name, label.type): number for number, label in reversed(list(enumerate(labels)))}
    named = {label.name: number for number, label in reversed(list(enumerate(labels)))}
    found: dict[int, int] = {}
    for tag in tags:
        numbers = [typed.get((word, tag.type), named.get(word)) for word in tag.words]
        number = next((number for number in numbers if number is not None), None)
        if tag.active and number is not None:
            found[tag.tag_id] = number
    return found


@torch.inference_mode()
def _logits(
    model: Tagger, inputs: Inputs, image_ids: ImageIds, scratch: Path, progress: Progress
) -> NDArray[np.float32]:
    device = next(model.parameters()).device
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        pictures = store_pictures(inputs, image_ids, model.preprocessing, scratch / "pictures")
        order = [np.arange(at, min(at + BATCH, len(image_ids))) for at in range(0, len(image_ids), BATCH)]
        found = []
        for images in pictures.whole(order):
            found.append(model.tag_logits(model.encode_image(images.to(device))).cpu().numpy())
            progress(sum(map(len, found)), len(image_ids), "calibration")
        return np.concatenate(found)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
