"""Training `train-baseline`: the annotator, taught the captions and the tags that were parsed from them.

Reads pairs, features, caption_tags, label_system. The model folder holds ``whole`` and, with folds, ``fold-0``, ...
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import pyarrow as pa

from tasks.devices import device_of
from tasks.inputs import Inputs
from tasks.settings import EngineSettings, TrainSettings
from tasks.training.jobs import Progress, blueprint, run_jobs, with_folds
from tasks.training.material import gather


def train(
    settings: TrainSettings, inputs: Inputs, engine: EngineSettings, folder: Path, progress: Progress
) -> Mapping[str, pa.Table]:
    """Trains the baseline into ``folder``; its curves as ``training_log``."""
    with gather(inputs, settings, folder, "train") as material:
        captions = list(chain.from_iterable(material.examples.captions))
        plan = blueprint(settings, material.tags, material.image_encoder, material.image_size, captions)
        device = str(device_of(engine))
        jobs = with_folds(folder, plan, material, settings, device)
        return {"training_log": run_jobs(jobs, progress)}
