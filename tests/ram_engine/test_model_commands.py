"""Models in and out: official checkpoints, model folders with their cards, ONNX graphs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models import Tagger, label_queries, load_tagger, official, onnx_export, tagger_folder
from ram_engine import Tagger as EngineTagger
from ram_engine.answerers import Model
from tests.conftest import ram_engine
from tests.models.small import fixture, needs_shared, small_tagger
from tests.models.test_official import SPECIAL

onnxruntime = pytest.importorskip("onnxruntime")


def agrees(model: Tagger, folder: Path, batch: int, queries: torch.Tensor | None) -> bool:
    """Whether the graph says what the model says, to 1e-3."""
    images = torch.randn(batch, 3, model.config.image_size, model.config.image_size)
    with torch.inference_mode():
        expected = model.tag_logits(model.encode_image(images), queries)
    feed = {"images": images.numpy()} | ({} if queries is None else {"label_queries": queries.numpy()})
    (found,) = onnxruntime.InferenceSession(folder / onnx_export.GRAPH).run(None, feed)
    return found.shape == expected.shape and bool(np.abs(found - expected.numpy()).max() < 1e-3)


@pytest.mark.parametrize("architecture", ["ram", "tag2text"])
def test_an_exported_folder_is_a_tagger_of_any_labels_in_any_batch(architecture: str, tmp_path: Path) -> None:
    model = small_tagger(architecture).float()
    onnx_export.export(model, tmp_path)
    for batch, labels in ((1, 3), (3, 9)):
        queries = torch.randn(labels, 384) if architecture == "ram" else None
        assert agrees(model, tmp_path, batch, queries)
    if architecture == "ram":
        assert np.array_equal(np.load(tmp_path / onnx_export.QUERIES), model.label_queries.detach().numpy())
    tagger_folder.describe(model, tmp_path)
    answers_as(model, tmp_path, 1e-3)


@needs_shared
def test_an_imported_checkpoint_becomes_an_onnx_graph(tmp_path: Path) -> None:
    state = official.read(fixture("ram") / "checkpoint.pth")
    model = official.load(state, official.configuration(state, heads=4, decoder_heads=2, special_ids=SPECIAL))
    onnx_export.export(model, tmp_path)
    assert agrees(model, tmp_path, 3, model.label_queries.detach()[:7])


def test_the_best_model_is_exported_with_a_card(finished_store: Path, tmp_path: Path) -> None:
    done = ram_engine("export", str(tmp_path / "model"), "--store", str(finished_store))
    assert "ram_fine_tuned" in done.stdout
    card = (tmp_path / "model" / "README.md").read_text("utf-8")
    for expected in (
        "No difference shown: ",
        "against the known truth",
        "| all tags |",
        "active tags",
        "the sample world, seed 0",
        "What it is bad at",
    ):
        assert expected in card
    assert str(finished_store) not in card
    model = load_tagger(tmp_path / "model")
    done = ram_engine("export", str(tmp_path / "onnx"), "--format", "onnx", "--store", str(finished_store))
    names = {file.name for file in (tmp_path / "onnx").iterdir()}
    assert names == {"README.md", "config.json", "labels.json", "label_queries.npy", "model.onnx"}
    assert agrees(model, tmp_path / "onnx", 2, label_queries.build(["forklift", "pallet"]))


def test_rounded_weights_say_nearly_the_same(tmp_path: Path) -> None:
    model = small_tagger("ram").float()
    path = list(sys.path)
    onnx_export.export(model, tmp_path, int8=True)
    assert sys.path == path  # onnxruntime adds a folder with another package of the name 'models'
    tagger_folder.describe(model, tmp_path)
    assert "ONNX Runtime" in EngineTagger.from_pretrained(tmp_path).name
    answers_as(model, tmp_path, 0.05)


def answers_as(model: Tagger, folder: Path, tolerance: float) -> None:
    """An exported folder is a tagger that says what ``model`` says."""
    tagger = EngineTagger.from_pretrained(folder)
    size = model.config.image_size
    pictures = [np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8) for seed in range(3)]
    expected, found = EngineTagger(Model(model, "torch"))(pictures, threshold=0.0), tagger(pictures, threshold=0.0)
    for one, other in zip(expected, found, strict=True):
        scores = {tag.name: tag.score for tag in other}
        assert len(scores) == len(model.labels)
        assert all(abs(scores[tag.name] - tag.score) < tolerance for tag in one)
    if model.config.architecture == "ram":
        assert [tag.name for tag in tagger(pictures[0], ["forklift"])[0]] == ["forklift"]
    else:
        with pytest.raises(ValueError, match="its own tags only"):
            tagger(pictures[0], ["forklift"])
    with pytest.raises(ValueError, match="writes no captions"):
        tagger.captions(pictures)


def test_without_a_trained_model_there_is_nothing_to_export(tmp_path: Path) -> None:
    failed = ram_engine("export", str(tmp_path / "model"), "--store", str(tmp_path / "none"), check=False)
    assert failed.returncode == 1
    assert "no trained model to export" in failed.stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "the file is empty"), (b"<html>", "download it again"), (b"PK\x03\x04", "truncated or damaged")],
)
def test_a_file_that_is_no_checkpoint_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.pth").write_bytes(content)
    (tmp_path / "tags.txt").write_text("dog\ncat\n")
    failed = ram_engine(
        *("import-checkpoint", str(tmp_path / "wrong.pth")),
        *("--to", str(tmp_path / "model"), "--tags", str(tmp_path / "tags.txt")),
        check=False,
    )
    assert failed.returncode == 1
    assert said in failed.stdout.replace("\n", " ")
    assert not (tmp_path / "model").exists()
