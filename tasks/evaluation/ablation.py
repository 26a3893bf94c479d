"""The ablation on a store's own data: one trainer, one budget, the same seeds; only the labels differ.

Rows: ``parsed`` (what the captions name), ``generation`` (and what the annotator added), ``cleaning`` (what was kept),
``ceiling`` (what all captions of an image name, or the sample's truth), and each but ``generation`` fine-tuned on some
fully described images.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.sparse import csr_matrix
from torch import Tensor

from models import load_tagger
from tasks.evaluation.comparison import CEILING, PARSED
from tasks.evaluation.known import known_targets, measured
from tasks.labels.tags import read_tags
from tasks.labels.texts import tag_reader
from tasks.machine.devices import device_of
from tasks.machine.inputs import Inputs
from tasks.settings.executor import ExecutorSettings
from tasks.settings.training import TrainSettings
from tasks.training.data import TagColumns, store_tokens
from tasks.training.jobs import Job, Progress, blueprint, continued, job, run_jobs
from tasks.training.material import Material, gather
from tasks.training.targets import (
    generation_targets,
    matrix,
    split_ids,
    truth_targets,
    verdict_targets,
)

FINE_TUNED = "_fine_tuned"


@dataclass(frozen=True)
class Variation:
    """What one run of the ablation looks at: the ``tags`` most frequent labels and the first ``images`` training
    images (0: all), seen by the annotator's further encoder of that image ``size`` (0: by the tagger's own), and on how
    many images with the ceiling's labels rows are fine-tuned (0: none)."""

    tags: int = 0
    images: int = 0
    size: int = 0
    fine_tune: int = 0


@dataclass(frozen=True)
class Measured:
    """``scores`` of each row (seeds, images, tags), ``thresholds`` (seeds, tags) and ``truth`` (images, tags).

    ``targets``: tags an image, and precision and recall against the ceiling's, of what each row was taught.
    ``against``: whose truth that is, a key of :data:`tasks.evaluation.verdict.AGAINST`.
    """

    tags: TagColumns
    truth: NDArray[np.bool_]
    scores: Mapping[str, NDArray[np.float32]]
    thresholds: Mapping[str, NDArray[np.float32]]
    targets: Mapping[str, dict[str, float]]
    against: str

    def save(self, file: Path) -> None:
        """Writes truth, scores and thresholds as one safetensors file: what is measured can be measured again."""
        arrays: dict[str, NDArray[Any]] = {"truth": self.truth.astype(np.uint8)}
        for row, scores in self.scores.items():
            arrays |= {f"{row}.scores": scores, f"{row}.thresholds": self.thresholds[row]}
        labels = json.dumps([asdict(label) for label in self.tags.labels])
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(arrays, file, {"labels": labels})


def ablate(
    inputs: Inputs,
    settings: TrainSettings,
    executor: ExecutorSettings,
    folder: Path,
    seeds: Sequence[int],
    progress: Progress,
    captions: Mapping[str, Sequence[str]] | None = None,
    variation: Variation | None = None,
    fine_tuning: TrainSettings | None = None,
) -> Measured:
    """Trains every row with every seed in ``folder``, and scores the test images.

    ``captions`` (name of an image in the source -> all its captions) give the ceiling's labels and the test's truth;
    without them the truth is the sample's, a person's own labels, or what the store's captions of the test images name,
    and there may be no ceiling. Models are removed once they have scored. Needs the stages up to `judge`; raises
    ValueError where there is no test image.
    """
    variation = variation or Variation()
    settings = settings.model_copy(update={"folds": 0, "high_resolution": False})
    device = str(device_of(executor))
    test = split_ids(inputs, "test")
    if not test:
        raise ValueError("there is no image of the split 'test' to measure on")
    test, against = measured(inputs, test) if captions is None else (test, "all captions")
    with (
        gather(inputs, settings, folder, "train", at=variation.size) as material,  # makes the folder
        TemporaryDirectory(prefix="scratch-", dir=folder) as scratch,
    ):
        told = _told(inputs, captions, material.tags)
        rows = _rows(inputs, settings, material, told)
        known = partial(known_targets, against=against) if captions is None or told is None else told
        truth = known(inputs, test, material.tags)
        material, rows, truth = _narrowed(inputs, material, rows, truth, variation)
        written = list(chain.from_iterable(material.examples.captions))
        plan = blueprint(settings, material.tags, material.image_encoder, material.image_size, written)
        jobs: list[Job] = []
        for seed in seeds:
            own = settings.model_copy(update={"seed": seed})
            for row, targets in rows.items():
                one = replace(material, examples=material.teaching(targets))
                jobs.append(job(f"{row}-{seed}", folder, plan, one, own, device))
        run_jobs(jobs, progress, executor)
        if variation.fine_tune and CEILING in rows and fine_tuning is not None:
            chosen = np.arange(min(variation.fine_tune, len(material.examples.image_ids)))
            described = replace(material, examples=material.teaching(rows[CEILING]).subset(chosen))
            tuned = []
            for seed in seeds:
                own = _tuning(fine_tuning, settings, seed)
                for row in (each for each in (PARSED, "cleaning", CEILING) if each in rows):
                    plan = continued(folder / f"{row}-{seed}", material.tags, material.image_size)
                    tuned.append(job(f"{row}{FINE_TUNED}-{seed}", folder, plan, described, own, device))
            run_jobs(tuned, progress, executor)
            jobs += tuned
        tokens = store_tokens(inputs, test, material.image_size, Path(scratch) / "test", settings.only_mean)
        order = np.array_split(np.arange(len(test)), max(1, len(test) // 64))
        names = list(dict.fromkeys(one.name.rpartition("-")[0] for one in jobs))
        found = {name: [_scored(folder / f"{name}-{seed}", tokens.whole(order)) for seed in seeds] for name in names}
    for done in jobs:
        shutil.rmtree(done.folder, ignore_errors=True)
    return Measured(
        material.tags,
        truth.toarray() > 0,
        {name: np.stack([scores for scores, _ in each]) for name, each in found.items()},
        {name: np.stack([thresholds for _, thresholds in each]) for name, each in found.items()},
        {row: _quality(targets, rows.get(CEILING)) for row, targets in rows.items()},
        against,
    )


def _rows(
    inputs: Inputs, settings: TrainSettings, material: Material, told: Callable[..., csr_matrix] | None
) -> dict[str, csr_matrix]:
    ids, tags = material.examples.image_ids, material.tags
    rows = {PARSED: material.examples.targets}
    if inputs.has("tag_verdicts"):
        rows["generation"] = generation_targets(inputs, ids, tags, settings.soft_targets)
        rows["cleaning"] = verdict_targets(inputs, ids, tags, settings.soft_targets)
    if told is not None:
        rows[CEILING] = told(inputs, ids, tags)
    return rows


def _told(
    inputs: Inputs, captions: Mapping[str, Sequence[str]] | None, tags: TagColumns
) -> Callable[[Inputs, Sequence[str], TagColumns], csr_matrix] | None:
    """Who knows all that is true of images, if anyone does: all their captions, or the sample's truth."""
    if captions is None:
        return truth_targets if inputs.has("truth") else None
    pairs = inputs.table("pairs", ["image_id", "names"]).to_pylist()
    texts = {row["image_id"]: [text for name in row["names"] for text in captions.get(name, ())] for row in pairs}
    tags_of = tag_reader(read_tags(inputs.table("label_system")))(list(texts.values()))
    found = [
        {"image_id": image_id, "tag_id": tag_id, "target": 1.0}
        for image_id, named in zip(texts, tags_of, strict=True)
        for tag_id in chain.from_iterable(named)
    ]
    schema = pa.schema([("image_id", pa.string()), ("tag_id", pa.int32()), ("target", pa.float32())])
    named = pa.Table.from_pylist(found, schema)
    return lambda inputs, image_ids, tags: matrix(named, image_ids, tags)


def _narrowed(
    inputs: Inputs, material: Material, rows: dict[str, csr_matrix], truth: csr_matrix, variation: Variation
) -> tuple[Material, dict[str, csr_matrix], csr_matrix]:
    """The variation's tags and images alone."""
    tags, examples, held_out = material.tags, material.examples, material.held_out
    if variation.tags and variation.tags < len(tags.ids):
        counts = inputs.table("label_system", ["tag_id", "count"])
        counts = counts.filter(pc.is_in(counts["tag_id"], pa.array(tags.ids, pa.int32()))).sort_by("tag_id")
        columns = np.sort(np.argsort(-counts["count"].to_numpy(), kind="stable")[: variation.tags])
        tags = TagColumns(tuple(tags.ids[at] for at in columns), tuple(tags.labels[at] for at in columns))
        rows = {name: targets[:, columns] for name, targets in rows.items()}
        truth = truth[:, columns]
        examples = replace(examples, targets=examples.targets[:, columns])
        held_out = replace(held_out, targets=held_out.targets[:, columns])
    if variation.images and variation.images < len(examples.image_ids):
        kept = np.arange(variation.images)  # ids are hashes: the first are as good as any
        rows = {name: targets[kept] for name, targets in rows.items()}
        examples = examples.subset(kept)
    return replace(material, tags=tags, examples=examples, held_out=held_out), rows, truth


def _tuning(fine_tuning: TrainSettings, settings: TrainSettings, seed: int) -> TrainSettings:
    """Fine-tuning's budget with everything else as the rows were trained."""
    budget = {name: getattr(fine_tuning, name) for name in ("epochs", "learning_rate")}
    return settings.model_copy(update={**budget, "seed": seed, "distillation": "none"})


@torch.inference_mode()
def _scored(folder: Path, batches: Iterable[Tensor]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities (images, tags) by the model of ``folder``, and its thresholds (tags,)."""
    model = load_tagger(folder)
    scores = [model.tag_logits(tokens).sigmoid().numpy() for tokens in batches]
    return np.concatenate(scores), model.thresholds().numpy()


def _quality(targets: csr_matrix, ceiling: csr_matrix | None) -> dict[str, float]:
    """Tags an image (the sum of its targets), and where the ceiling is known precision and recall, a soft target
    counting as so much of a tag."""
    found = {"tags_an_image": float(targets.sum() / targets.shape[0])}
    if ceiling is not None:
        right = float(targets.multiply(ceiling > 0).sum())
        found |= {"precision": right / max(float(targets.sum()), 1e-9), "recall": right / float((ceiling > 0).sum())}
    return found
