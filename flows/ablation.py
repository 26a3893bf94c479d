"""The ablation as a flow: one trainer on each stage's labels, with several seeds, compared on a store's own data."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.parameters import (
    CAPTIONS,
    DESCRIBED,
    ROUNDS,
    SAMPLES,
    SEEDS,
    STORE,
    USUAL,
    USUAL_EXECUTOR,
    Images,
    Round,
    Samples,
    Seeds,
    Url,
)
from flows.progress import console, stage_progress
from flows.showing import show
from flows.stage_report import whole_report
from flows.stages import run_name
from flows.trainings import one_at_a_time
from storage.store import Store
from tasks.evaluation import outcome
from tasks.evaluation.request import AblationRequest, Variation
from tasks.settings.executor import ExecutorSettings
from tasks.settings.training import TrainSettings


@flow(name="ablate", flow_run_name=run_name)
def ablate(
    store: Url = STORE,
    settings: TrainSettings = USUAL.retrain,
    fine_tuning: TrainSettings = USUAL.fine_tune,
    executor: ExecutorSettings = USUAL_EXECUTOR,
    captions: str = CAPTIONS,
    seeds: Seeds = SEEDS,
    fine_tune: Images = DESCRIBED,
    samples: Samples = SAMPLES,
    rounds: Round = ROUNDS,
) -> dict[str, Any]:
    """What each stage's labels are worth to the tagger. Needs a store that was run up to judge; leaves table, chart and
    JSON in its reports, and the table in the report."""
    opened = Store(store, create=False)
    told = outcome.all_captions(captions) if captions else None
    chosen = USUAL.model_copy(update={"retrain": settings, "fine_tune": fine_tuning, "rounds": rounds})
    with one_at_a_time(), stage_progress("ablate") as progress, tempfile.TemporaryDirectory() as scratch:
        request = AblationRequest(chosen, seeds, Variation(fine_tune=fine_tune), told, samples)
        all_ = outcome.compared("all", opened, request, executor, Path(scratch), progress)
    found = {"all": all_}
    page = f"## What each stage's labels are worth\n\n{outcome.markdown(found)}"
    opened.write_json(f"{outcome.KEPT}.json", found)
    opened.write_text(f"{outcome.KEPT}.svg", outcome.chart(found))
    opened.write_text(f"{outcome.KEPT}.md", page)
    told_of = ", ".join(f"{row.replace('_', ' ')} {each['mAP']:.3f}" for row, each in all_["rows"].items())
    get_run_logger().info("mAP %s", told_of)
    show(create_markdown_artifact, page, key="ablation", description=f"mAP: {told_of}")
    reported = whole_report(store, rounds, return_state=True)
    if reported.is_failed():
        console.print(f"  the report could not be written: {reported.message}")
    return found
