"""Training `train-baseline`: the annotator, taught the captions and the tags parsed from them, or one that is ready.

Reads pairs, features, caption_tags, label_system. The model folder holds ``whole`` and, with folds, ``fold-0``, ...
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import pyarrow as pa

from tasks.devices import device_of
from tasks.inputs import Inputs
from tasks.settings import BaselineSettings, EngineSettings
from tasks.training.jobs import WHOLE, Progress, blueprint, log_table, run_jobs, with_folds
from tasks.training.material import gather
from tasks.training.pretrained import adopt


def train(
    settings: BaselineSettings, inputs: Inputs, engine: EngineSettings, folder: Path, progress: Progress
) -> Mapping[str, pa.Table]:
    """Trains the baseline into ``folder``; its curves as ``training_log``. A ``pretrained`` one has none."""
    if settings.pretrained:
        adopt(settings, inputs, folder, device_of(engine), progress)
        return {"training_log": log_table({WHOLE: folder / WHOLE})}
    training = settings.training()
    with gather(inputs, training, folder, "train") as material:
        captions = list(chain.from_iterable(material.examples.captions))
        plan = blueprint(training, material.tags, material.image_encoder, material.image_size, captions)
        device = str(device_of(engine))
        jobs = with_folds(folder, plan, material, training, device)
        return {"training_log": run_jobs(jobs, progress, engine)}
