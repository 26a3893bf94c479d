"""The tagger as a user meets it: from the command line and from Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import RAM, Label, official, small_config
from ram_engine import Tagger
from ram_engine.answerers import Model
from ram_engine.explain import beyond
from storage.store import Store
from tasks.images.decoding import read_image
from tests.conftest import ram_engine
from tests.models.small import fixture, needs_shared
from tests.models.test_official import HEADS, official_tokenizer


@pytest.fixture(scope="module")
def photos(finished_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn pictures, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    store = Store(finished_store)
    images = next(iter(store.tables(store.snapshot("images"))))
    for number, image in enumerate(images["image"].to_pylist()[:3]):
        (folder / f"{number}.png").write_bytes(read_image(image))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 cut off")
    return folder


def test_a_folder_is_tagged_and_what_cannot_be_read_is_told(finished_store: Path, photos: Path, tmp_path: Path) -> None:
    done = ram_engine(
        *("tag", str(photos), "--store", str(finished_store), "--json", "--threshold", "0"),
        *("--explain", str(tmp_path / "seen")),
        check=False,
    )
    assert done.returncode == 1
    assert "broken.jpg: skipped" in done.stderr
    assert "ram_fine_tuned" in done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(row["image"]).name for row in rows] == ["0.png", "1.png", "2.png"]
    scores = [tag["score"] for tag in rows[0]["tags"]]
    assert scores == sorted(scores, reverse=True)
    drawn = Image.open(tmp_path / "seen" / "0.png")
    assert drawn.height > drawn.width
    assert len(np.unique(np.asarray(drawn).reshape(-1, 3), axis=0)) > 1000


def test_any_label_is_scored(finished_store: Path, photos: Path) -> None:
    done = ram_engine("tag", str(photos / "0.png"), "--store", str(finished_store), "--labels", "forklift, pallet")
    assert "forklift" in done.stdout
    assert "pallet" in done.stdout


def test_before_anything_is_trained_everyday_words_answer(photos: Path, tmp_path: Path) -> None:
    none = ("--store", str(tmp_path / "none"))
    done = ram_engine("tag", str(photos / "0.png"), *none, "--threshold", "0", "--explain", str(tmp_path))
    assert "nothing was trained" in done.stderr
    assert "dog 0." in done.stdout
    assert Image.open(tmp_path / "0.png").width > 240
    done = ram_engine("tag", str(photos / "0.png"), *none, "--labels", "forklift, laptop computer")
    assert "forklift 0." in done.stdout
    assert "no class is called laptop computer" in done.stderr
    failed = ram_engine("caption", str(photos / "0.png"), *none, check=False)
    assert failed.returncode == 1
    assert "nothing writes captions yet" in failed.stdout
    assert len(failed.stdout.splitlines()) == 1


def test_a_model_that_tags_only_says_what_gives_a_captioner() -> None:
    tagger = Tagger(Model(RAM(small_config("ram", 3)), "baseline of runs/mine"))
    with pytest.raises(ValueError, match=r"the baseline of runs/mine tags only.*effort=thorough.*import-checkpoint"):
        tagger.captions([Image.new("RGB", (32, 32))])


@needs_shared
def test_an_imported_ram_answers_for_its_labels_without_a_text_encoder(photos: Path, tmp_path: Path) -> None:
    labels = [Label(f"tag {number}") for number in range(60)]
    model = tmp_path / "ram"
    official.import_checkpoint(
        fixture("ram") / "checkpoint.pth", model, labels, official_tokenizer(400), **HEADS["ram"]
    )
    config = json.loads((model / "config.json").read_text()) | {"text_encoder": "open_clip:ViT-B-16"}
    (model / "config.json").write_text(json.dumps(config))
    of = ("tag", str(photos / "0.png"), "--model", str(model), "--json", "--labels")
    (row,) = map(json.loads, ram_engine(*of, "tag 3, tag 7").stdout.splitlines())
    picture = Tagger.from_pretrained(model)(photos / "0.png", threshold=0.0)[0]
    assert {tag["name"]: tag["score"] for tag in row["tags"]} == {
        tag.name: pytest.approx(tag.score) for tag in picture if tag.name in ("tag 3", "tag 7")
    }
    failed = ram_engine(*of, "tag 3, forklift", check=False)
    assert failed.returncode == 1
    assert "open_clip:ViT-B-16 is needed" in failed.stdout
    assert len(failed.stdout.splitlines()) == 1


def test_maps_that_all_labels_share_tell_no_place() -> None:
    rng = np.random.default_rng(0)
    usual = np.zeros((7, 7))
    usual[3, 3] = 1.0  # where every label looks
    dog = usual.copy()
    dog[1, 5] = 1.0
    seen, told = beyond(np.stack([usual * 3, usual + 1e-4 * rng.random((7, 7)), dog]), usual)
    assert told == [False, False, True]
    assert np.unravel_index(seen[2].argmax(), (7, 7)) == (1, 5)
    flat = np.full((2, 7, 7), 0.5)
    flat[1, 0, 0] = 20
    assert beyond(flat, np.zeros((7, 7)))[1] == [False, True]


def test_the_baseline_writes_captions(finished_store: Path, photos: Path) -> None:
    done = ram_engine("caption", str(photos / "*.png"), "--store", str(finished_store), "--json")
    assert len({json.loads(line)["image"] for line in done.stdout.splitlines()}) == 3


def test_in_python_paths_pictures_arrays_and_bytes_are_the_same(finished_store: Path, photos: Path) -> None:
    tagger = Tagger.from_store(str(finished_store))
    path = photos / "0.png"
    picture = Image.open(path)
    every = tagger([path, picture, np.asarray(picture), path.read_bytes()], threshold=0.0)
    first, *others = ({(tag.name, tag.type): tag.score for tag in tags} for tags in every)
    assert all(scores == pytest.approx(first, abs=1e-5) for scores in others)
    assert tagger(path, threshold=0.0) == tagger(np.asarray(picture), threshold=0.0)
    assert tagger([path], labels=["unicorn"])[0][0].name == "unicorn"
