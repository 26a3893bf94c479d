"""A small store in the real format for the report's tests: real pictures, hand-made tags whose verdicts are known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.names import first_round_name
from storage.schemas import contract
from storage.store import Snapshot, Store
from tasks.evaluation.rows import Row
from tasks.evaluation.verdict import Verdict
from tasks.judging.typicality import read_clusters
from tasks.machine.dag import stages
from tasks.machine.inputs import Inputs
from tasks.sample_world import world
from tasks.settings.base import Settings
from tasks.settings.build_labels import BuildLabelsSettings
from tasks.settings.executor import ExecutorSettings
from tasks.settings.fit_clusters import FitClustersSettings
from tasks.settings.ingest import IngestSettings
from tasks.settings.judge import JudgeSettings
from tasks.sources.sample import SampleSource
from tasks.stages import fit_clusters
from tasks.stages import judge as judging

SOURCE = SampleSource(seed=3, train=36, fine_tune=0, calibrate=0, test=4)
FIT = FitClustersSettings(regions_a_cluster=3)
JUDGE = JudgeSettings(outlier_share=0.2, region_threshold=0.25, doubt=0.8)
SETTINGS: dict[str, Settings] = {
    "pairs": IngestSettings(source=SOURCE),
    "label_system": BuildLabelsSettings(wordnet=""),
    "tag_verdicts": JUDGE,
}
MODELS = (
    Row.CHANCE, Row.ZERO_SHOT, Row.PARSED, Row.GENERATION, Row.CLEANING, Row.FINE_TUNED, Row.TRUTH,
    Row.PARSED_FINE_TUNED, Row.TRUTH_FINE_TUNED,
)  # fmt: skip
VERDICT = Verdict("better", 0.13, 0.05, 0.21, 0.54, 0.41, 400, 30, "truth")
ADDED_PRECISION = {
    "check": "added_precision", "value": 0.62, "low": 0.55, "high": 0.7, "needed": 0.5, "passed": True,
    "told": "Added tags are right often enough.",
}  # fmt: skip
HOSTILE = '</script><img src=x onerror=alert(1)> & "quotes" \u2028'
BARE_PRECISION = {**ADDED_PRECISION, "check": "bare_precision", "value": 0.58, "low": 0.49, "high": 0.66}
CHECKED = ("tag_bars", "annotator_checks")
WHOLE = (  # not cut by images
    "label_system", "pairs_rejected", "candidates", "clusters", "judge_checks", "predictions", "metrics", "verdict",
    *CHECKED,
)  # fmt: skip


def make_store(
    folder: str,
    until: str = "evaluate",
    truth: bool = True,
    rounds: int = 1,
    left_out: str = "",
    checked: bool = True,
    bare: int = 0,
) -> Store:
    """A store after the stage ``until``; the second of two ``rounds`` has the tables of the first. One that is not
    ``checked`` knows nothing of what its annotator is worth. So many training pictures are ``bare``."""
    store = Store(folder)
    tables = _without_captions(_tables(), bare)
    for at, stage in enumerate(stages(rounds)):
        for artifact in () if stage.name == left_out else stage.writes:
            name = first_round_name(artifact)
            if name in CHECKED and not checked:
                continue
            if name == "clusters":
                tables[name] = fit_clusters.reduce(FIT, _inputs(store, "regions"), ExecutorSettings())[name]
            if name == "tag_verdicts":
                tables[name] = _judged(tables)
            if name == "verdict" and not truth:
                tables[name] = _table(name, [{**asdict(VERDICT), "against": "captions"}])
            if name != "truth" or truth:
                _publish(store, stage.name, artifact, tables.get(name, contract(name).schema.empty_table()), at)
        if stage.name == until:
            break
    for name in CHECKED if checked and store.snapshot("generated") is not None else ():
        if store.snapshot(name) is None:
            _publish(store, "calibrate", name, tables[name], 0)
    return store


def _without_captions(tables: dict[str, pa.Table], count: int) -> dict[str, pa.Table]:
    """The same tables, as if the first so many training pictures had come without captions, and without a truth."""
    train = tables["pairs"].filter(pc.equal(tables["pairs"]["split"], "train"))
    bare = sorted(train["image_id"].to_pylist())[:count]
    rows = [
        {**row, "captions": [] if row["image_id"] in bare else row["captions"]} for row in tables["pairs"].to_pylist()
    ]

    def of_others(table: pa.Table) -> pa.Table:
        return table.filter(pc.invert(pc.is_in(table["image_id"], value_set=pa.array(bare, pa.string()))))

    others = {name: of_others(tables[name]) for name in ("caption_tags", "truth")}
    return {**tables, **others, "pairs": _table("pairs", rows)}


def _judged(tables: dict[str, pa.Table]) -> pa.Table:
    """The verdicts of a judge that proved all of its tests."""
    regions = judging.measured(tables["regions"], read_clusters(tables["clusters"]), JUDGE)
    labels = tables["label_system"].select(["tag_id", "groundable"])
    proven = (*judging.REASONS, judging.CAPTIONER)
    return judging.decide(tables, regions, judging.expected_shares(tables["tag_bars"]), JUDGE, labels, proven)


def _inputs(store: Store, *artifacts: str) -> Inputs:
    snapshots = {artifact: store.snapshot(artifact) for artifact in artifacts}
    return Inputs(store, {artifact: snapshot for artifact, snapshot in snapshots.items() if snapshot is not None})


def _publish(store: Store, stage: str, artifact: str, table: pa.Table, at: int) -> None:
    """Cut by images into three parts where it has images, as a map stage leaves it."""
    name = first_round_name(artifact)
    key = hashlib.sha256(artifact.encode()).hexdigest()[:16]
    parts = []
    if name in WHOLE or name.endswith("_log"):
        parts.append(store.write_part(artifact, key, "", table))
    else:
        thirds = pa.array([int(image_id, 16) % 3 for image_id in table["image_id"].to_pylist()], pa.int8())
        for third in range(3):
            cut = table.filter(pc.equal(thirds, third))
            parts.append(store.write_part(artifact, f"{key}-{third}", f"pairs-{third}", cut))
    figures = {"seconds": 12.5, "planned_seconds": 20.0, "computed": 2.0, "reused": 1.0, "input_rows": 40.0}
    if name == "pairs":
        figures["rejected.image_truncated"] = 2.0
    settings = SETTINGS[name].model_dump(mode="json") if name in SETTINGS else {}
    created = 1_700_000_000.0 + at
    read = [store.snapshot(name) for name in ("label_system", "caption_tags")]
    store.publish(
        Snapshot(
            artifact,
            key,
            stage,
            "recipe",
            tuple(parts),
            settings=settings,
            created=created,
            figures=figures,
            inputs={"pairs": "pairs@0"}
            | {one.artifact: f"{one.artifact}@{one.key}" for one in read if one is not None},
        )
    )


@cache
def _tables() -> dict[str, pa.Table]:
    """Every image is said to show all but one of the things that it shows, and up to three that it does not show.

    Every third of these is in a caption, in a generated caption, predicted. Right tags have the higher scores, and
    their regions' features lie together.
    """
    items = [world.draw(SOURCE, name) for name, _ in world.item_names(SOURCE)]
    ids = [hashlib.sha256(item.image).hexdigest()[:16] for item in items]
    labels = sorted({tag for item in items for tag in item.tags})
    place = {tag: at for at, tag in enumerate(labels)}
    chance = np.random.default_rng(5)
    names = ("pairs", "images", "truth", "caption_tags", "generated", "regions")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for item, image_id in zip(items, ids, strict=True):
        true = [place[tag] for tag in item.tags]
        wrong = [int(one) for one in chance.choice(len(labels), 3, replace=False) if int(one) not in true]
        said = [*true[:-1], *wrong]
        sources = {source: said[source::3] for source in range(3)}
        scores = {tag_id: float(chance.uniform(*((0.3, 1) if tag_id in true else (0, 0.7)))) for tag_id in said}
        rows["pairs"].append(_pair(image_id, item))
        rows["images"].append({"image_id": image_id, "image": {"bytes": item.image, "path": item.name}})
        rows["truth"].append(
            {
                "image_id": image_id,
                "objects": [{"name": name, "box": box} for name, box in item.objects],
                "tags": [{"name": name, "type": kind} for name, kind in item.tags],
                "caption_of": item.caption_of,
            }
        )
        rows["caption_tags"].append({"image_id": image_id, "caption_index": 0, "tag_ids": sources[0]})
        rows["generated"].append(
            {
                "image_id": image_id,
                "captions": ["a generated caption"],
                "caption_tag_ids": [sources[1]],
                "caption_fits": [],
                "original_caption_fits": [],
                "scores": [{"tag_id": tag_id, "score": score} for tag_id, score in scores.items()],
                "predicted": sources[2],
            }
        )
        for tag_id in (tag_id for tag_id in said if labels[tag_id][1] == "object"):
            box = next((box for name, box in item.objects if name == labels[tag_id][0]), (0.1, 0.2, 0.4, 0.5))
            for _ in range(2):
                feature = chance.normal(0, 0.1 if tag_id in true else 0.5, 4) + np.eye(4)[tag_id % 4]
                tag_score = scores[tag_id] * float(chance.uniform(0.5, 1))
                rows["regions"].append(
                    {
                        "image_id": image_id,
                        "tag_id": tag_id,
                        "box": box,
                        "detector_score": 0.5,
                        "tag_score": tag_score,
                        "feature": feature / np.linalg.norm(feature),
                    }
                )
    return {
        **{name: _table(name, found) for name, found in rows.items()},
        "pairs_rejected": _table(
            "pairs_rejected",
            [{"where": f"row {row}", "reason": "image_truncated", "detail": HOSTILE} for row in range(2)],
        ),
        "label_system": _table(
            "label_system",
            [
                {
                    "tag_id": at,
                    "name": name,
                    "type": kind,
                    "synonyms": [],
                    "count": 1,
                    "active": True,
                    "groundable": kind == "object",
                    "prompt": name,
                }
                for at, (name, kind) in enumerate(labels)
            ],
        ),
        "candidates": _table("candidates", [{"lemma": HOSTILE, "type": "object", "count": 7}]),
        "tag_bars": _table("tag_bars", [_bar(at) for at in range(len(labels))]),
        "annotator_checks": _table("annotator_checks", [ADDED_PRECISION, BARE_PRECISION]),
        "verdict": _table("verdict", [asdict(VERDICT)]),
        "metrics": _table("metrics", list(_metrics(labels))),
        "predictions": _table("predictions", list(_predictions(items, ids, labels))),
    }


def _bar(tag_id: int) -> dict[str, Any]:
    """A tag that one picture in nine can show."""
    names = contract("tag_bars").schema.names
    figures = {**dict.fromkeys(names, 0.5), "plausible": 1 / 9, "plausible_low": 1 / 18, "plausible_high": 1 / 6}
    return {**figures, "tag_id": tag_id, "described": False, "named": 3, "reason": "added"}


def _predictions(items: list[world.Item], ids: list[str], labels: list[tuple[str, str]]) -> Iterable[dict[str, Any]]:
    """The later a model of the ablation, the less noise in its scores."""
    chance = np.random.default_rng(7)
    for noise, model in zip((3, 1, 0.8, 0.6, 0.5, 0.3, 0.55, 0.25), MODELS[1:], strict=True):
        for item, image_id in zip(items, ids, strict=True):
            if item.split == "test":
                truth = np.array([label in item.tags for label in labels])
                yield {"model": model, "image_id": image_id, "scores": truth + chance.normal(0, noise, len(labels))}


def _pair(image_id: str, item: world.Item) -> dict[str, Any]:
    captions = [*item.captions, HOSTILE]
    return {
        "image_id": image_id,
        "captions": captions,
        "split": item.split,
        "sources": ["sample"],
        "names": [item.name],
        "fingerprints": ["-"],
        "sha256": image_id,
        "width": 384,
        "height": 384,
        "hash": 0,
    }


def _metrics(labels: list[tuple[str, str]]) -> Iterable[dict[str, Any]]:
    for model, value in zip(MODELS, (0.05, 0.16, 0.41, 0.5, 0.54, 0.56, 0.64, 0.58, 0.7), strict=True):
        for at, metric in enumerate(("mAP", "CP", "CR", "CF1", "OP", "OR", "OF1")):
            yield {"model": model, "metric": metric, "subset": "all", "tag": None, "value": value + at / 50}
        yield {"model": model, "metric": "mAP", "subset": "never_captioned", "tag": None, "value": value / 3}
        for at, (name, kind) in enumerate(labels):
            nothing = float("nan") if at == 0 else value
            yield {"model": model, "metric": "AP", "subset": kind, "tag": name, "value": nothing}


def _table(artifact: str, rows: list[dict[str, Any]]) -> pa.Table:
    schema = contract(artifact).schema
    if "feature" in schema.names:
        schema = schema.set(schema.get_field_index("feature"), pa.field("feature", pa.list_(pa.float16(), 4)))
    return pa.Table.from_pylist([{**dict.fromkeys(schema.names), **row} for row in rows], schema)
