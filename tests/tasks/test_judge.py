from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from storage.schemas import TagSource, check, contract
from tasks.judging.typicality import QUANTILES
from tasks.settings.executor import ExecutorSettings
from tasks.settings.judge import JudgeSettings
from tasks.stages.judge import CAPTIONER, REASONS, build, decide
from tests.tasks.stage_inputs import inputs_of

IMAGE = "00000000000000aa"
COLOUR = 7  # a tag that has no place in a picture
# what tag 1's regions look like: its single cluster, a tenth of them farther than half a unit from its centroid
CLUSTERS = pa.table(
    {
        "tag_id": pa.array([1], pa.int32()),
        "cluster": pa.array([0], pa.int16()),
        "centroid": pa.array([[1.0, 0.0]], pa.list_(pa.float32())),
        "count": pa.array([30], pa.int32()),
        "distances": pa.array([(QUANTILES / 0.9 * 0.5).tolist()], pa.list_(pa.float32())),
    }
)
LABELS = pa.Table.from_pylist(
    [
        {
            "tag_id": tag,
            "name": f"tag {tag}",
            "type": "object",
            "synonyms": [],
            "count": 9,
            "active": True,
            "groundable": tag != COLOUR,
            "prompt": "",
        }
        for tag in range(1, 10)
    ],
    contract("label_system").schema,
)
TYPICAL, OUTLIER = [1.0, 0.0], [0.0, 1.0]
PROVEN = (*REASONS, CAPTIONER)


def verdicts(
    folder: Path,
    named: list[int],
    scores: dict[int, float],
    predicted: list[int],
    regions: list[tuple[int, float | None, list[float]]],
    generated_captions: list[list[int]] | None = None,
    edits: dict[int, bool] | None = None,
    fits: tuple[float, ...] = (),
    proven: Sequence[str] = PROVEN,
    **settings: Any,
) -> dict[int, dict[str, Any]]:
    """The verdicts of one image, by tag."""
    shard = {
        "pairs": pa.table({"image_id": [IMAGE]}),
        "caption_tags": pa.Table.from_pylist(
            [{"image_id": IMAGE, "caption_index": 0, "tag_ids": named}], schema=contract("caption_tags").schema
        ),
        "generated": pa.Table.from_pylist(
            [
                {
                    "image_id": IMAGE,
                    "captions": [],
                    "caption_tag_ids": generated_captions or [],
                    "caption_fits": fits[1:],
                    "original_caption_fits": fits[:1],
                    "scores": [{"tag_id": tag, "score": score} for tag, score in scores.items()],
                    "predicted": predicted,
                }
            ],
            schema=contract("generated").schema,
        ),
        "regions": pa.table(
            {
                "image_id": pa.array([IMAGE] * len(regions), pa.string()),
                "tag_id": pa.array([tag for tag, *_ in regions], pa.int32()),
                "box": pa.array([[0, 0, 1, 1]] * len(regions), pa.list_(pa.float32(), 4)),
                "detector_score": pa.array([1.0] * len(regions), pa.float32()),
                "tag_score": pa.array([score for _, score, _ in regions], pa.float32()),
                "feature": pa.array([feature for *_, feature in regions], pa.list_(pa.float32(), 2)).cast(
                    pa.list_(pa.float16(), 2)
                ),
            }
        ),
    }
    checks = [
        {"check": name, "value": 0.9, "low": 0.8, "high": 1.0, "needed": 0.5, "passed": name in proven, "told": ""}
        for name in PROVEN
    ]
    tables = {
        "clusters": CLUSTERS,
        "label_system": LABELS,
        "tag_bars": contract("tag_bars").schema.empty_table(),
        "judge_checks": pa.Table.from_pylist(checks, contract("judge_checks").schema),
    }
    if edits is not None:
        rows = [{"image_id": IMAGE, "tag_id": tag, "kept": kept} for tag, kept in edits.items()]
        tables["verdict_edits"] = pa.Table.from_pylist(rows, contract("verdict_edits").schema)
    inputs = inputs_of(folder, tables)
    judge = build(JudgeSettings(**settings), inputs, ExecutorSettings())
    rows = check("tag_verdicts", judge(shard)["tag_verdicts"]).to_pylist()
    return {row["tag_id"]: row for row in rows}


RULES = {"region_threshold": 0.3, "doubt": 0.6}


def test_every_claim_is_a_row_with_its_sources(tmp_path: Path) -> None:
    found = verdicts(tmp_path, [1, 2], {1: 0.9, 2: 0.1, 3: 0.7, 9: 0.05}, [1, 3], [], [[1, 4]])
    assert {tag: row["source"] for tag, row in found.items()} == {
        1: TagSource.CAPTION | TagSource.GENERATED_CAPTION | TagSource.PREDICTED,
        2: TagSource.CAPTION,
        3: TagSource.PREDICTED,
        4: TagSource.GENERATED_CAPTION,
    }
    assert found[3]["score"] == pytest.approx(0.7)
    assert found[4]["score"] == pytest.approx(0.05)  # its own was not kept: at most the least that was


@pytest.mark.parametrize(
    ("regions", "score", "kept", "reason"),
    [
        ([(1, 0.8, TYPICAL)], 0.2, True, "kept"),
        ([(1, 0.1, TYPICAL)], 0.2, False, "region_not_predicted"),
        ([(1, 0.8, OUTLIER)], 0.2, False, "cluster_outlier"),
        ([(1, 0.1, OUTLIER)], 0.2, False, "region_not_predicted"),
        ([(1, 0.1, TYPICAL), (1, 0.8, OUTLIER)], 0.2, False, "cluster_outlier"),
        ([(1, 0.1, OUTLIER), (1, 0.8, TYPICAL)], 0.2, True, "kept"),
        ([(1, 0.8, OUTLIER)], 0.7, True, "kept"),
        ([(1, None, TYPICAL)], 0.2, True, "kept"),  # of an annotator that cannot look at regions
        ([(1, None, OUTLIER)], 0.2, False, "cluster_outlier"),
        ([], 0.2, True, "no_box"),
    ],
)
def test_a_tag_survives_by_one_good_region_or_beyond_doubt(
    tmp_path: Path, regions: list[tuple[int, float | None, list[float]]], score: float, kept: bool, reason: str
) -> None:
    row = verdicts(tmp_path, [1], {1: score}, [], regions, **RULES)[1]
    assert (row["kept"], row["reason"]) == (kept, reason)


def test_a_captions_word_falls_only_by_a_proven_test_and_an_added_tag_by_any(tmp_path: Path) -> None:
    regions = [(1, 0.1, TYPICAL), (2, 0.1, TYPICAL)]
    scores = {1: 0.2, 2: 0.2}
    found = verdicts(tmp_path, [1], scores, [2], regions, proven=(), **RULES)
    assert {tag: row["kept"] for tag, row in found.items()} == {1: True, 2: False}
    assert found[1]["target"] == 1
    found = verdicts(tmp_path / "proven", [1], scores, [2], regions, proven=["region_not_predicted"], **RULES)
    assert not any(row["kept"] for row in found.values())


def test_a_captioner_that_proved_nothing_is_not_listened_to(tmp_path: Path) -> None:
    found = verdicts(tmp_path, [1], {1: 0.9, 3: 0.9}, [3], [], [[1, 4]], proven=REASONS)
    assert {tag: row["source"] for tag, row in found.items()} == {1: TagSource.CAPTION, 3: TagSource.PREDICTED}


def test_the_best_region_is_told(tmp_path: Path) -> None:
    row = verdicts(tmp_path, [1], {1: 0.2}, [], [(1, 0.8, OUTLIER), (1, 0.1, TYPICAL)], **RULES)[1]
    assert row["region_score"] == pytest.approx(0.8)
    assert row["typicality"] == pytest.approx(1.0)


def test_a_tag_without_clusters_is_judged_by_its_prediction_alone(tmp_path: Path) -> None:
    found = verdicts(tmp_path, [2, 3], {2: 0.2, 3: 0.2}, [], [(2, 0.8, OUTLIER), (3, 0.1, OUTLIER)], **RULES)
    assert found[2]["kept"]
    assert found[2]["typicality"] is None
    assert found[3]["reason"] == "region_not_predicted"


def test_tags_without_a_box_fall_if_told_to(tmp_path: Path) -> None:
    row = verdicts(tmp_path, [1], {1: 0.2}, [], [], no_box="drop")[1]
    assert (row["kept"], row["reason"], row["target"]) == (False, "no_box", 0)


def test_what_has_no_place_in_a_picture_passes_untouched(tmp_path: Path) -> None:
    row = verdicts(tmp_path, [COLOUR], {COLOUR: 0.2}, [], [], no_box="drop")[COLOUR]
    assert (row["kept"], row["reason"], row["target"]) == (True, "kept", 1)


def test_captions_that_do_not_fit_name_nothing(tmp_path: Path) -> None:
    """The original caption fits, of the generated ones the second does not."""
    scores = {tag: 0.2 for tag in range(1, 7)}
    named = [[3, 4], [2, 5, 6]]
    found = verdicts(tmp_path, [1, 2], scores, [6], [], named, fits=(0.5, 0.4, 0.1), least_caption_fit=0.3)
    assert {tag for tag, row in found.items() if not row["kept"]} == {5}  # 2 is in a caption that fits, 6 is predicted
    assert found[5]["reason"] == "caption_disagrees"
    found = verdicts(tmp_path, [1, 2], scores, [6], [], named, fits=(0.1, 0.4, 0.5), least_caption_fit=0.3)
    assert {tag for tag, row in found.items() if not row["kept"]} == {1}


def test_a_person_wins_over_the_engine_and_may_add_a_tag(tmp_path: Path) -> None:
    regions = [(1, 0.1, TYPICAL), (2, 0.8, TYPICAL)]
    edits = {1: True, 2: False, 5: True, 6: False}
    found = verdicts(tmp_path, [1], {1: 0.2, 2: 0.9, 3: 0.9}, [2, 3], regions, edits=edits, **RULES)
    said = {tag: (row["kept"], row["reason"], row["target"], row["source"]) for tag, row in found.items()}
    assert said == {
        1: (True, "kept_by_hand", 1, TagSource.CAPTION | TagSource.BY_HAND),
        2: (False, "removed_by_hand", 0, TagSource.PREDICTED),
        3: (True, "no_box", pytest.approx(0.9), TagSource.PREDICTED),
        5: (True, "kept_by_hand", 1, TagSource.BY_HAND),  # nothing else claims it; 6 is claimed by nothing at all
    }


def test_a_caption_of_another_picture_loses_its_tags() -> None:
    """Two captions: one whose tags the annotator sees, one whose tags it sees no more than anywhere."""
    shard = {
        "pairs": pa.table({"image_id": [IMAGE]}),
        "caption_tags": pa.Table.from_pylist(
            [
                {"image_id": IMAGE, "caption_index": 0, "tag_ids": [1, 2, 3]},
                {"image_id": IMAGE, "caption_index": 1, "tag_ids": [4, 5]},
            ],
            schema=contract("caption_tags").schema,
        ),
        "generated": pa.Table.from_pylist(
            [
                {
                    "image_id": IMAGE,
                    "captions": [],
                    "caption_tag_ids": [],
                    "caption_fits": [],
                    "original_caption_fits": [],
                    # tag 3 is hardly seen, but the rest of its caption is
                    "scores": [
                        {"tag_id": tag, "score": q} for tag, q in [(1, 0.9), (2, 0.8), (3, 0.03), (4, 0.04), (5, 0.01)]
                    ],
                    "predicted": [],
                }
            ],
            schema=contract("generated").schema,
        ),
    }
    regions = pa.table(
        {
            "image_id": pa.array([], pa.string()),
            "tag_id": pa.array([], pa.int32()),
            "detector_score": pa.array([], pa.float32()),
            "tag_score": pa.array([], pa.float32()),
            "typicality": pa.array([], pa.float32()),
            "good": pa.array([], pa.bool_()),
        }
    )
    expected = pa.table({"tag_id": pa.array([1, 2, 3, 4, 5], pa.int32()), "expected": [0.2] * 5})
    rows = decide(shard, regions, expected, JudgeSettings(), LABELS, PROVEN).to_pylist()
    assert {row["tag_id"]: row["reason"] for row in rows} == {
        1: "no_box",
        2: "no_box",
        3: "no_box",
        4: "caption_disagrees",
        5: "caption_disagrees",
    }
    assert [row["kept"] for row in rows] == [True, True, True, False, False]
    # of an image that the annotator failed on nothing is known, and it loses nothing
    failed = {**shard, "generated": shard["generated"].slice(0, 0)}
    settings = JudgeSettings(no_box="drop")
    rows = decide(failed, regions, expected, settings, LABELS, PROVEN).to_pylist()
    assert [(row["kept"], row["reason"], row["target"]) for row in rows] == [(True, "kept", 1)] * 5
