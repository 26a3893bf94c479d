"""How well cleaning tells right tags from wrong ones on the sample world, whose truth is known, over several seeds.

``python benchmarks/cleaning_sample.py [--seeds 0 1 2] [--folder runs/sample-world] [--smoke]`` reads the stores that
``benchmarks/sample_world.py`` made (and makes them where they are not there). Prints tables: precision and recall of
the training images' tags before cleaning, after each of its tests alone and after all; how well each score tells right
from wrong; how the tests by regions depend on the outlier share and on the number of clusters, whatever the whole
picture says. With cleanlab installed confident learning on the out-of-fold scores stands beside them.

The last line is JSON, a list of values a seed under each key: ``auroc`` of the verdict's confidence, ``auroc_picture``
of the annotator's score for the whole picture, ``wrong_removed_at_5`` and ``_at_1`` (the share of wrong tags that fall
where 5% and 1% of the right ones do), the same with ``_picture``, and ``precision`` and ``recall`` before and after.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from drawn_photographs import SMALL_WORLD
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from ram_engine import configuration, runs
from storage.schemas import TagSource
from storage.store import Store
from tasks.evaluation.true_tags import TRUE_TAGS_SQL
from tasks.judging.typicality import is_good, read_clusters, typicality
from tasks.machine.inputs import Inputs
from tasks.machine.outlook import Request
from tasks.settings.executor import ExecutorSettings
from tasks.settings.fit_clusters import FitClustersSettings
from tasks.settings.judge import JudgeSettings
from tasks.stages import fit_clusters

console = Console(width=150)
LOST = (0.05, 0.01)
SHARES, CLUSTERS = (0.05, 0.1, 0.2), (1, 4, 8, 16)


@dataclass(frozen=True)
class Judged:
    """The tags of the training images: what is known of each, and whether it is right. Arrays over the tags."""

    verdicts: dict[str, np.ndarray]
    right: np.ndarray
    true_tags: int
    region_rows: np.ndarray  # the tag of each region
    regions: pa.Table
    inputs: Inputs

    def quality(self, kept: np.ndarray) -> tuple[float, float]:
        """Precision and recall of the tags in ``kept``."""
        return float(self.right[kept].mean()), float(self.right[kept].sum() / self.true_tags)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", default="runs/sample-world")
    parser.add_argument("--smoke", action="store_true", help="one small world by the preset `tiny`: does it run?")
    options = parser.parse_args()
    if options.smoke:
        options.seeds, options.folder = [0], tempfile.mkdtemp()
    found: dict[str, list[float]] = {}
    for seed in options.seeds:
        judged = load(store_of(Path(options.folder) / f"seed-{seed}", seed, options.smoke))
        figures = tests(judged, seed) | scores(judged, seed)
        if seed == options.seeds[0]:
            regions_alone(judged)
        for name, value in figures.items():
            found.setdefault(name, []).append(round(value, 4))
    print(json.dumps(found))


def store_of(folder: Path, seed: int, smoke: bool) -> Store:
    sets = [f"ingest.source.seed={seed}", *(SMALL_WORLD if smoke else ())]
    settings, executor = configuration.configure("tiny" if smoke else "sample", sets=sets)
    runs.run(str(folder), settings, executor, Request(until="judge" if smoke else ""))
    return Store(str(folder), create=False)


def load(store: Store) -> Judged:
    names = ("pairs", "truth", "label_system", "tag_verdicts", "regions")
    inputs = Inputs(store, {name: snapshot for name in names if (snapshot := store.snapshot(name)) is not None})
    table = inputs.sql(
        f"""
        SELECT tag_verdicts.*, true_tags.tag_id IS NOT NULL AS is_right
        FROM tag_verdicts SEMI JOIN (SELECT image_id FROM pairs WHERE split = 'train') USING (image_id)
        LEFT JOIN ({TRUE_TAGS_SQL}) AS true_tags USING (image_id, tag_id) ORDER BY image_id, tag_id
        """
    )
    true = inputs.sql(
        f"SELECT count(*) AS count FROM ({TRUE_TAGS_SQL}) SEMI JOIN (SELECT image_id FROM pairs WHERE split = 'train') "
        "USING (image_id)"
    )["count"][0].as_py()
    place = {
        key: at for at, key in enumerate(zip(table["image_id"].to_pylist(), table["tag_id"].to_pylist(), strict=True))
    }
    regions = inputs.table("regions", ["image_id", "tag_id", "tag_score", "feature"])
    keys = zip(regions["image_id"].to_pylist(), regions["tag_id"].to_pylist(), strict=True)
    rows = np.array([place.get(key, -1) for key in keys])
    regions = regions.filter(pa.array(rows >= 0))
    verdicts = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    return Judged(verdicts, verdicts["is_right"].astype(bool), true, rows[rows >= 0], regions, inputs)


def tests(judged: Judged, seed: int) -> dict[str, float]:
    """What each test takes, by the run's own settings."""
    reason, kept = judged.verdicts["reason"], judged.verdicts["kept"].astype(bool)
    everything = np.ones(len(kept), bool)
    sets = {
        "before cleaning": everything,
        "without those not predicted in their region": kept | (reason != "region_not_predicted"),
        "without outliers of their clusters": kept | (reason != "cluster_outlier"),
        "without both": kept | ~np.isin(reason, ["region_not_predicted", "cluster_outlier"]),
        "without those whose caption disagrees": kept | (reason != "caption_disagrees"),
        "after cleaning": kept,
    }
    table = Table(f"seed {seed}", "tags", "precision", "recall", "wrong removed", "right lost", box=None)
    for name, members in sets.items():
        precision, recall = judged.quality(members)
        wrong, right = (~members)[~judged.right].mean(), (~members)[judged.right].mean()
        table.add_row(name, f"{members.sum():,}", f"{precision:.3f}", f"{recall:.3f}", f"{wrong:.1%}", f"{right:.1%}")
    console.print(table)
    before, after = judged.quality(everything), judged.quality(kept)
    return dict(zip(("precision_before", "recall_before", "precision", "recall"), (*before, *after), strict=True))


def scores(judged: Judged, seed: int) -> dict[str, float]:
    """How well each score tells right tags from wrong ones."""
    told = judged.verdicts
    picture = np.log(np.maximum(told["score"].astype(float), 1e-6))
    caption = (told["source"] & TagSource.CAPTION) > 0
    looked = ~np.isnan(told["region_score"].astype(float))
    of = {
        "all tags": np.ones(len(picture), bool),
        "tags of captions": caption,
        "added tags": ~caption,
        "tags with regions": looked,
    }
    kinds = {
        "the whole picture's score": picture,
        "the verdict's confidence": told["confidence"].astype(float),
        "the best region's score": np.where(looked, told["region_score"].astype(float), np.nan),
        "how typical it is of its cluster": told["typicality"].astype(float),
    }
    if importlib.util.find_spec("cleanlab") is not None:
        kinds["confident learning (cleanlab)"] = confident(told, picture)
    table = Table(f"seed {seed}: AUROC, and wrong tags removed", *of, "at 5% right lost", "at 1% right lost", box=None)
    removed: dict[str, list[float]] = {}
    for name, score in kinds.items():
        cells = []
        for members in of.values():
            there = members & ~np.isnan(score)
            cells.append(f"{roc_auc_score(judged.right[there], score[there]):.3f}" if there.any() else "")
        removed[name] = [removed_at(score, judged.right, lost) for lost in LOST]
        table.add_row(name, *cells, *(f"{value:.1%}" for value in removed[name]))
    table.add_row("at random", *["0.500"] * len(of), *(f"{lost:.1%}" for lost in LOST))
    console.print(table)
    both = (
        ("auroc", "wrong_removed_at_5", "wrong_removed_at_1"),
        ("the verdict's confidence", "the whole picture's score"),
    )
    figures = {}
    for suffix, name in zip(("", "_picture"), both[1], strict=True):
        values = [float(roc_auc_score(judged.right, kinds[name])), *removed[name]]
        figures |= {key + suffix: value for key, value in zip(both[0], values, strict=True)}
    return figures


def removed_at(score: np.ndarray, right: np.ndarray, lost: float) -> float:
    """The share of wrong tags below the score that ``lost`` of the right ones are below; tags without one stay."""
    filled = np.where(np.isnan(score), np.inf, score)
    return float((filled[~right] < np.quantile(filled[right], lost)).mean())


def confident(told: dict[str, np.ndarray], picture: np.ndarray) -> np.ndarray:
    """cleanlab's normalised margin of each tag, among the classes has it / has it not, by the out-of-fold score."""
    from cleanlab.rank import get_label_quality_scores

    probability = np.exp(picture).clip(0, 1)
    quality = np.empty(len(probability))
    for tag in np.unique(told["tag_id"]):
        members = told["tag_id"] == tag
        pair = np.stack([1 - probability[members], probability[members]], axis=1)
        quality[members] = get_label_quality_scores(np.ones(members.sum(), int), pair, method="normalized_margin")
    return quality


def regions_alone(judged: Judged) -> None:
    """What the tests by regions do when the whole picture has no say, by outlier share and number of clusters."""
    table = Table("regions alone: share, clusters", "precision", "recall", "wrong removed", "right lost", box=None)
    score = judged.regions["tag_score"].to_numpy()
    for most in CLUSTERS:
        fitted = fit_clusters.reduce(FitClustersSettings(max_clusters=most), judged.inputs, ExecutorSettings())
        typical = typicality(judged.regions, read_clusters(fitted["clusters"]))
        for share in SHARES:
            good = is_good(score, typical, JudgeSettings().region_threshold, share)
            looked, any_good = (np.zeros(len(judged.right), bool) for _ in range(2))
            looked[judged.region_rows] = True
            any_good[judged.region_rows[good]] = True
            kept = ~looked | any_good
            precision, recall = judged.quality(kept)
            wrong, right = (~kept)[~judged.right].mean(), (~kept)[judged.right].mean()
            table.add_row(
                f"{share:.0%}, at most {most}", f"{precision:.3f}", f"{recall:.3f}", f"{wrong:.1%}", f"{right:.1%}"
            )
    console.print(table)


if __name__ == "__main__":
    main()
