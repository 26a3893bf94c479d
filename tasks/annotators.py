"""A trained model that annotates images: each image by a model that has not been trained on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models import Tagger, load_tagger, tagger_folder
from tasks.images import decode_image, read_image
from tasks.training.calibration import Calibration, Evidence
from tasks.training.data import TagColumns, fold_of, token_matrix
from tasks.training.jobs import WHOLE, read_record

BATCH = 32


@dataclass(frozen=True)
class Member:
    """The model of a folder, on its device, with its calibration on images that it had not seen.

    ``columns`` are its labels' places among the columns of the label system, which may have grown since.
    """

    model: Tagger
    columns: NDArray[np.intp]
    frozen_encoder: bool
    calibration: Calibration

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device


def load_member(folder: Path, tags: TagColumns, device: torch.device, target_precision: float | None = None) -> Member:
    """The model in ``folder``, with thresholds that aim at ``target_precision`` of added tags, or its own.

    Raises ValueError where it knows labels that the label system has not.
    """
    model = load_tagger(folder).requires_grad_(False).to(device)
    place = {(label.name, label.type): column for column, label in enumerate(tags.labels)}
    unknown = [label.name for label in model.labels if (label.name, label.type) not in place]
    if unknown:
        raise ValueError(f"the model in {folder} has labels that are not active tags: {', '.join(unknown[:5])}")
    columns = np.array([place[label.name, label.type] for label in model.labels], np.intp)
    settings = read_record(folder)[0]
    evidence = Evidence.load(folder)
    if evidence is None:
        calibration = Calibration.identity(model.thresholds().tolist())
    else:
        types = [label.type for label in model.labels]
        if target_precision is None:
            calibration = evidence.calibrate(types, settings.target_precision, rule=settings.thresholds)
        else:
            calibration = evidence.calibrate(types, target_precision, added=True)
    return Member(model, columns, settings.frozen_encoder, calibration)


def expected_shares(folder: Path, tags: TagColumns) -> dict[int, float]:
    """tag_id -> its mean probability over the pictures that the model in ``folder`` was calibrated on.

    Nothing where it was not calibrated.
    """
    evidence = Evidence.load(folder)
    if evidence is None:
        return {}
    labels = tagger_folder.read(folder)[1]
    calibration = evidence.calibrate([label.type for label in labels], read_record(folder)[0].target_precision)
    means = calibration.probabilities(evidence.logits).mean(axis=0)
    tag_id = {(label.name, label.type): tags.ids[column] for column, label in enumerate(tags.labels)}
    return {
        tag_id[label.name, label.type]: float(mean)
        for label, mean in zip(labels, means, strict=True)
        if (label.name, label.type) in tag_id
    }


class Annotator:
    """The whole model and the fold models of a training's folder."""

    def __init__(
        self, folder: Path, tags: TagColumns, device: torch.device, target_precision: float | None = None
    ) -> None:
        self.whole = load_member(folder / WHOLE, tags, device, target_precision)
        count = sum(1 for _ in folder.glob("fold-*"))
        self.folds = [load_member(folder / f"fold-{fold}", tags, device, target_precision) for fold in range(count)]

    def members(self, pairs: pa.Table) -> Iterator[tuple[Member, NDArray[np.intp]]]:
        """Each model with the rows of ``pairs`` that it annotates: training images by the model of their fold."""
        ids, splits = pairs["image_id"].to_pylist(), pairs["split"].to_pylist()
        folds = np.array(
            [
                fold_of(image_id, len(self.folds)) if self.folds and split == "train" else -1
                for image_id, split in zip(ids, splits, strict=True)
            ]
        )
        for fold, member in [(-1, self.whole), *enumerate(self.folds)]:
            rows = np.flatnonzero(folds == fold)
            if len(rows):
                yield member, rows


def whole_tokens(
    member: Member, pairs: pa.Table, features: pa.Table, rows: Sequence[int] | NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
    """Batches of ``rows`` of ``pairs`` with the image tokens (B, 1 + N, C) of the whole pictures.

    Tokens are the stored ones at the model's resolution, or, where its encoder was trained too, computed anew.
    """
    ids = pairs["image_id"].to_pylist()
    if member.frozen_encoder:
        size = member.model.config.image_size
        whole = features.filter(pc.and_(pc.equal(features["image_size"], size), pc.equal(features["view"], 0)))
        tokens = token_matrix(whole["tokens"])
        stored = {image_id: row for row, image_id in enumerate(whole["image_id"].to_pylist())}
        lacking = [ids[row] for row in rows if ids[row] not in stored]
        if lacking:
            raise ValueError(f"features: image {lacking[0]} has no tokens at {size} pixels; run the stage encode again")
    prepare = member.model.preprocessing.transform()
    for start in range(0, len(rows), BATCH):
        batch = np.asarray(rows[start : start + BATCH], np.intp)
        if member.frozen_encoder:
            taken = tokens[[stored[ids[row]] for row in batch]].astype(np.float32)
            yield batch, torch.from_numpy(taken).to(member.device)
        else:
            images = torch.stack([prepare(picture(pairs, int(row))) for row in batch]).to(member.device)
            with torch.inference_mode():
                yield batch, member.model.encode_image(images)


def picture(pairs: pa.Table, row: int) -> Image.Image:
    """The decoded picture of a row of ``pairs``."""
    pair = pairs.select(["image", "width", "height"]).slice(row, 1).to_pylist()[0]
    return decode_image(read_image(pair["image"]), max_pixels=pair["width"] * pair["height"])
