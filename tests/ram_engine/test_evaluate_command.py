"""`ram-engine evaluate` with real models on real and drawn pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from models import Label, label_queries
from ram_engine.scorers import scorer
from storage.images import with_files
from storage.store import Store
from tests.conftest import ram_engine, shared


@pytest.fixture
def drawn(finished_store: Path, tmp_path: Path) -> Path:
    """The sample's test pictures as an evaluation set by CSV."""
    store = Store(str(finished_store), create=False)
    parts = with_files(store, store.snapshot("pairs"), store.snapshot("images"), ("image_id", "captions", "split"))
    (tmp_path / "images").mkdir()
    with open(tmp_path / "captions.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption"])
        for pair in (pair for part in parts for pair in part.to_pylist()):
            if pair["split"] == "test":
                (tmp_path / "images" / f"{pair['image_id']}.png").write_bytes(pair["image"]["bytes"])
                writer.writerows([f"{pair['image_id']}.png", caption] for caption in pair["captions"])
    return tmp_path


def test_models_side_by_side_and_again_without_them(drawn: Path, finished_store: Path) -> None:
    both = ["--model", "store", "--model", "conse", "--store", str(finished_store), "--samples", "50"]
    kept = ["--scores", str(drawn / "scores"), "--json"]
    (drawn / "images" / "broken.png").write_bytes(b"no picture")
    with open(drawn / "captions.csv", "a", encoding="utf-8") as file:
        file.write("broken.png,A dog.\nnowhere.png,A dog.\n")
    done = ram_engine("evaluate", "--data", f"csv:{drawn / 'captions.csv'}", *both, *kept)
    assert "1 x image that is not in the folder" in done.stderr
    found = json.loads(done.stdout)
    (store, conse) = found.values()
    low_to_high = [store["figures"]["all"]["mAP"][at] for at in (1, 0, 2)]
    assert low_to_high == sorted(low_to_high)
    assert 0 < low_to_high[1] < 1
    assert 0 <= store["figures"]["all"]["OF1"][0] <= store["figures"]["best"]["OF1"][0] + 0.2
    assert "OF1" not in conse["figures"]["all"]  # a teacher has no thresholds
    assert len(conse["less_the_first"]) == 3
    again = ram_engine("evaluate", *kept, "--samples", "50", "--threshold", "0.01")
    moved = json.loads(again.stdout)[next(iter(found))]
    assert moved["figures"]["all"]["mAP"] == store["figures"]["all"]["mAP"]
    assert moved["figures"]["all"]["OR"][0] > store["figures"]["all"]["OR"][0]
    table = ram_engine("evaluate", "--scores", str(drawn / "scores"), "--samples", "10")
    assert "less the first" in table.stdout
    assert "the best thresholds" in table.stdout


def test_any_clip_is_a_row(clip_encoder: str, drawn: Path, finished_store: Path) -> None:
    options = ["--data", f"csv:{drawn / 'captions.csv'}", "--store", str(finished_store), "--model", clip_encoder]
    options += ["--scores", str(drawn / "scores")]
    (found,) = json.loads(ram_engine("evaluate", *options, "--samples", "10", "--json").stdout).values()
    assert 0 < found["figures"]["all"]["mAP"][0] < 1
    # the similarities are open_clip's own
    labels = [Label("dog", "object"), Label("red", "attribute")]
    _, architecture, weights = clip_encoder.split(":", 2)
    model, _, prepare = open_clip.create_model_and_transforms(architecture, pretrained=weights)
    with Image.open(next((drawn / "images").iterdir())) as picture, torch.inference_mode():
        own = scorer(clip_encoder, labels, "").score([picture.convert("RGB")])
        image = model.eval().encode_image(prepare(picture)[None], normalize=True)
        texts = label_queries.build([label.name for label in labels], clip_encoder)
    np.testing.assert_allclose(own, (image @ texts.T).numpy(), atol=1e-3)


def test_the_models_figures_are_those_of_the_stage(finished_store: Path, drawn: Path) -> None:
    """On the same pictures the command ranks the tags as the stage `evaluate` did."""
    store = Store(str(finished_store), create=False)
    predictions = store.table(store.snapshot("predictions"))
    stage = {row["image_id"]: row["scores"] for row in predictions.to_pylist() if row["model"] == "cleaning"}
    folder = store.model_folder(store.snapshot("ram"))
    ram_engine(
        "evaluate", "--data", f"csv:{drawn / 'captions.csv'}", "--model", str(folder), "--store", str(finished_store),
        "--scores", str(drawn / "scores"), "--samples", "10",
    )  # fmt: skip
    from tasks.evaluation.scores import Scores

    (file,) = (drawn / "scores").glob("*.safetensors")
    found = Scores.load(file)
    assert found.trained.all()
    for image, row in zip(found.images, found.scores, strict=True):
        assert row.tolist() == pytest.approx(stage[Path(image).stem], abs=0.02)  # tokens of the stage are float16


def test_a_detector_tags_photographs(tmp_path: Path) -> None:
    photographs, detector = shared("data/flickr8k"), shared("data/detector/yolox_nano.onnx")
    classes = tmp_path / "classes.txt"
    names = detector.with_name("coco_classes.txt").read_text(encoding="utf-8").splitlines()
    classes.write_text(
        "\n".join("person, man, woman" if name == "person" else name for name in names), encoding="utf-8"
    )
    lines = (photographs / "captions.csv").read_text(encoding="utf-8").splitlines()[:101]
    (tmp_path / "few.csv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "tags.txt").write_text("dog\nman\ntree\n", encoding="utf-8")
    done = ram_engine(
        "evaluate", "--data", f"csv:{tmp_path / 'few.csv'}", "--images", str(photographs / "images"), "--tags",
        str(tmp_path / "tags.txt"), "--model", f"detector:{detector},{classes}", "--scores", str(tmp_path / "scores"),
        "--store", str(tmp_path / "none"), "--samples", "20", "--json",
    )  # fmt: skip
    (found,) = json.loads(done.stdout).values()
    assert set(found["tags"]) == {"dog", "man"}  # it knows no trees
    assert found["tags"]["dog"][0] > 0.8
    assert found["figures"]["all"]["OF1"][0] > 0.5


def test_errors_are_for_people(tmp_path: Path) -> None:
    assert "does not exist" in ram_engine("evaluate", "--data", "csv:none.csv", check=False).stdout
    assert "no scores yet" in ram_engine("evaluate", "--scores", str(tmp_path), check=False).stdout
    (tmp_path / "a.csv").write_text("image,tag\n", encoding="utf-8")
    assert "say ram:FILE" in ram_engine("evaluate", "--data", f"xml:{tmp_path / 'a.csv'}", check=False).stdout
