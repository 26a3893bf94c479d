"""Training `fine-tune`: RAM goes on with the fully described pairs, at the higher resolution.

Reads pairs, features, caption_tags, label_system, and the model ``ram`` to start from. The model is in ``whole``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from tasks.devices import device_of
from tasks.inputs import Inputs
from tasks.settings import EngineSettings, TrainSettings
from tasks.training.jobs import WHOLE, Progress, continued, run_jobs, with_folds
from tasks.training.material import gather


def train(
    settings: TrainSettings, inputs: Inputs, engine: EngineSettings, folder: Path, progress: Progress
) -> Mapping[str, pa.Table]:
    """Fine-tunes RAM into ``folder``; its curve as ``training_log``. The model's sizes are those of ``ram``.

    Raises ValueError where no pair is of the split `fine_tune`.
    """
    with gather(inputs, settings, folder, "fine_tune") as material:
        plan = continued(inputs.model("ram") / WHOLE, material.tags, material.image_size)
        device = str(device_of(engine))
        jobs = with_folds(folder, plan, material, settings, device)
        return {"training_log": run_jobs(jobs, progress)}
