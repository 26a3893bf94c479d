"""Evaluation sets of every format, and stored scores."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models import Label
from tasks.evaluation.comparison import compare
from tasks.evaluation.metrics import mean_average_precision
from tasks.evaluation.scores import Scores, ScoresError, difference, measure, per_tag
from tasks.evaluation.sets import EvaluationSet, read
from tasks.evaluation.verdict import verdict
from tasks.labels.tags import Tag
from tasks.sources import SourceError
from tests.conftest import shared


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a, b and c.jpg in images/, and a list of three tags."""
    (tmp_path / "images").mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "tags.txt").write_text("dog\nred car\ntree\n", encoding="utf-8")
    return tmp_path


def _read(
    folder: Path, kind: str, name: str, text: str, tags: bool = True, known: tuple[Tag, ...] = ()
) -> EvaluationSet:
    (folder / name).write_text(text, encoding="utf-8")
    return read(kind, folder / name, tags=known, tag_list=str(folder / "tags.txt") if tags else "")


def _found(data: EvaluationSet) -> dict[str, set[str]]:
    return {
        path.stem: {data.labels[at].name for at in np.flatnonzero(row)}
        for path, row in zip(data.images, data.truth, strict=True)
    }


@pytest.mark.parametrize(
    "text",
    ["test/a,dog,red car\nb.jpg,\nc,tree\n", "a.jpg,0 1\nb.jpg,\nc.jpg,2\n", "a.jpg,0 1\nb.jpg\nc.jpg,2"],
    ids=["by name, without suffix", "by index", "a row without a comma"],
)
def test_the_authors_lists(folder: Path, text: str) -> None:
    assert _found(_read(folder, "ram", "list.txt", text)) == {"a": {"dog", "red car"}, "b": set(), "c": {"tree"}}


def test_the_authors_lists_say_where_they_are_wrong(folder: Path) -> None:
    with pytest.raises(SourceError, match="line 2: there is no tag 3"):
        _read(folder, "ram", "list.txt", "a,0\nb,3")
    with pytest.raises(SourceError, match="line 1: 'cat' is not in the list"):
        _read(folder, "ram", "list.txt", "a,cat")
    with pytest.raises(SourceError, match="--tags"):
        _read(folder, "ram", "list.txt", "a,0", tags=False)


def test_images_that_are_not_there_are_counted(folder: Path) -> None:
    data = _read(folder, "ram", "list.txt", "a,0\nz,1\n../tags.txt,1")
    assert [path.name for path in data.images] == ["a.jpg"]
    assert data.left_out == {"image that is not in the folder": 2}
    with pytest.raises(SourceError, match=r"none of the 1 images, such as z.*--images"):
        _read(folder, "ram", "list.txt", "z,0")


def test_coco_instances(folder: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "categories": [{"id": 7, "name": "dog"}, {"id": 9, "name": "cat"}],
        "annotations": [
            {"image_id": 1, "category_id": 7},
            {"image_id": 1, "category_id": 9},
            {"image_id": 5, "category_id": 7},
        ],
    }
    data = _read(folder, "coco", "instances.json", json.dumps(content), tags=False)
    assert _found(data) == {"a": {"dog", "cat"}, "b": set()}
    assert data.left_out == {"annotation of an image that is not listed": 1}
    chosen = _read(folder, "coco", "instances.json", json.dumps(content))  # the list has dog and no cat
    assert _found(chosen) == {"a": {"dog"}, "b": set()}
    assert chosen.left_out["tag that is no label"] == 1


def test_captions_of_coco_and_csv_name_the_tags(folder: Path) -> None:
    known = (
        Tag(0, "dog", "object", synonyms=("puppy",)),
        Tag(3, "tree", "object"),
        Tag(4, "cat", "object", active=False),
    )
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [{"image_id": 1, "caption": "A puppy and a cat."}, {"image_id": 1, "caption": "A tree."}],
    }
    data = _read(folder, "coco", "captions.json", json.dumps(content), tags=False, known=known)
    assert _found(data) == {"a": {"dog", "tree"}}
    assert data.left_out == {"image without a caption": 1}
    text = "image,caption\na.jpg,A puppy and a cat.\na.jpg,A tree.\nb.jpg,Two dogs.\n"
    assert _found(_read(folder, "csv", "captions.csv", text, tags=False, known=known)) == {
        "a": {"dog", "tree"},
        "b": {"dog"},
    }
    with pytest.raises(SourceError, match="which tags"):
        _read(folder, "csv", "captions.csv", text, tags=False)


def test_csv_of_tags_and_of_neither(folder: Path) -> None:
    data = _read(folder, "csv", "tags.csv", "image,tag\na.jpg,dog\na.jpg,cat\nb.jpg,\n", tags=False)
    assert _found(data) == {"a": {"dog", "cat"}, "b": set()}
    with pytest.raises(SourceError, match=r"\['image', 'words'\]"):
        _read(folder, "csv", "wrong.csv", "image,words\na,b\n", tags=False)


@pytest.mark.parametrize(
    "name", ["hico_600_annots", "openimages_common_214_ram_annots", "openimages_rare_200_ram_annots"]
)
def test_the_authors_own_files(tmp_path: Path, name: str) -> None:
    """The first 300 rows of each: by index, where names hold spaces, by name, and rows without any."""
    published = shared(f"data/ram_official/{name}.txt")
    lines = published.read_text(encoding="utf-8").splitlines()[:300]
    (tmp_path / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    for line in lines:
        (tmp_path / f"{Path(line.partition(',')[0]).name.removesuffix('.jpg')}.jpg").touch()
    data = read("ram", tmp_path / "list.txt", tag_list=str(published).replace("annots", "taglist"))
    assert not data.left_out
    assert len(data.images) == len(lines)
    for line, row in zip(lines, data.truth, strict=True):
        said = line.partition(",")[2]
        places = map(int, said.split()) if name == "hico_600_annots" else []
        named = {data.labels[place].name for place in places} or {each for each in said.split(",") if each}
        assert {data.labels[at].name for at in np.flatnonzero(row)} == named


def _scores(truth: np.ndarray, scores: np.ndarray, **changes: object) -> Scores:
    images, labels = truth.shape
    given = {
        "model": "m",
        "labels": tuple(Label(f"tag {at}", "object" if at % 2 else "action") for at in range(labels)),
        "images": tuple(f"{at}.jpg" for at in range(images)),
        "truth": truth.astype(bool),
        "scores": scores.astype(np.float32),
        "thresholds": np.full(labels, 0.5, np.float32),
        "answered": np.ones(labels, bool),
        "trained": np.ones(labels, bool),
    }
    return Scores(**{**given, **changes})  # type: ignore[arg-type]


TRUTH = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]])
SAID = np.array([[0.9, 0.4, 0.2], [0.8, 0.3, 0.9], [0.7, 0.2, 0.1], [0.1, 0.1, 0.1]])


def test_scores_come_back_as_they_were_stored(tmp_path: Path) -> None:
    one = _scores(TRUTH, SAID, answered=np.array([1, 1, 0], bool))
    one.save(tmp_path / "in" / "m.safetensors")
    other = Scores.load(tmp_path / "in" / "m.safetensors")
    assert (other.model, other.labels, other.images) == (one.model, one.labels, one.images)
    for name in ("truth", "scores", "thresholds", "answered", "trained"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    (tmp_path / "no.safetensors").write_bytes(b"no")
    with pytest.raises(ScoresError, match="no scores"):
        Scores.load(tmp_path / "no.safetensors")


def test_figures_of_a_hand_worked_case() -> None:
    one = _scores(TRUTH, SAID)
    figures = measure(one, samples=50)
    # the third tag is nowhere and counts in nothing; the first is ranked perfectly, the second right at ranks 1 and 3
    assert figures["all"]["mAP"][0] == pytest.approx((1 + (1 + 2 / 3) / 2) / 2)
    assert figures["action"]["mAP"][0] == pytest.approx(1)
    assert figures["all"]["CP"][0] == pytest.approx(
        (2 / 3 + 0) / 2
    )  # at 0.5: three claims of the first, none of the second
    assert figures["all"]["OP"][0] == pytest.approx(2 / 3)
    assert figures["best"]["OR"][0] == pytest.approx(1)  # at 0.8 and 0.2
    assert measure(one, np.full(3, 0.25), samples=50)["all"]["OR"][0] == pytest.approx(3 / 4)
    assert per_tag(one) == {"tag 0": [1.0, 2], "tag 1": [pytest.approx(5 / 6), 2]}


def test_labels_never_trained_on_are_told_apart_and_unanswered_ones_left_out() -> None:
    trained = _scores(TRUTH, SAID, trained=np.array([1, 0, 0], bool), thresholds=np.full(3, np.inf, np.float32))
    figures = measure(trained, samples=50)
    assert figures["trained"]["mAP"][0] == 1
    assert figures["never_trained"]["mAP"][0] == pytest.approx(5 / 6)
    assert set(figures["all"]) == {"mAP"}  # it has no thresholds
    assert measure(_scores(TRUTH, SAID, answered=np.array([0, 1, 1], bool)), samples=50)["all"]["mAP"][
        0
    ] == pytest.approx(5 / 6)
    with pytest.raises(ScoresError, match="none of the labels"):
        measure(_scores(TRUTH, SAID, answered=np.zeros(3, bool)))


@given(st.integers(0, 2**32 - 1))
def test_a_difference_is_nothing_to_oneself_and_turns_round(seed: int) -> None:
    chance = np.random.default_rng(seed)
    truth = chance.random((12, 3)) < 0.5
    truth[0] = True
    one, other = (_scores(truth, chance.random((12, 3))) for _ in range(2))
    assert difference(one, one, samples=20) == [0, 0, 0]
    forth, back = difference(one, other, samples=20), difference(other, one, samples=20)
    assert forth == pytest.approx([-back[0], -back[2], -back[1]])
    assert not any(map(math.isnan, forth))


def test_different_sets_are_not_compared() -> None:
    with pytest.raises(ScoresError, match="different sets"):
        difference(_scores(TRUTH, SAID), _scores(TRUTH[:2], SAID[:2]))


def test_run_evaluation_and_ablation_tell_the_same_interval() -> None:
    chance = np.random.default_rng(0)
    truth = chance.random((60, 3)) < np.array([0.5, 0.3, 0.04])  # a tag of few images widens the interval
    before, after = (truth * signal + chance.normal(size=truth.shape) for signal in (0.5, 1.0))
    told = verdict(truth, after, before, samples=50)
    by_ablation = compare(truth, {"parsed": before[None], "cleaning": after[None]}, samples=50)["cleaning"]["more"]
    by_evaluation = difference(_scores(truth, after), _scores(truth, before), samples=50)
    assert by_ablation == pytest.approx([told.difference, told.low, told.high])
    assert by_evaluation == pytest.approx([told.difference, told.low, told.high])


def test_rows_of_an_ablation_are_compared_in_pairs() -> None:
    chance = np.random.default_rng(0)
    truth = chance.random((300, 6)) < 0.3
    noise = chance.normal(size=(3, *truth.shape))  # what the rows of a seed share
    rows = {name: truth * signal + noise for name, signal in (("parsed", 0.5), ("generation", 1.0), ("ceiling", 1.5))}
    found = compare(truth, rows, samples=100)
    for name, scores in rows.items():
        by_hand = [mean_average_precision(truth, one) for one in scores]
        assert found[name]["seeds"] == pytest.approx(by_hand)
        assert found[name]["mAP"] == pytest.approx(np.mean(by_hand))
        assert found[name]["spread"] == pytest.approx(np.std(by_hand, ddof=1))
    parsed, generation, ceiling = (found[name]["mAP"] for name in rows)
    assert found["parsed"]["more"] == [0, 0, 0]
    gained, low, high = found["generation"]["more"]
    assert gained == pytest.approx(generation - parsed)
    assert 0 < low < gained < high
    share, low, high = found["generation"]["gap_closed"]
    assert share == pytest.approx((generation - parsed) / (ceiling - parsed))
    assert low < share < high
    level = compare(truth, {**rows, "ceiling": rows["parsed"]}, samples=20)
    assert "gap_closed" not in level["generation"]  # there is no gap
    with pytest.raises(ValueError, match=r"\[2, 3\] seeds"):
        compare(truth, {"parsed": rows["parsed"], "ceiling": rows["ceiling"][:2]})
