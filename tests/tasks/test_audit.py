from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.schemas import check, contract
from tasks.labels.tags import Tag, tags_table
from tasks.settings.executor import ExecutorSettings
from tasks.settings.judge import JudgeSettings
from tasks.stages.audit import known_right, reduce, wrong_share
from tests.tasks.stage_inputs import inputs_of

PICTURES = 200
TAGS = 8
IDS = [f"{number:016x}" for number in range(PICTURES)]


BARE = [f"{number:016x}" for number in range(PICTURES, 2 * PICTURES)]


def pairs(split: str = "train", bare: Sequence[str] = ()) -> pa.Table:
    row = {"captions": ["."], "split": split, "sources": ["csv"], "names": ["a"]}
    row |= {"fingerprints": ["f"], "sha256": "0", "width": 1, "height": 1, "hash": 0}
    rows = [row | {"image_id": image_id} for image_id in IDS]
    rows += [row | {"image_id": image_id, "captions": []} for image_id in bare]
    return pa.Table.from_pylist(rows, contract("pairs").schema)


def caption_tags(*captions: list[list[int]]) -> pa.Table:
    rows = [
        {"image_id": image_id, "caption_index": number, "tag_ids": tags}
        for number, named in enumerate(captions)
        for image_id, tags in zip(IDS, named, strict=True)
    ]
    return pa.Table.from_pylist(rows, contract("caption_tags").schema)


def audited(
    folder: Path, named: pa.Table, written: list[list[int]], scores: np.ndarray, bare: Sequence[str] = ()
) -> dict[str, dict]:
    """The checks of captions that name ``named``, of generated ones that name ``written``; those of ``bare`` pictures
    name everything."""
    written, scores = [*written, *([[*range(TAGS)]] * len(bare))], np.concatenate([scores, scores[: len(bare)]])
    generated = [
        {
            "image_id": image_id,
            "captions": [" ".join(map(str, tags))],
            "caption_tag_ids": [tags],
            "caption_fits": [],
            "original_caption_fits": [],
            "scores": [{"tag_id": tag, "score": float(score)} for tag, score in enumerate(row)],
            "predicted": [],
        }
        for image_id, tags, row in zip([*IDS, *bare], written, scores, strict=True)
    ]
    bars = {name: 0.0 for name in contract("tag_bars").schema.names} | {
        "named": 9,
        "described": False,
        "reason": "added",
    }
    bars |= {"mention_rate": 0.4, "plausible": 0.3, "slope": 1.0}
    feature = pa.list_(pa.float16(), 2)
    regions = contract("regions").schema
    tables = {
        "pairs": pairs(bare=bare),
        "caption_tags": named,
        "generated": pa.Table.from_pylist(generated, contract("generated").schema),
        "regions": regions.set(regions.get_field_index("feature"), pa.field("feature", feature)).empty_table(),
        "clusters": contract("clusters").schema.empty_table(),
        "label_system": tags_table([Tag(tag, f"tag {tag}", "object", groundable=True) for tag in range(TAGS)]),
        "tag_bars": pa.Table.from_pylist([bars | {"tag_id": tag} for tag in range(TAGS)], contract("tag_bars").schema),
    }
    found = reduce(JudgeSettings(), inputs_of(folder, tables), ExecutorSettings())["judge_checks"]
    return {row["check"]: row for row in check("judge_checks", found).to_pylist()}


def scene(seed: int) -> tuple[list[list[int]], np.ndarray]:
    """What is in each picture, four tags of eight, and an annotator's scores that know it."""
    chance = np.random.default_rng(seed)
    there = [sorted(chance.choice(TAGS, 4, replace=False).tolist()) for _ in IDS]
    scores = np.full((PICTURES, TAGS), 0.002)
    for row, tags in zip(scores, there, strict=True):
        row[tags] = 0.9
    return there, scores


def test_a_judge_is_proven_by_words_that_other_captions_confirm(tmp_path: Path) -> None:
    there, scores = scene(0)
    wrong = [sorted(set(range(TAGS)) - set(tags)) for tags in there]
    first = [tags[:2] if at % 5 else other[:2] for at, (tags, other) in enumerate(zip(there, wrong, strict=True))]
    second = [tags[:3] for tags in there]
    found = audited(tmp_path / "two", caption_tags(first, second), [[]] * PICTURES, scores)
    assert found["caption_disagrees"]["passed"]
    assert found["caption_disagrees"]["low"] > 0.9
    assert not found["no_box"]["passed"]  # it takes nothing
    # the same captions without a second one: nothing shows who is right
    alone = audited(tmp_path / "one", caption_tags(first), [[]] * PICTURES, scores)
    assert not any(row["passed"] for row in alone.values())
    assert "no picture has several captions" in alone["caption_disagrees"]["told"]


def test_pictures_without_captions_prove_nothing(tmp_path: Path) -> None:
    there, scores = scene(0)
    named, written = caption_tags([tags[:2] for tags in there]), [tags[:3] for tags in there]
    without, beside = (audited(tmp_path / str(len(bare)), named, written, scores, bare) for bare in ((), BARE))
    assert {name: row["told"] for name, row in beside.items()} == {name: row["told"] for name, row in without.items()}
    assert beside["captioner"] == without["captioner"]


def test_a_judge_that_takes_right_words_is_not_proven(tmp_path: Path) -> None:
    there, scores = scene(0)
    blind = np.random.default_rng(1).permutation(scores)
    named = caption_tags([tags[:2] for tags in there], [tags[:3] for tags in there])
    found = audited(tmp_path, named, [[]] * PICTURES, blind)["caption_disagrees"]
    assert not found["passed"]
    assert "known to be right" in found["told"]


def test_a_captioner_that_says_the_same_of_every_picture_is_not_listened_to(tmp_path: Path) -> None:
    there, scores = scene(0)
    named = caption_tags([tags[:2] for tags in there])
    same = audited(tmp_path / "same", named, [[0, 1, 2, 3]] * PICTURES, scores)["captioner"]
    assert not same["passed"]
    assert same["told"].startswith("1 different captions were written for 200 pictures")
    good = audited(tmp_path / "good", named, [tags[:3] for tags in there], scores)["captioner"]
    assert good["passed"]
    assert good["low"] <= good["value"] <= good["high"]


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))
def test_the_wrong_share_is_a_share_and_its_bound_is_below_it(
    known: int, taken: int, more: int, said_taken: int
) -> None:
    known_taken = min(known, taken)
    said, said_taken = known + more, min(known_taken + said_taken, known + more)
    value, low = wrong_share(known, known_taken, said, said_taken)
    assert 0 <= low <= value + 1e-9 <= 1 + 1e-9


def test_a_persons_own_labels_are_known_right() -> None:
    rows = [(IDS[0], 0, [1, 2]), (IDS[0], -1, [2]), (IDS[1], 0, [3]), (IDS[1], 1, [3, 4]), (IDS[2], 0, [5])]
    table = pa.Table.from_pylist(
        [{"image_id": image, "caption_index": number, "tag_ids": tags} for image, number, tags in rows],
        contract("caption_tags").schema,
    )
    assert known_right(table, pairs()) == {(IDS[0], 2), (IDS[1], 3)}
    assert (IDS[2], 5) in known_right(table, pairs("fine_tune"))


@pytest.mark.parametrize(("known", "said_taken"), [(0, 5), (5, 0)])
def test_nothing_known_or_nothing_taken_proves_nothing(known: int, said_taken: int) -> None:
    assert wrong_share(known, 0, 10, said_taken) == (0.0, 0.0)
