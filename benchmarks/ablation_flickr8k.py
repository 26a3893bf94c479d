"""What the engine's labels are worth to a tagger of photographs: the ablation on Flickr8k.

``python benchmarks/ablation_flickr8k.py FLICKR8K [--seeds 10] [--folder runs/flickr8k] [--results FILE]``. FLICKR8K
holds ``captions.csv`` (five captions a photograph), ``images/``, ``train.txt`` and ``dev.txt``. The engine sees one
caption of each of the 6,000 training photographs, the first. Half of the 1,000 development photographs, by theirs, set
thresholds (and their five captions chose the settings); the other half is reported, where a tag is true that one of
five captions names. The ceiling is taught all five captions of the training photographs. 300 tags.

All else is as ``benchmarks/flickr8k.yaml`` has it. The trainer is the same for all rows, a linear classifier of the
frozen encoder's mean token, and its weight decay is the best for parsed-only. The annotator is a ridge regression on
each of three encoders (extra ``encoders``). Thresholds are those of the best F1 on held-out captions.

Prints the table, writes ``benchmarks/results/ablation_flickr8k.json``, and as its last line prints JSON: ``gap_closed``
(of the row cleaning; none where the ceiling is not above parsed-only), ``gap_closed_low`` (the lower end of its 95%
interval over seeds and photographs), ``seeds``,
``f1_gap_closed`` (the same share in CF1 and OF1 at the thresholds that each model sets itself), ``minutes`` of the
trainings, and ``rows``: each one's ``mAP``, ``spread``, ``more`` than parsed, ``operating`` point and ``labels``
(tags an image, precision, recall).

With ``--swap 0.08`` that share of the training captions is swapped between photographs in a second store, and the
rows without fine-tuning are trained on both. JSON: ``lost_parsed``, ``lost_generation`` and ``lost_cleaning`` (in mAP),
``won_by_cleaning`` (over generation, on swapped captions), each with its 95% interval over photographs, ``won_back``
(the share of ``lost_generation``), and ``rows``; the file has ``_swapped`` in its name.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from drawn_photographs import draw
from safetensors.numpy import load_file

from ram_engine import ablate_command, configuration, runs
from storage.store import Store
from tasks.evaluation.metrics import DIFFERENCE, Ranking, bootstrap, interval
from tasks.evaluation.outcome import chart, compared
from tasks.evaluation.request import AblationRequest, Variation
from tasks.evaluation.rows import Row
from tasks.machine.outlook import Request

SETTINGS = Path(__file__).with_name("flickr8k.yaml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flickr8k", type=Path, nargs="?")
    parser.add_argument("--smoke", action="store_true", help="drawn pictures, one seed: does it run?")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=Path("runs/flickr8k"))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "ablation_flickr8k.json")
    parser.add_argument("--fine-tune", type=int, default=600, help="photographs with all five captions")
    parser.add_argument("--swap", type=float, default=0.0, help="compare with this share of the captions swapped")
    options = parser.parse_args()
    if options.smoke:
        options.folder = Path(tempfile.mkdtemp())
        options.flickr8k, options.seeds, options.fine_tune = draw(options.folder / "drawn", 48, 24), 1, 0
        options.results = options.folder / "results.json"
    elif options.flickr8k is None:
        parser.error("name the folder of Flickr8k")
    options.folder.mkdir(parents=True, exist_ok=True)
    results = options.results
    result: dict[str, Any]
    if options.swap:
        found = {name: ablated(options, name, swap, 0) for name, swap in (("as-is", 0.0), ("swapped", options.swap))}
        result = {"swap": options.swap, **losses(options.folder), "rows": {k: one["rows"] for k, one in found.items()}}
        results = results.with_stem(f"{results.stem}_swapped")
    else:
        found = {"Flickr8k": ablated(options, "flickr8k", 0.0, options.fine_tune)}
        result = summary(found["Flickr8k"])
    results.parent.mkdir(parents=True, exist_ok=True)
    settings = next(iter(found.values()))["settings"]
    results.write_text(json.dumps({**result, "settings": settings}, indent=1) + "\n", encoding="utf-8")
    results.with_suffix(".svg").write_text(chart(found), encoding="utf-8")
    print(json.dumps(result))


def ablated(options: argparse.Namespace, name: str, swap: float, fine_tune: int) -> dict[str, Any]:
    """Runs the engine on first captions, a share ``swap`` of them swapped, and the ablation on what it made."""
    file, folder = ("swapped.csv", "store-swapped") if swap else ("first.csv", "store")
    captions = write_source(options.flickr8k, options.folder / file, swap)
    images = f"ingest.source.images={options.flickr8k / 'images'}"
    settings, executor = configuration.configure(
        str(SETTINGS), f"csv:{options.folder / file}", [images, "build_labels.total=300"]
    )
    runs.run(str(options.folder / folder), settings, executor, Request(until="judge"))
    store = Store(str(options.folder / folder), create=False)
    request = AblationRequest(settings, options.seeds, Variation(fine_tune=fine_tune), captions)
    found = compared(name, store, request, executor, options.folder, ablate_command.progress)
    ablate_command.show(name, found)
    return found


def losses(folder: Path) -> dict[str, Any]:
    """What swapped captions cost each row in mAP, and the share of generation's loss that cleaning makes good."""
    scores = {name: load_file(folder / f"{name}.safetensors") for name in ("as-is", "swapped")}
    truth = scores["as-is"]["truth"] > 0
    rows = (Row.PARSED, Row.GENERATION, Row.CLEANING)
    rankings = [[[Ranking(truth, each) for each in scores[name][f"{row}.scores"]] for row in rows] for name in scores]

    def mean_ap(weights: np.ndarray | None) -> np.ndarray:
        """(as-is or swapped, rows), means over the seeds."""
        each = [[[one.weighted_mean(weights) for one in row] for row in way] for way in rankings]
        return np.array(each).mean(axis=2)

    def lost(values: np.ndarray) -> np.ndarray:
        """Of each row, and how much less of it than generation cleaning loses; (..., 4)."""
        loss = values[..., 0, :] - values[..., 1, :]
        return np.concatenate([loss, values[..., 1, 2:] - values[..., 1, 1:2]], axis=-1)

    whole, drawn = lost(mean_ap(None)), lost(bootstrap(mean_ap, len(truth), 500))
    names = [*(f"lost_{row}" for row in rows), "won_by_cleaning"]
    figures = {
        name: [float(whole[at]), *interval(drawn[:, at], float(whole[at]), within=DIFFERENCE)]
        for at, name in enumerate(names)
    }
    return {**figures, "won_back": float(whole[3] / whole[1])}


def write_source(folder: Path, file: Path, swapped: float = 0.0) -> dict[str, list[str]]:
    """Writes what the engine sees, as a CSV, a share of the training captions at other photographs; all captions of
    each photograph."""
    captions: dict[str, list[str]] = defaultdict(list)
    with open(folder / "captions.csv", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            captions[row["image"]].append(row["caption"])
    train, held_out = ((folder / name).read_text("utf-8").split() for name in ("train.txt", "dev.txt"))
    choosing = set(np.random.default_rng(0).permutation(len(held_out))[: len(held_out) // 2].tolist())
    said = [captions[name][0] for name in train]
    moved = np.random.default_rng(1).choice(len(train), round(swapped * len(train)), replace=False)
    for at, other in zip(moved, np.roll(moved, 1), strict=True):
        said[at] = captions[train[other]][0]
    with open(file, "w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["image", "caption", "split"])
        writer.writerows((name, caption, "train") for name, caption in zip(train, said, strict=True))
        for place, name in enumerate(held_out):
            if place in choosing:
                writer.writerow((name, captions[name][0], "calibrate"))
            else:
                writer.writerows((name, caption, "test") for caption in captions[name])
    return dict(captions)


def summary(found: dict) -> dict:
    """The figures that the last line has."""
    rows = found["rows"]
    gap, low, _ = rows[Row.CLEANING].get("gap_closed", [None, None, None])
    share = {}
    for metric in ("CF1", "OF1"):
        parsed, cleaning, ceiling = (
            rows[name]["operating"][metric] for name in (Row.PARSED, Row.CLEANING, Row.CEILING)
        )
        share[metric] = (cleaning - parsed) / (ceiling - parsed) if ceiling > parsed else None
    return {
        "gap_closed": gap,
        "gap_closed_low": low,
        "seeds": found["seeds"],
        "f1_gap_closed": share,
        "images": found["images"],
        "tags": found["tags"],
        "minutes": found["minutes"],
        "rows": rows,
    }


if __name__ == "__main__":
    main()
