"""The tagger as a user meets it: from the command line and from Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ram_engine import Tagger
from storage.store import Store
from tasks.images import read_image
from tests.conftest import ram_engine


@pytest.fixture(scope="module")
def photos(finished_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn pictures, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    store = Store(finished_store)
    pairs = next(iter(store.tables(store.snapshot("pairs"))))
    for number, image in enumerate(pairs["image"].to_pylist()[:3]):
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


def test_before_anything_is_trained_the_teacher_answers(photos: Path, tmp_path: Path) -> None:
    done = ram_engine("tag", str(photos / "0.png"), "--store", str(tmp_path / "none"))
    assert "nothing was trained" in done.stderr
    assert done.stdout.count(",") == 4
    failed = ram_engine("caption", str(photos / "0.png"), "--store", str(tmp_path / "none"), check=False)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr


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
    with pytest.raises(ValueError, match="nothing to explain"):
        Tagger.zero_shot().explain(path, every[0][:1])
