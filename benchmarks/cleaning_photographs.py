"""What generation and cleaning do to the tags of photographs, by the annotator's attention and by a real detector.

``python benchmarks/cleaning_photographs.py FLICKR8K --detector yolox_nano.onnx --classes coco_classes.txt
[--images 1500] [--swapped 0.08] [--folder runs/photographs]``. FLICKR8K holds ``captions.csv`` (five captions an image)
and ``images/``. The engine sees the first caption of each image; a share of these captions is swapped between images,
so that some tags are known to be wrong. What the images' own five captions name counts as true: it is never all that
is there, so that precision is a lower bound, and comparable between rows.

Prints tables, and as its last line JSON, a value a way of cleaning: ``tags_an_image`` parsed and after generation,
``precision`` and ``recall`` of the kept tags, of the removed tags ``removed`` and ``removed_wrong`` (the share of them
that the five captions do not name), ``swapped_removed`` (of the tags that only a swapped caption names) and
``right_lost`` (of those that the image's own captions name), and ``auroc`` of the best region's score over the tags of
captions.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from drawn_photographs import draw
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from ram_engine import configuration, runs
from storage.schemas import TagSource
from storage.store import Store
from tasks.labels.lookup import TagLookup
from tasks.labels.tags import read_tags
from tasks.machine.outlook import Request
from tasks.parsing import CaptionParser

# other words under which captions speak of COCO's classes
WORDS = {
    "person": "man, woman, boy, girl, child, kid, people, player, guy, lady, toddler, baby, crowd, worker, rider",
    "bicycle": "bike", "motorbike": "motorcycle", "aeroplane": "airplane, plane", "boat": "canoe, kayak, sailboat",
    "sofa": "couch", "tvmonitor": "television, tv", "diningtable": "table", "cell phone": "phone", "dog": "puppy",
    "sports ball": "ball, soccer ball, football, basketball, tennis ball, volleyball", "cow": "bull", "skis": "ski",
    "pottedplant": "plant", "handbag": "bag, purse",
}  # fmt: skip
SETTINGS = Path(__file__).with_suffix(".yaml")
REGIONS_ALONE = "judge.doubt=1"  # whatever the whole picture says


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flickr8k", type=Path, nargs="?")
    parser.add_argument("--detector")
    parser.add_argument("--classes")
    parser.add_argument("--smoke", action="store_true", help="drawn pictures, the attention alone: does it run?")
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--swapped", type=float, default=0.08)
    parser.add_argument("--folder", type=Path, default=Path("runs/photographs"))
    options = parser.parse_args()
    if options.smoke:
        options.folder = Path(tempfile.mkdtemp())
        options.flickr8k, options.images = draw(options.folder / "drawn", 40), 40
    elif not (options.flickr8k and options.detector and options.classes):
        parser.error("name the folder of Flickr8k, --detector and --classes")
    options.folder.mkdir(parents=True, exist_ok=True)
    captions = write_source(options.flickr8k, options.folder / "first.csv", options.images, options.swapped)
    ways = {"attention": [], "attention, regions alone": [REGIONS_ALONE]}
    if options.detector:
        ways |= ways_of_detector(options)
    found = {}
    for name, sets in ways.items():
        source = [f"ingest.source.images={options.flickr8k / 'images'}", "ingest.calibrate_share=0.07"]
        settings, executor = configuration.configure(
            "tiny" if options.smoke else str(SETTINGS),
            f"csv:{options.folder / 'first.csv'}",
            [*source, "ingest.test_share=0", *sets],
        )
        runs.run(str(options.folder / "store"), settings, executor, Request(until="judge"))
        found[name] = measure(Store(str(options.folder / "store"), create=False), captions)
    show(found)
    print(json.dumps({name: {key: round(value, 4) for key, value in each.items()} for name, each in found.items()}))


def ways_of_detector(options: argparse.Namespace) -> dict[str, list[str]]:
    """The settings of each way to clean by a detector, whose classes get the captions' other words."""
    classes = options.folder / "classes.txt"
    names = Path(options.classes).read_text("utf-8").split("\n")
    classes.write_text("\n".join(f"{name}, {WORDS[name]}" if name in WORDS else name for name in names), "utf-8")
    detector = [
        f"ground.proposer=onnx_detector:{options.detector}",
        f"ground.proposer.classes={classes}",
    ]
    return {
        "detector": detector,
        "detector, regions alone": [*detector, REGIONS_ALONE],
        "detector, no box falls too": [*detector, REGIONS_ALONE, "judge.no_box=drop"],
        "detector, only no box falls": [
            *detector,
            "judge.no_box=drop",
            "judge.region_threshold=0",
            "judge.outlier_share=0",
        ],
    }


def write_source(folder: Path, file: Path, images: int, swapped: float) -> dict[str, list[str]]:
    """Writes the first caption of each image, some of them exchanged; the true captions of each image."""
    captions: dict[str, list[str]] = defaultdict(list)
    with open(folder / "captions.csv", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            captions[row["image"]].append(row["caption"])
    chosen = sorted(captions)[:images]
    chance = np.random.default_rng(0)
    moved = chance.choice(len(chosen), round(swapped * len(chosen)), replace=False)
    said = [captions[name][0] for name in chosen]
    for at, other in zip(moved, np.roll(moved, 1), strict=True):
        said[at] = captions[chosen[other]][0]
    with open(file, "w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["image", "caption"])
        writer.writerows(zip(chosen, said, strict=True))
    return {name: captions[name] for name in chosen}


def measure(store: Store, captions: dict[str, list[str]]) -> dict[str, float]:
    """The figures of the verdicts that the store holds."""
    tables = {name: store.table(store.snapshot(name)) for name in ("pairs", "tag_verdicts", "label_system")}
    tags = read_tags(tables["label_system"])
    look_up, parser = TagLookup(tags), CaptionParser()
    true: dict[str, set[int]] = {}
    for pair in tables["pairs"].select(["image_id", "names", "split"]).to_pylist():
        if pair["split"] == "train":
            texts = [text for name in pair["names"] for text in captions[Path(name).name]]
            named = [
                look_up.find(phrase.lemma, phrase.type) for parsed in parser.parse(texts) for phrase in parsed.phrases
            ]
            true[pair["image_id"]] = {tag.tag_id for tag in named if tag is not None and tag.active}
    rows = [row for row in tables["tag_verdicts"].to_pylist() if row["image_id"] in true]
    right = np.array([row["tag_id"] in true[row["image_id"]] for row in rows])
    kept = np.array([row["kept"] for row in rows])
    caption = np.array([bool(row["source"] & TagSource.CAPTION) for row in rows])
    score = np.array([-1.0 if row["region_score"] is None else row["region_score"] for row in rows])
    looked, regions = caption & (score >= 0), [row["reason"] in REGION_REASONS for row in rows]
    by_regions = ~kept & np.array(regions)
    total = sum(map(len, true.values()))
    return {
        "images": len(true),
        "tags_an_image_parsed": caption.sum() / len(true),
        "tags_an_image_generated": len(rows) / len(true),
        "tags_an_image_kept": kept.sum() / len(true),
        "precision_parsed": right[caption].mean(),
        "precision_generated": right.mean(),
        "precision": right[kept].mean(),
        "recall_parsed": right[caption].sum() / total,
        "recall_generated": right.sum() / total,
        "recall": right[kept].sum() / total,
        "removed": (~kept).sum() / len(rows),
        "removed_wrong": 1 - right[~kept].mean() if (~kept).any() else float("nan"),
        "removed_by_regions": by_regions.sum() / len(rows),
        "removed_by_regions_wrong": 1 - right[by_regions].mean() if by_regions.any() else float("nan"),
        "swapped_removed": (~kept)[caption & ~right].mean(),
        "right_lost": (~kept)[right].mean(),
        "auroc": roc_auc_score(right[looked], score[looked]),
    }


REGION_REASONS = ("cluster_outlier", "region_not_predicted", "no_box")


def show(found: dict[str, dict[str, float]]) -> None:
    table = Table("", *found, box=None)
    for key in next(iter(found.values())):
        table.add_row(key.replace("_", " "), *(f"{each[key]:.3f}" for each in found.values()))
    Console(width=180).print(table)


if __name__ == "__main__":
    main()
