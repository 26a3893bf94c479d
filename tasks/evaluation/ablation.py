"""The ablation on a store's own data: one trainer, one budget, the same seeds; only the labels differ.

Rows (:data:`tasks.evaluation.rows.OF_COMMAND`) learn what the captions name, what the annotator added as well, what was
kept, and what all captions of an image name or the sample's truth; each but the second goes on with some fully
described images.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
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

from models import Tagger, load_tagger
from tasks.evaluation.known import known_targets, measured
from tasks.evaluation.request import AblationRequest, Variation
from tasks.evaluation.rows import OF_COMMAND, Row
from tasks.labels.tags import read_tags
from tasks.labels.texts import tag_reader
from tasks.machine.devices import device_of
from tasks.machine.inputs import Inputs
from tasks.settings.executor import ExecutorSettings
from tasks.settings.training import TrainSettings
from tasks.training.blueprint import blueprint, continued
from tasks.training.data import TagColumns, store_tokens
from tasks.training.ids import ImageIds
from tasks.training.jobs import Job, Progress, run_jobs
from tasks.training.material import Material, gather
from tasks.training.targets import by_row, ids_by_split, matrix

Knows = Callable[[Inputs, Iterable[str], TagColumns], csr_matrix]  # what is true of images, (images, tags)


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
    inputs: Inputs, request: AblationRequest, executor: ExecutorSettings, folder: Path, progress: Progress
) -> Measured:
    """Trains every row with every seed in ``folder``, and scores the test images.

    Models are removed once they have scored. Needs the stages up to `judge`; raises ValueError where there is no test
    image.
    """
    test, against = list(ids_by_split(inputs)["test"]), "all captions"
    if not test:
        raise ValueError("there is no image of the split 'test' to measure on")
    if request.captions is None:
        test, against = measured(inputs, test)
    settings = _alike(request.settings.retrain)
    with gather(inputs, settings, folder, "train", at=request.variation.size) as material:  # makes the folder
        knows = _who_knows(inputs, request.captions, material.tags)
        rows = _rows(inputs, settings, material, knows)
        true_targets = partial(known_targets, against=against) if request.captions is None or knows is None else knows
        truth = true_targets(inputs, test, material.tags)
        material, rows, truth = _narrowed(inputs, material, rows, truth, request.variation)
        device = str(device_of(executor))
        jobs = _row_jobs(folder, material, rows, request, device)
        run_jobs(jobs, progress, executor)
        if request.variation.fine_tune and Row.CEILING in rows:
            tuned = _tuned_jobs(folder, material, rows, request, device)
            run_jobs(tuned, progress, executor)
            jobs += tuned
        scores, thresholds = _scored(inputs, settings, test, material.image_size, jobs)
    for job_ in jobs:
        shutil.rmtree(job_.folder, ignore_errors=True)
    return Measured(
        material.tags,
        truth.toarray() > 0,
        scores,
        thresholds,
        {row: _quality(targets, rows.get(Row.CEILING)) for row, targets in rows.items()},
        against,
    )


def _alike(settings: TrainSettings) -> TrainSettings:
    """How all rows are trained: for a comparison no fold models and no second resolution are needed."""
    return settings.model_copy(update={"folds": 0, "high_resolution": False})


def _rows(inputs: Inputs, settings: TrainSettings, material: Material, knows: Knows | None) -> dict[Row, csr_matrix]:
    """The targets of each row whose labels there are."""
    ids, tags = material.examples.image_ids, material.tags
    stored = [row for row in OF_COMMAND if row == Row.PARSED or (row != Row.CEILING and inputs.has("tag_verdicts"))]
    rows: dict[Row, csr_matrix] = {
        row: matrix(inputs.sql_by_piece(by_row(row, settings.soft_targets)), ids, tags) for row in stored
    }
    if knows is not None:
        rows[Row.CEILING] = knows(inputs, ids, tags)
    return rows


def _row_jobs(
    folder: Path, material: Material, rows: Mapping[Row, csr_matrix], request: AblationRequest, device: str
) -> list[Job]:
    """The training of every row with every seed."""
    settings = _alike(request.settings.retrain)
    captions = material.examples.texts()
    plan = blueprint(settings, material.tags, material.image_encoder, material.image_size, captions)
    jobs = []
    for seed in range(request.seeds):
        seeded = settings.model_copy(update={"seed": seed})
        for row, targets in rows.items():
            taught = replace(material, examples=replace(material.examples, targets=targets))
            jobs.append(Job(_named(row, seed), folder / _named(row, seed), plan, taught, seeded, device))
    return jobs


def _tuned_jobs(
    folder: Path, material: Material, rows: Mapping[Row, csr_matrix], request: AblationRequest, device: str
) -> list[Job]:
    """Each row but generation goes on from its model, on some images with the ceiling's labels."""
    chosen = np.arange(min(request.variation.fine_tune, len(material.examples)))
    described = replace(material, examples=replace(material.examples, targets=rows[Row.CEILING]).subset(chosen))
    jobs = []
    for seed in range(request.seeds):
        settings = _tuning(request.settings.fine_tune, _alike(request.settings.retrain), seed)
        for row in rows:
            if row != Row.GENERATION:
                plan = continued(folder / _named(row, seed), material.tags, material.image_size)
                name = _named(row.fine_tuned, seed)
                jobs.append(Job(name, folder / name, plan, described, settings, device))
    return jobs


def _named(row: Row, seed: int) -> str:
    return f"{row}-{seed}"


def _who_knows(inputs: Inputs, captions: Mapping[str, Sequence[str]] | None, tags: TagColumns) -> Knows | None:
    """Who knows all that is true of images, if anyone does: all their captions, or the sample's truth."""
    if captions is None:
        return partial(known_targets, against="truth") if inputs.has("truth") else None
    pairs = inputs.table("pairs", ["image_id", "names"]).to_pylist()
    texts = {row["image_id"]: [text for name in row["names"] for text in captions.get(name, ())] for row in pairs}
    tags_of = tag_reader(read_tags(inputs.table("label_system")))(list(texts.values()))
    named_tags = [
        {"image_id": image_id, "tag_id": tag_id, "target": 1.0}
        for image_id, named in zip(texts, tags_of, strict=True)
        for tag_id in chain.from_iterable(named)
    ]
    schema = pa.schema([("image_id", pa.string()), ("tag_id", pa.int32()), ("target", pa.float32())])
    named = pa.Table.from_pylist(named_tags, schema)
    return lambda inputs, image_ids, tags: matrix([named], image_ids, tags)


def _narrowed(
    inputs: Inputs, material: Material, rows: dict[Row, csr_matrix], truth: csr_matrix, variation: Variation
) -> tuple[Material, dict[Row, csr_matrix], csr_matrix]:
    """The variation's tags and images alone."""
    tags, examples, held_out = material.tags, material.examples, material.held_out
    if variation.tags and variation.tags < len(tags.ids):
        counts = inputs.table("label_system", ["tag_id", "count"])
        counts = counts.filter(pc.is_in(counts["tag_id"], pa.array(tags.ids, pa.int32()))).sort_by("tag_id")
        columns = np.sort(np.argsort(-counts["count"].to_numpy(), kind="stable")[: variation.tags])
        tags = TagColumns(tuple(tags.ids[at] for at in columns), tuple(tags.labels[at] for at in columns))
        rows = {name: targets[:, columns] for name, targets in rows.items()}
        truth = truth[:, columns]
        examples = replace(examples, targets=examples.targets.tocsr()[:, columns])
        held_out = replace(held_out, targets=held_out.targets.tocsr()[:, columns])
    if variation.images and variation.images < len(examples):
        kept = np.arange(variation.images)  # ids are hashes: the first are as good as any
        rows = {name: targets[kept] for name, targets in rows.items()}
        examples = examples.subset(kept)
    return replace(material, tags=tags, examples=examples, held_out=held_out), rows, truth


def _tuning(fine_tuning: TrainSettings, settings: TrainSettings, seed: int) -> TrainSettings:
    """Fine-tuning's budget with everything else as the rows were trained."""
    budget = {name: getattr(fine_tuning, name) for name in ("epochs", "learning_rate")}
    return settings.model_copy(update={**budget, "seed": seed, "distillation": "none"})


def _scored(
    inputs: Inputs, settings: TrainSettings, test: Sequence[str], image_size: int, jobs: Sequence[Job]
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """By row, what the trained models say of the test images, (seeds, images, tags), and their thresholds,
    (seeds, tags)."""
    scores: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    thresholds: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    with TemporaryDirectory(prefix="scratch-", dir=jobs[0].folder.parent) as scratch:
        tokens = store_tokens(inputs, ImageIds.of(test), image_size, Path(scratch) / "test", settings.only_mean)
        order = np.array_split(np.arange(len(test)), max(1, len(test) // 64))
        for trained in jobs:
            model = load_tagger(trained.folder, own_encoders=True)
            row = trained.name.rpartition("-")[0]
            scores[row].append(_probabilities(model, tokens.whole(order)))
            thresholds[row].append(model.thresholds().numpy())
    return {row: np.stack(by_seed) for row, by_seed in scores.items()}, {
        row: np.stack(by_seed) for row, by_seed in thresholds.items()
    }


@torch.inference_mode()
def _probabilities(model: Tagger, batches: Iterable[Tensor]) -> NDArray[np.float32]:
    """(images, tags)."""
    return np.concatenate([model.tag_logits(tokens).sigmoid().numpy() for tokens in batches])


def _quality(targets: csr_matrix, ceiling: csr_matrix | None) -> dict[str, float]:
    """Tags an image (the sum of its targets), and where the ceiling is known precision and recall, a soft target
    counting as so much of a tag."""
    quality = {"tags_an_image": float(targets.sum() / targets.shape[0])}
    if ceiling is not None:
        right = float(targets.multiply(ceiling > 0).sum())
        quality |= {"precision": right / max(float(targets.sum()), 1e-9), "recall": right / float((ceiling > 0).sum())}
    return quality
