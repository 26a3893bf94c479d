"""Training `retrain`: RAM on the tags that were kept, those of images without captions among them.

Reads pairs, features, caption_tags, generated, tag_verdicts, label_system; for a warm start also the last model. The
model folder holds ``whole`` and, where it is to annotate the next round out of fold, ``fold-0``, ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from tasks.machine.devices import device_of
from tasks.machine.inputs import Inputs
from tasks.settings.executor import ExecutorSettings
from tasks.settings.training import TrainSettings
from tasks.training.blueprint import blueprint, continued
from tasks.training.jobs import WHOLE, Progress, run_jobs, with_folds
from tasks.training.material import gather
from tasks.training.targets import by_verdicts


def train(
    settings: TrainSettings, inputs: Inputs, executor: ExecutorSettings, folder: Path, progress: Progress
) -> Mapping[str, pa.Table]:
    """Trains RAM into ``folder``; its curves as ``training_log``."""
    with gather(inputs, settings, folder, "train", bare=True) as material:
        material = material.teaching(inputs.sql_by_piece(by_verdicts(settings.soft_targets)), "verdicts")
        captions = material.examples.texts()
        plan = blueprint(settings, material.tags, material.image_encoder, material.image_size, captions)
        device = str(device_of(executor))
        jobs = with_folds(folder, plan, material, settings, device)
        if inputs.has("ram_previous"):
            start = continued(inputs.model("ram_previous") / WHOLE, material.tags, material.image_size)
            jobs[0] = replace(jobs[0], blueprint=start)
        return {"training_log": run_jobs(jobs, progress, executor)}
