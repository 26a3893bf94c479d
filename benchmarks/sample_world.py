"""What every stage of the engine does for the tagger, on the sample world, whose truth is known, over several seeds.

``python benchmarks/sample_world.py [--seeds 0 1 2] [--folder runs/sample-world]`` runs the preset `sample` once a seed
(about twelve minutes each on two cores; a seed that is done is not run again). Its settings were chosen on seed 0.
Prints a table, draws ``benchmarks/results/sample_world.svg``, and as its last line prints one JSON object: each figure
as a list, a value a seed.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path

from drawn_photographs import SMALL_WORLD
from rich.console import Console
from rich.table import Table

from ram_engine import configuration, runs
from storage.store import Store
from tasks.evaluation import outcome
from tasks.evaluation.rows import Row
from tasks.machine.outlook import Request

Figures = dict[tuple[str, str, str], float]
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", default="runs/sample-world")
    parser.add_argument("--smoke", action="store_true", help="one small world by the preset `tiny`: does it run?")
    options = parser.parse_args()
    if options.smoke:
        options.seeds, options.folder = [0], tempfile.mkdtemp()
    found = [summary(measured(Path(options.folder) / f"seed-{seed}", seed, options.smoke)) for seed in options.seeds]
    table = Table("", *(f"seed {seed}" for seed in options.seeds), "mean", box=None)
    for name in found[0]:
        values = [figures[name] for figures in found]
        table.add_row(name, *(f"{value:.3f}" for value in values), f"{sum(values) / len(values):.3f}")
    Console(width=160).print(table)
    if not options.smoke:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "sample_world.svg").write_text(chart(found), encoding="utf-8")
    told = {name: [None if math.isnan(each[name]) else each[name] for each in found] for name in found[0]}
    print(json.dumps({"seeds": options.seeds} | told))


def measured(folder: Path, seed: int, smoke: bool) -> Figures:
    """Runs the pipeline where it is not done; its ``metrics`` by (model, metric, subset)."""
    sets = [f"ingest.source.seed={seed}", *(SMALL_WORLD if smoke else ())]
    settings, executor = configuration.configure("tiny" if smoke else "sample", sets=sets)
    runs.run(str(folder), settings, executor, Request())
    store = Store(str(folder), create=False)
    snapshot = store.snapshot("metrics")
    if snapshot is None:
        raise SystemExit(f"{folder} has no metrics")
    rows = store.table(snapshot).to_pylist()
    return {(row["model"], row["metric"], row["subset"]): row["value"] for row in rows if row["tag"] is None}


def summary(figures: Figures) -> dict[str, float]:
    """The figures that say whether each stage was worth it; NaN where a stage added or removed nothing."""

    def of(model: str, metric: str, subset: str = "train") -> float:
        return figures.get((model, metric, subset), math.nan)

    score = {model: value for (model, metric, subset), value in figures.items() if (metric, subset) == ("mAP", "all")}
    never = {model: of(model, "mAP", "never_captioned") for model in (Row.CHANCE, Row.ZERO_SHOT, Row.FINE_TUNED)}
    return {
        "recall_gain": of(Row.GENERATION, "tag_recall") - of(Row.PARSED, "tag_recall"),
        "added_precision": of(Row.GENERATION, "added_precision"),
        "wrong_share_ratio": of(Row.CLEANING, "wrong_share_removed") / of(Row.CLEANING, "wrong_share_kept"),
        "right_tags_lost": of(Row.CLEANING, "right_tags_lost"),
        **{f"map_{model}": score[model] for model in sorted(score, key=lambda model: score[model])},
        "gap_closed": share(score[Row.FINE_TUNED], score[Row.PARSED], score[Row.TRUTH]),
        "gap_closed_before_fine_tuning": share(score[Row.CLEANING], score[Row.PARSED], score[Row.TRUTH]),
        "gap_closed_fine_tuned_alike": share(
            score[Row.FINE_TUNED], score[Row.PARSED_FINE_TUNED], score[Row.TRUTH_FINE_TUNED]
        ),
        "never_captioned_times_chance": never[Row.FINE_TUNED] / never[Row.CHANCE],
        "never_captioned_times_teacher": never[Row.FINE_TUNED] / never[Row.ZERO_SHOT],
    }


def chart(found: list[dict[str, float]]) -> str:
    """The mAP of every model as an SVG: a dot a seed, a bar at their mean."""
    names = [name for name in found[0] if name.startswith("map_")]
    values = {name.removeprefix("map_"): [each[name] for each in found] for name in names}
    rows = {name: {"seeds": each, "mAP": sum(each) / len(each)} for name, each in values.items()}
    return outcome.chart({"sample": {"rows": rows}})


def share(value: float, low: float, high: float) -> float:
    """How much of the way from ``low`` to ``high`` has been gone."""
    return (value - low) / (high - low)


if __name__ == "__main__":
    main()
