"""Training `train-ablation`: the table's other rows, which differ from the retrained model in their labels alone.

``parsed`` learns what the captions name, ``generation`` what the annotator added as well and nothing cleaned, and
``truth``, where the source knows it, everything: the ceiling. Images without captions are there for ``generation``
alone. Reads what `retrain` reads, and truth. Each row's model is a folder of that name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from tasks.evaluation.rows import OF_STAGES, Row
from tasks.machine.devices import device_of
from tasks.machine.inputs import Inputs
from tasks.settings.executor import ExecutorSettings
from tasks.settings.training import TrainSettings
from tasks.training.blueprint import blueprint
from tasks.training.jobs import Job, Progress, run_jobs
from tasks.training.material import Material, gather
from tasks.training.targets import by_row


def train(
    settings: TrainSettings, inputs: Inputs, executor: ExecutorSettings, folder: Path, progress: Progress
) -> Mapping[str, pa.Table]:
    """Trains the rows into ``folder``, tags alone; their curves as ``training_log``."""
    settings = settings.model_copy(update={"caption": False, "folds": 0})
    with gather(inputs, settings, folder, "train", bare=True) as material:
        plan = blueprint(settings, material.tags, material.image_encoder, material.image_size)
        device = str(device_of(executor))
        taught = _taught(settings, inputs, material)
        jobs = [Job(row, folder / row, plan, own, settings, device) for row, own in taught]
        return {"training_log": run_jobs(jobs, progress, executor)}


def _taught(settings: TrainSettings, inputs: Inputs, material: Material) -> Iterator[tuple[Row, Material]]:
    """Each row, and what it is taught; a row that there is no image for is left out."""
    for row in OF_STAGES:
        if row != Row.TRUTH or inputs.has("truth"):
            own = material.teaching(inputs.sql_by_piece(by_row(row, settings.soft_targets)), row)
            if len(own.examples):
                yield row, own
