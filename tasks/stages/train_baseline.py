"""Training `train-baseline`: the annotator, taught the captions and the tags parsed from them, or one that is ready.

Reads pairs, features, caption_tags, label_system. The model folder holds ``whole`` and, with folds, ``fold-0``, ...;
and the same again, taught tags alone, in a folder for each further encoder of the annotator (``at-260``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks.annotators import folder as annotator_folder
from tasks.annotators.adoption import measure
from tasks.annotators.base import Adoption
from tasks.annotators.models import FURTHER
from tasks.machine.devices import device_of
from tasks.machine.inputs import Inputs
from tasks.settings.executor import ExecutorSettings
from tasks.settings.train_baseline import TrainBaselineSettings
from tasks.training.blueprint import blueprint
from tasks.training.jobs import Progress, log_table, run_jobs, with_folds
from tasks.training.material import further_sizes, gather


def train(
    settings: TrainBaselineSettings, inputs: Inputs, executor: ExecutorSettings, folder: Path, progress: Progress
) -> Mapping[str, pa.Table]:
    """Trains the baseline into ``folder``; its curves as ``training_log``. One that is adopted has none."""
    if not settings.is_trained:
        folder.mkdir(parents=True, exist_ok=True)
        adoption = Adoption(settings.training(), inputs, folder, str(device_of(executor)), progress)
        settings.annotator.adopt(adoption)
        if not settings.annotator.brings_evidence:
            measure(settings.annotator, adoption)
        annotator_folder.write(folder, settings.annotator)
        return {"training_log": log_table({})}
    training = settings.training()
    logs = []
    for size in (0, *further_sizes(inputs)):
        own = folder / f"{FURTHER}{size}" if size else folder
        one = training.model_copy(update={"caption": False}) if size else training
        with gather(inputs, one, folder, "train", at=size) as material:
            captions = material.examples.texts()
            plan = blueprint(one, material.tags, material.image_encoder, material.image_size, captions)
            jobs = with_folds(own, plan, material, one, str(device_of(executor)))
            log = run_jobs(jobs, progress, executor)
            names = pc.binary_join_element_wise(own.name, log["model"], "/") if size else log["model"]
            logs.append(log.set_column(log.schema.get_field_index("model"), "model", names))
    return {"training_log": pa.concat_tables(logs)}
