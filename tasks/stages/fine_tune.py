"""Training `fine-tune`: RAM goes on with the fully described pairs, at the higher resolution.

So do the ablation's models on parsed tags and on the truth, where there are any: what is compared at the end has been
fine-tuned alike. Reads pairs, features, caption_tags, label_system, the model ``ram`` and perhaps ``ablation``. RAM
is in ``whole``, the others in folders of their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from tasks.evaluation.rows import Row
from tasks.machine.devices import device_of
from tasks.machine.inputs import Inputs
from tasks.settings.executor import ExecutorSettings
from tasks.settings.training import TrainSettings
from tasks.training.blueprint import continued
from tasks.training.jobs import WHOLE, Job, Progress, run_jobs
from tasks.training.material import gather

COMPARED = (Row.PARSED, Row.TRUTH)  # go on as the retrained model does


def train(
    settings: TrainSettings, inputs: Inputs, executor: ExecutorSettings, folder: Path, progress: Progress
) -> Mapping[str, pa.Table]:
    """Fine-tunes RAM into ``folder``; its curve as ``training_log``. The model's sizes are those of ``ram``.

    Raises ValueError where no pair is of the split `fine_tune`.
    """
    with gather(inputs, settings, folder, "fine_tune") as material:
        starts = {WHOLE: inputs.model("ram") / WHOLE}
        if inputs.has("ablation"):
            trained = {row: inputs.model("ablation") / row for row in COMPARED}
            starts |= {row: start for row, start in trained.items() if start.is_dir()}
        device = str(device_of(executor))
        jobs = [
            Job(
                name,
                folder / name,
                continued(start, material.tags, material.image_size),
                material,
                settings,
                device,
            )
            for name, start in starts.items()
        ]
        return {"training_log": run_jobs(jobs, progress, executor)}
