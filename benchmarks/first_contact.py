"""What a person's first run does to their photographs: are the added tags right, are right words lost, is it better?

``python benchmarks/first_contact.py FLICKR8K [--images 600] [--report FILE] [--runs 3] [--folder DIR]``.
FLICKR8K holds ``captions.csv`` (five captions a photograph), ``images/``, ``train.txt`` and ``dev.txt``. The engine
sees one caption of each of ``--images`` training photographs, its first, and runs as it does for anyone: preset `auto`,
offline. Labels are measured against all five captions. Models are measured on the photographs of ``--report`` (a file
of names, a line each; by default ``dev.txt``), of which the engine knows nothing, never on the run's own test split.
Below all photographs ``--runs`` random subsets are taken, at all of them as many seeds of the trainings; counts are
pooled over them, and intervals are over the reported photographs.

Prints what each tag gained, how often what is said to be likely is named, and, as the last line, JSON:

* ``added_precision``, the share of added tags that any of five captions names, ``estimated_precision``, what the run
  said of it, and ``added_a_picture``;
* ``share_of_possible``: additions over those that the same scores would give, cut in hindsight where precision is 0.5;
* ``worst_tag_excess``: of tags added ten times or more, additions over the photographs where any of five names it;
* ``right_words_lost``: the share of captions' tags removed that another caption confirms;
* ``map_difference`` with ``map_low`` and ``map_high``: retrained less parsed-only, in pairs; ``verdict``;
* ``thresholds_precision`` and ``thresholds_recall`` of the final tagger at its own thresholds, and ``parsed_recall`` of
  parsed-only where its scores are cut at that precision; ``minutes`` of the runs.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from drawn_photographs import draw
from numpy.typing import NDArray
from PIL import Image

from models import load_tagger
from ram_engine import runs
from ram_engine.store_settings import settle
from storage.schemas import TagSource
from storage.store import Snapshot, Store
from tasks.evaluation.metrics import DIFFERENCE, Ranking, bootstrap, interval
from tasks.evaluation.rows import Row
from tasks.evaluation.verdict import BETTER, NOT_SHOWN, WORSE
from tasks.labels.lookup import TagLookup
from tasks.labels.tags import read_tags
from tasks.machine.outlook import Request
from tasks.parsing import CaptionParser
from tasks.training.data import TagColumns, tag_columns

POSSIBLE = 0.5  # the precision that possible additions reach
OFTEN = 10  # additions of a tag from which its excess counts
BANDS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.01)
Truth = NDArray[np.bool_]


@dataclass(frozen=True)
class Labels:
    """What became of the tags of a run's training pictures, all (pictures, tags)."""

    names: list[str]
    five: Truth  # what any of five captions names
    others: Truth  # what another caption than the first names
    named: Truth  # what the first caption names
    added: Truth
    removed: Truth
    scores: NDArray[np.float32]  # of being there although no caption names it
    estimated: float

    @property
    def possible(self) -> int:
        """How many additions the scores give in hindsight, at the precision ``POSSIBLE``."""
        open_ = ~self.named
        order = np.argsort(-self.scores[open_], kind="stable")
        precision = np.cumsum(self.five[open_][order]) / np.arange(1, len(order) + 1)
        return int(np.flatnonzero(precision >= POSSIBLE)[-1] + 1) if (precision >= POSSIBLE).any() else 0

    @property
    def worst_excess(self) -> float:
        """Of tags added often, the most additions over pictures in which any of five captions names the tag."""
        added, there = self.added.sum(axis=0), np.maximum(self.five.sum(axis=0), 1)
        often = added >= OFTEN
        return float((added / there)[often].max()) if often.any() else 0.0


@dataclass(frozen=True)
class Models:
    """Both models on the reported photographs: scores (pictures, tags), what any of five captions names, thresholds."""

    truth: Truth
    retrained: NDArray[np.float32]
    parsed: NDArray[np.float32]
    thresholds: NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flickr8k", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--report", type=Path, help="names of the photographs to measure models on, a line each")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/first-contact"))
    parser.add_argument("--smoke", action="store_true", help="forty drawn pictures and one run: does it work?")
    options = parser.parse_args()
    sets: list[str] = []
    if options.smoke:
        options.folder = Path(tempfile.mkdtemp())
        options.flickr8k, options.images, options.runs = draw(options.folder / "drawn", 40, 12), 40, 1
        sets = ["effort=quick", "build_labels.min_count=2"]
    elif not options.flickr8k:
        parser.error("name the folder of Flickr8k")
    captions = read_captions(options.flickr8k)
    train = (options.flickr8k / "train.txt").read_text("utf-8").split()
    report = (options.report or options.flickr8k / "dev.txt").read_text("utf-8").split()
    minutes, labels, models = 0.0, [], []
    for number in range(options.runs):
        store, seconds = run(options, train, captions, number, sets)
        minutes += seconds / 60
        labels.append(measure_labels(store, captions))
        models.append(measure_models(store, options.flickr8k / "images", report, captions))
    show(labels)
    print(json.dumps({**label_figures(labels), **model_figures(models), "minutes": round(minutes, 1)}))


def read_captions(folder: Path) -> dict[str, list[str]]:
    """All captions of each photograph."""
    captions: dict[str, list[str]] = defaultdict(list)
    with open(folder / "captions.csv", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            captions[row["image"]].append(row["caption"])
    return captions


def run(
    options: argparse.Namespace, train: Sequence[str], captions: Mapping[str, list[str]], number: int, sets: list[str]
) -> tuple[Store, float]:
    """The store of a first run, and the seconds that it took: a subset of its own, or of all another seed."""
    everything = options.images >= len(train)
    name = f"{min(options.images, len(train))}" + ("" if everything else f"-{number}")
    chosen = np.sort(np.random.default_rng(number).permutation(len(train))[: options.images])
    options.folder.mkdir(parents=True, exist_ok=True)
    source = options.folder / f"{name}.csv"
    with open(source, "w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["image", "caption"])
        writer.writerows((train[at], captions[train[at]][0]) for at in chosen)
    url = str(options.folder / name)
    seed = number if everything else 0
    sets = [f"ingest.source.images={options.flickr8k / 'images'}", f"retrain.seed={seed}", *sets]
    started = time.monotonic()
    settings, executor = settle(url, "auto", [f"csv:{source}"], sets, print, keep=True)
    runs.run(url, settings, executor, Request(), print)
    return Store(url, create=False), time.monotonic() - started


@cache
def parsed(captions: tuple[str, ...]) -> tuple[frozenset[tuple[str, str]], ...]:
    """The words (lemma, type) that each caption names."""
    found = _parser().parse(list(captions))
    return tuple(frozenset((phrase.lemma, phrase.type) for phrase in caption.phrases) for caption in found)


@cache
def _parser() -> CaptionParser:
    return CaptionParser()


def named_tags(store: Store, names: Sequence[str], captions: Mapping[str, list[str]]) -> tuple[TagColumns, Truth]:
    """The store's tags, and (captions, photographs, tags) whether a photograph's captions name them."""
    label_system = store.table(_latest(store, "label_system"))
    tags, look_up = tag_columns(label_system), TagLookup(read_tags(label_system))
    most = max(len(captions[name]) for name in names)
    found = np.zeros((most, len(names), len(tags.ids)), bool)
    for row, name in enumerate(names):
        for number, words in enumerate(parsed(tuple(captions[name]))):
            for lemma, type_ in words:
                tag = look_up.find(lemma, type_)
                if tag is not None and tag.tag_id in tags.column:
                    found[number, row, tags.column[tag.tag_id]] = True
    return tags, found


def measure_labels(store: Store, captions: Mapping[str, list[str]]) -> Labels:
    """What the run in ``store`` did to its training pictures."""
    pairs = store.table(_latest(store, "pairs"), ["image_id", "names", "split"]).to_pylist()
    name_of = {pair["image_id"]: Path(pair["names"][0]).name for pair in pairs if pair["split"] == "train"}
    tags, found = named_tags(store, list(name_of.values()), captions)
    place = {image_id: row for row, image_id in enumerate(name_of)}
    added, removed = np.zeros((2, *found.shape[1:]), bool)
    for row in store.table(_latest(store, "tag_verdicts")).to_pylist():
        if row["image_id"] in place and row["tag_id"] in tags.column:
            at = place[row["image_id"]], tags.column[row["tag_id"]]
            said = bool(row["source"] & TagSource.CAPTION)
            added[at], removed[at] = row["kept"] and not said, said and not row["kept"]
    scores = np.zeros(added.shape, np.float32)
    for row in store.table(_latest(store, "generated"), ["image_id", "scores"]).to_pylist():
        for scored in row["scores"]:
            if row["image_id"] in place and scored["tag_id"] in tags.column:
                scores[place[row["image_id"]], tags.column[scored["tag_id"]]] = scored["score"]
    checks = {row["check"]: row for row in store.table(_latest(store, "annotator_checks")).to_pylist()}
    return Labels(
        [label.name for label in tags.labels],
        found.any(axis=0),
        found[1:].any(axis=0),
        found[0],
        added,
        removed,
        scores,
        checks["added_precision"]["value"],
    )


@torch.inference_mode()
def measure_models(store: Store, images: Path, report: Sequence[str], captions: Mapping[str, list[str]]) -> Models:
    """Both models of the run in ``store`` on the photographs that are named in ``report``."""
    retrained = load_tagger(store.model_folder(_latest(store, "ram")) / "whole", own_encoders=True)
    before = load_tagger(store.model_folder(_latest(store, "ablation")) / Row.PARSED, own_encoders=True)
    prepare = retrained.preprocessing.transform()
    after_scores, before_scores = [], []
    for start in range(0, len(report), 32):
        names = report[start : start + 32]
        pictures = torch.stack([prepare(Image.open(images / name).convert("RGB")) for name in names])
        tokens = retrained.encode_image(pictures)
        after_scores.append(retrained.tag_logits(tokens).sigmoid().numpy())
        before_scores.append(before.tag_logits(tokens).sigmoid().numpy())
    tags, found = named_tags(store, report, captions)
    place = {(label.name, label.type): column for column, label in enumerate(tags.labels)}
    columns = [place[label.name, label.type] for label in retrained.labels]
    return Models(
        found.any(axis=0)[:, columns],
        np.concatenate(after_scores),
        np.concatenate(before_scores),
        retrained.thresholds().numpy(),
    )


def label_figures(labels: Sequence[Labels]) -> dict[str, float | None]:
    """The figures of the labels, pooled over the runs."""
    added = sum(int(each.added.sum()) for each in labels)
    right = sum(int((each.added & each.five).sum()) for each in labels)
    confirmed = sum(int((each.named & each.others).sum()) for each in labels)
    lost = sum(int((each.removed & each.others).sum()) for each in labels)
    possible = sum(each.possible for each in labels)
    estimated = float(np.mean([each.estimated for each in labels]))
    return {
        "added_precision": round(right / added, 4) if added else None,
        "estimated_precision": None if np.isnan(estimated) else round(estimated, 4),
        "added_a_picture": round(added / sum(len(each.added) for each in labels), 4),
        "share_of_possible": round(added / possible, 4) if possible else float(not added),
        "worst_tag_excess": round(max(each.worst_excess for each in labels), 4),
        "right_words_lost": round(lost / max(confirmed, 1), 4),
    }


def model_figures(models: Sequence[Models]) -> dict[str, float | str]:
    """The figures of the models, means over the runs; the interval is over photographs, the same for all runs."""
    rankings = []
    for each in models:
        counted = each.truth.any(axis=0)
        rankings.append([Ranking(each.truth[:, counted], one[:, counted]) for one in (each.retrained, each.parsed)])

    def gap(weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
        gaps = [first.weighted_mean(weights) - second.weighted_mean(weights) for first, second in rankings]
        return np.array(np.mean(gaps))

    difference = float(gap(None))
    low, high = interval(bootstrap(gap, len(models[0].truth), 500), difference, within=DIFFERENCE)
    precisions, recalls, before = zip(*(_operating(each) for each in models), strict=True)
    return {
        "map_difference": round(difference, 4),
        "map_low": round(float(low), 4),
        "map_high": round(float(high), 4),
        "verdict": BETTER if low > 0 else WORSE if high < 0 else NOT_SHOWN,
        "thresholds_precision": round(float(np.mean(precisions)), 4),
        "thresholds_recall": round(float(np.mean(recalls)), 4),
        "parsed_recall": round(float(np.mean(before)), 4),
    }


def _operating(models: Models) -> tuple[float, float, float]:
    """Precision and recall of all predicted tags at the final tagger's thresholds, and the recall of parsed-only cut at
    that precision."""
    predicted = models.retrained >= models.thresholds
    right, there = int((predicted & models.truth).sum()), int(models.truth.sum())
    precision = right / max(int(predicted.sum()), 1)
    order = np.argsort(-models.parsed, axis=None, kind="stable")
    hits = np.cumsum(models.truth.ravel()[order])
    enough = hits / np.arange(1, len(order) + 1) >= precision
    return precision, right / there, float(hits[enough][-1] / there) if right and enough.any() else 0.0


def show(labels: Sequence[Labels]) -> None:
    """Prints the tags that gained most, and how often what is said to be likely is named by any of five captions."""
    gained: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for each in labels:
        counts = each.added.sum(axis=0), (each.added & each.five).sum(axis=0), each.five.sum(axis=0)
        for name, *values in zip(each.names, *counts, strict=True):
            gained[name] = [old + int(new) for old, new in zip(gained[name], values, strict=True)]
    print(f"{'tag':<20} {'added':>6} {'named by any of five':>21} {'pictures that have it':>22}")
    for name, (added, right, there) in sorted(gained.items(), key=lambda item: -item[1][0])[:20]:
        if added:
            print(f"{name:<20} {added:>6} {right / added:>21.2f} {there:>22}")
    print(f"{'said to be likely':<20} {'tags':>8} {'mean':>6} {'named by any of five':>21}")
    scores = np.concatenate([each.scores[~each.named] for each in labels])
    five = np.concatenate([each.five[~each.named] for each in labels])
    for low, high in pairwise(BANDS):
        inside = (scores >= low) & (scores < high)
        if inside.any():
            means = f"{scores[inside].mean():>6.2f} {five[inside].mean():>21.2f}"
            print(f"{low:>9.1f} to {min(high, 1):.1f}     {inside.sum():>8} {means}")


def _latest(store: Store, artifact: str) -> Snapshot:
    snapshot = store.snapshot(artifact)
    if snapshot is None:
        raise SystemExit(f"the run left no {artifact}: see what it said above")
    return snapshot


if __name__ == "__main__":
    main()
