"""The report: right from the first stage on, with truth and without, whatever texts a dataset holds."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from storage.schemas import contract
from storage.store import Snapshot, Store
from tasks.machine.dag import stages
from tasks.report.cleaning import FIXED, KEPT
from tasks.report.data import gather
from tasks.report.opening import lines
from tasks.report.views import latest_snapshots, open_views
from tasks.report.write import write_report
from tests.report_store import HOSTILE, JUDGE, SOURCE, make_store

NAMES = [stage.name for stage in stages()]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def gathered(store: Store) -> dict[str, Any]:
    return gather(store)


def read_data(store: Store) -> dict[str, Any]:
    """The data that a written report holds."""
    html = (Path(store.root) / write_report(store)).read_text("utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


@pytest.mark.parametrize("name", ["ingest", "assign-tags", "generate", "judge", "evaluate"])
def test_report_after_every_stage(name: str, tmp_path: Path) -> None:
    data = read_data(make_store(str(tmp_path), until=name))
    done = NAMES[: NAMES.index(name) + 1]
    assert [stage["name"] for stage in data["stages"] if stage["figures"]] == done
    assert len(data["examples"]) > 0
    assert bool(data["flows"]) == ("assign-tags" in done)
    assert (data["cleaning"] is not None) == ("judge" in done)
    assert bool(data["models"]) == ("evaluate" in done)
    assert data["findings"]


def test_report_of_an_empty_store(tmp_path: Path) -> None:
    data = read_data(Store(str(tmp_path)))
    assert not any(stage["figures"] for stage in data["stages"])


def test_the_sources_of_synonyms_are_told(gathered: dict[str, Any]) -> None:
    assert "everyday synonyms" in gathered["tags"]["synonyms"]
    assert "WordNet was not at hand" in gathered["tags"]["synonyms"]


def test_a_stage_that_was_passed_over_is_left_out(tmp_path: Path) -> None:
    data = gather(make_store(str(tmp_path), left_out="fine-tune"))
    assert [stage["name"] for stage in data["stages"] if stage["left_out"]] == ["fine-tune"]
    before_it = gather(make_store(str(tmp_path / "waiting"), until="judge"))
    assert not any(stage["left_out"] for stage in before_it["stages"])


def test_flow_counts_every_verdict_once(store: Store, gathered: dict[str, Any]) -> None:
    verdicts = store.table(store.snapshot("tag_verdicts")).to_pylist()
    train = set(training_pictures(store))
    verdicts = [row for row in verdicts if row["image_id"] in train]
    flow = gathered["flows"][0]
    assert sum(link["count"] for link in flow["links"]) == len(verdicts)
    assert sum(link["count"] for link in flow["links"] if link["kept"]) == sum(row["kept"] for row in verdicts)
    parsed = sum(link["count"] for link in flow["links"] if link["origin"] == "parsed")
    assert parsed == sum(row["source"] & 1 for row in verdicts)
    predicted = sum(link["count"] for link in flow["links"] if link["origin"] == "predicted")
    assert predicted == sum(row["source"] == 4 for row in verdicts)


def test_precision_and_recall_after_each_stage(store: Store, gathered: dict[str, Any]) -> None:
    train = set(training_pictures(store))
    labels = store.table(store.snapshot("label_system")).to_pylist()
    names = {row["tag_id"]: (row["name"], row["type"]) for row in labels}
    truth = {
        (row["image_id"], (tag["name"], tag["type"]))
        for row in store.table(store.snapshot("truth")).to_pylist()
        if row["image_id"] in train
        for tag in row["tags"]
    }
    verdicts = [row for row in store.table(store.snapshot("tag_verdicts")).to_pylist() if row["image_id"] in train]
    steps = {step["name"]: step for step in gathered["flows"][0]["steps"]}
    for name, said in {
        "parsed from captions": [row for row in verdicts if row["source"] & 1],
        "with generated captions": [row for row in verdicts if row["source"] & 3],
        "with predicted tags": verdicts,
        "after cleaning": [row for row in verdicts if row["kept"]],
    }.items():
        right = sum((row["image_id"], names[row["tag_id"]]) in truth for row in said)
        assert steps[name]["precision"] == pytest.approx(right / len(said), abs=1e-4)
        assert steps[name]["recall"] == pytest.approx(right / len(truth), abs=1e-4)


def test_pictures_without_captions_are_counted_apart(tmp_path: Path, gathered: dict[str, Any]) -> None:
    store = make_store(str(tmp_path), bare=12)
    data = gather(store)
    bare = {row["image_id"] for row in store.table(store.snapshot("pairs")).to_pylist() if not row["captions"]}
    verdicts = store.table(store.snapshot("tag_verdicts")).to_pylist()
    added = [row for row in verdicts if row["image_id"] in bare and row["kept"]]
    train = {*training_pictures(store)} - bare
    assert data["bare"] == len(bare) == 12
    assert gathered["bare"] == 0
    assert data["growth"]["bare"] == {"images": 12, "added": len(added)}
    assert data["opening"]["added"][-1] == (
        f"12 pictures came without captions: {len(added)} tags were added to them, {len(added) / 12:.1f} a picture; "
        "58% of them are right as estimated (95% interval 49% to 66%)."
    )
    assert {*data["growth"]["checks"]} == {"added_precision", "bare_precision"}
    assert {*gathered["growth"]["checks"]} == {"added_precision"}
    assert data["flows"][0]["images"] == data["growth"]["images"] == len(train) == 24
    of_flow = sum(link["count"] for link in data["flows"][0]["links"])
    assert of_flow == sum(row["image_id"] in train for row in verdicts)
    assert data["flows"][0]["steps"][0]["precision"] is not None
    shown = [example for example in data["examples"] if example["bare"]]
    assert len(shown) == 3
    for example in shown:
        assert example["id"] in bare
        assert example["captions"] == []
        assert {tag["is_true"] for tag in example["tags"]} == {None}
    assert {example["id"] for example in data["examples"]} - bare


def test_a_report_where_no_picture_has_captions(tmp_path: Path) -> None:
    data = read_data(make_store(str(tmp_path), bare=36, until="judge"))
    assert data["bare"] == 36
    (told,) = data["opening"]["added"]
    assert told.startswith("36 pictures came without captions: ")
    assert {*data["growth"]["checks"]} == {"bare_precision"}
    assert data["flows"][0]["images"] == 0


def test_tags_before_the_verdicts_are_those_after_generation(tmp_path: Path, gathered: dict[str, Any]) -> None:
    before = gather(make_store(str(tmp_path), until="generate"))["flows"][0]["steps"]
    after = gathered["flows"][0]["steps"]
    assert before == after[:3]


def test_the_stored_scores_lead_to_the_verdicts_of_the_run(store: Store, gathered: dict[str, Any]) -> None:
    """Nothing is fixed but tags without a region: the page's rule explains every other verdict."""
    cleaning = gathered["cleaning"]
    verdicts = store.table(store.snapshot("tag_verdicts"))
    train = set(training_pictures(store))
    rows = sorted(
        (row for row in verdicts.to_pylist() if row["image_id"] in train),
        key=lambda row: (row["image_id"], row["tag_id"]),
    )
    flags = decode(cleaning["flags"], np.uint8)
    assert [bool(flag & KEPT) for flag in flags] == [row["kept"] for row in rows]
    assert [bool(flag & FIXED) for flag in flags] == [row["region_score"] is None for row in rows]
    assert cleaning["settings"]["outlier_share"] == JUDGE.outlier_share
    typicality = decode(cleaning["typicality"], np.float32)
    measured = typicality[~np.isnan(typicality)]
    assert 0 < (measured < np.float32(JUDGE.outlier_share)).mean() < 0.5
    assert measured.max() == 1
    assert len(cleaning["crops"]) > 3


def test_without_truth_nothing_is_called_right_or_wrong(tmp_path: Path) -> None:
    data = gather(make_store(str(tmp_path), truth=False))
    assert "the words of their captions" in data["header"]["against"]
    assert "against the words of their captions" in data["opening"]["basis"]
    assert all(step["precision"] is None and step["recall"] is None for step in data["flows"][0]["steps"])
    assert all(link["right"] is None for link in data["flows"][0]["links"])
    assert data["cleaning"]["true_tags"] is None
    assert all(tag["is_true"] is None for example in data["examples"] for tag in example["tags"])
    assert not any("right" in sentence for sentence in data["findings"])


def test_rounds_are_compared(tmp_path: Path) -> None:
    data = gather(make_store(str(tmp_path), rounds=2), rounds=2)
    assert [flow["round"] for flow in data["flows"]] == [1, 2]
    assert data["flows"][0]["links"] == data["flows"][1]["links"]
    assert data["cleaning"]["round"] == 2
    assert "retrain-2" in [stage["name"] for stage in data["stages"]]


def test_an_image_that_left_is_not_shown(tmp_path: Path) -> None:
    store = make_store(str(tmp_path))
    before = gather(store)
    gone = before["examples"][0]["id"]
    for artifact in store.artifacts():
        snapshot = store.snapshot(artifact)
        partitions = {part.partition for part in snapshot.parts}
        if f"pairs-{int(gone, 16) % 3}" in partitions:
            store.publish(replace(snapshot, tombstones={f"pairs-{int(gone, 16) % 3}": [gone]}))
    after = gather(store)
    assert gone not in [example["id"] for example in after["examples"]]
    assert after["flows"][0]["images"] == SOURCE.train - 1
    assert sum(link["count"] for link in after["flows"][0]["links"]) < sum(
        link["count"] for link in before["flows"][0]["links"]
    )


def test_texts_of_the_data_stay_texts(store: Store) -> None:
    html = (Path(store.root) / write_report(store)).read_text("utf-8")
    assert html.count("</script>") == 2
    assert "<img" not in html
    data = read_data(store)
    assert data["rejected"]["rows"][0]["detail"] == HOSTILE
    assert data["candidates"][0]["lemma"] == HOSTILE


def test_one_small_file_that_loads_nothing(store: Store) -> None:
    html = (Path(store.root) / write_report(store)).read_text("utf-8")
    assert len(html.encode()) < 6_000_000
    assert set(re.findall(r"https?://[^\s\"'`)]+", html)) == {"http://www.w3.org/2000/svg"}
    assert '<link rel="stylesheet' not in html


def test_a_tag_that_no_test_picture_has_shows_no_precision(gathered: dict[str, Any]) -> None:
    rows = gathered["tags"]["rows"]
    assert sum(row[-1] is None for row in rows) == 1  # its NaN would be no JSON


def test_the_better_model_has_the_higher_curve(gathered: dict[str, Any]) -> None:
    curves = gathered["curves"]
    mean = {model: np.mean([precision for _, precision in points]) for model, points in curves.items()}
    assert mean["zero_shot"] < mean["parsed"] < mean["truth"]
    assert curves["truth"][-1][0] == 1


def training_pictures(store: Store) -> list[str]:
    pairs = store.table(store.snapshot("pairs"), ["image_id", "split"]).to_pylist()
    return [row["image_id"] for row in pairs if row["split"] == "train"]


def decode(text: str, kind: type) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(text), kind)


def test_what_was_screened_is_counted_and_named(tmp_path: Path) -> None:
    store = make_store(str(tmp_path), until="screen")
    assert read_data(store)["screened"] == {"counts": [], "rows": []}
    pairs, made = store.snapshot("pairs"), store.snapshot("screening")
    assert pairs is not None
    assert made is not None
    first, second, *_ = store.table(pairs, ["image_id", "names", "split"]).to_pylist()
    row = {
        "image_id": first["image_id"], "split": first["split"], "nearest": second["image_id"], "cosine": 0.99,
        "hash_bits": 1, "duplicate_of": second["image_id"], "short_side": 384, "aspect": 1.0, "caption_fit": None,
        "unwanted": None, "kept": False, "reasons": ["duplicate", "too_small"],
    }  # fmt: skip
    table = pa.Table.from_pylist([row], contract("screening").schema)
    part = store.write_part("screening", "b" * 16, "", table)
    store.publish(replace(made, key="b" * 16, parts=(part,)))
    screened = read_data(store)["screened"]
    assert {one["reason"]: one["count"] for one in screened["counts"]} == {"duplicate": 1, "too_small": 1}
    (told,) = screened["rows"]
    assert (told["name"], told["other"]) == (first["names"][0], second["names"][0])


def test_the_report_opens_with_the_verdict_and_says_what_was_added(store: Store, gathered: dict[str, Any]) -> None:
    opening = gathered["opening"]
    assert opening["word"] == "better"
    assert opening["headline"].startswith("Better: the retrained model reaches 0.540 mAP")
    assert "400 test pictures, measured against the known truth" in opening["basis"]
    (added,) = opening["added"]
    train = set(training_pictures(store))
    verdicts = [row for row in store.table(store.snapshot("tag_verdicts")).to_pylist() if row["image_id"] in train]
    kept = [row for row in verdicts if row["kept"]]
    assert added.startswith(f"{sum(row['source'] & 1 == 0 for row in kept)} tags were added")
    assert "62% of them are right as estimated (95% interval 55% to 70%)" in added
    assert lines(store) == [opening["headline"], opening["basis"], added]
    grown = gathered["growth"]["tags"]
    assert [row["ratio"] for row in grown] == sorted((row["ratio"] for row in grown), reverse=True)
    first = grown[0]
    now = sum(row["tag_id"] == first["tag_id"] for row in kept)
    assert first["named"] + first["added"] == now
    assert first["ratio"] == pytest.approx(now / max(1, len(train) / 9), abs=1e-4)
    assert 0 < len(first["pictures"]) <= first["added"]


def test_without_additions_the_report_says_what_it_would_take(tmp_path: Path) -> None:
    made = make_store(str(tmp_path), until="judge")
    for name, change in {"tag_verdicts": {"kept": False}, "annotator_checks": {"passed": False}}.items():
        snapshot = made.snapshot(name)
        rows = [
            {**row, **(change if row.get("source", 0) & 1 == 0 else {})} for row in made.table(snapshot).to_pylist()
        ]
        part = made.write_part(name, "changed", "", pa.Table.from_pylist(rows, contract(name).schema))
        made.publish(replace(snapshot, key="changed", parts=(part,)))
    assert gather(made)["opening"]["added"] == [
        "Nothing was added to the captions' words: no tag cleared the bar.",
        "Added tags are right often enough.",
    ]


def test_a_store_that_estimated_nothing_says_so(tmp_path: Path) -> None:
    data = gather(make_store(str(tmp_path), truth=False, checked=False))
    assert "was not estimated" in data["opening"]["added"][0]
    assert data["growth"]["tags"][0]["plausible"] is None


def test_a_label_system_that_grew_leaves_what_was_measured_as_it_was(store: Store, tmp_path: Path) -> None:
    made = make_store(str(tmp_path))
    before = gather(made)
    snapshot = made.snapshot("label_system")
    table = made.table(snapshot)
    rows = table.to_pylist()
    for change in (
        [*rows, {**rows[0], "tag_id": len(rows), "name": "a new word"}],
        [{**row, "active": at > 3} for at, row in enumerate(rows)],
    ):
        key = f"other-{len(change)}"
        part = made.write_part("label_system", key, "", pa.Table.from_pylist(change, table.schema))
        made.publish(replace(snapshot, key=key, parts=(part,)))
        assert gather(made)["curves"] == before["curves"] != {}


def test_a_verdict_is_of_the_model_that_was_measured(tmp_path: Path) -> None:
    made = make_store(str(tmp_path))
    made.publish(replace(made.snapshot("verdict"), inputs={"ram": "ram@older"}))
    made.publish(Snapshot("ram", "newer", "retrain", "recipe", model="digest"))
    assert gather(made)["opening"]["headline"].startswith("Not compared: the model was trained again")


def test_before_the_verdicts_scores_are_looked_at_in_a_few_parts_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generated = make_store(str(tmp_path), until="generate")
    counted = "SELECT origin, count(*) AS count, count(score) AS scored FROM entries GROUP BY origin ORDER BY origin"

    def count() -> dict[str, tuple[int, int]]:
        with open_views(generated, latest_snapshots(generated, 1), 1) as views:
            return {row["origin"]: (row["count"], row["scored"]) for row in views.rows(counted)}

    few = count()
    assert few["predicted"][0] == few["predicted"][1] > 0
    monkeypatch.setattr("tasks.report.views.SAMPLED_PARTS", 0)
    assert count() == {origin: (tags, 0) for origin, (tags, _) in few.items()}
