from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from models import CaptionTokenizer, Label, load_tagger, official
from tests import parity
from tests.models.small import fixture, needs_shared

KINDS = ["ram", "tag2text"]
HEADS = {"ram": {"heads": 4, "decoder_heads": 2}, "tag2text": {"heads": 4, "decoder_heads": 4}}
SPECIAL = {"pad_id": 0, "end_id": 3, "caption_id": 398, "tags_id": 399}


@needs_shared
@pytest.mark.parametrize("kind", KINDS)
def test_parity_with_the_authors_code(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main([str(fixture(kind))]) == 0
    assert "greedy" in capsys.readouterr().out


@needs_shared
def test_parity_fails_where_a_weight_is_off(tmp_path: Path) -> None:
    folder = shutil.copytree(fixture("ram"), tmp_path / "changed", copy_function=shutil.copyfile)
    state = official.read(folder / "checkpoint.pth")
    state["fc.bias"] += 0.001
    torch.save({"model": state}, folder / "checkpoint.pth")
    assert parity.main([str(folder)]) == 1


def official_tokenizer(size: int) -> CaptionTokenizer:
    words = [f"w{i}" for i in range(size)]
    words[0], words[1], words[3], words[398], words[399] = "[PAD]", "[UNK]", "[SEP]", "[DEC]", "[ENC]"
    return CaptionTokenizer.of_words(words)


@needs_shared
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_becomes_a_model_folder(kind: str, tmp_path: Path) -> None:
    checkpoint = fixture(kind) / "checkpoint.pth"
    names = 60 if kind == "ram" else 50
    labels = [Label(f"tag {i}", threshold=0.6) for i in range(names)]
    model = official.import_checkpoint(checkpoint, tmp_path, labels, official_tokenizer(400), **HEADS[kind])
    loaded = load_tagger(tmp_path)
    images = torch.randn(1, 3, 224, 224)
    tokens = loaded.encode_image(images)
    assert torch.equal(loaded.tag_logits(tokens), model.tag_logits(tokens))
    assert loaded.labels == labels
    assert loaded.generate_captions(tokens) == model.generate_captions(tokens)
    with pytest.raises(official.CheckpointError, match="but 1 names are given"):
        official.import_checkpoint(checkpoint, tmp_path, labels[:1], official_tokenizer(400))
    with pytest.raises(official.CheckpointError, match="vocabulary has 400 words"):
        official.import_checkpoint(checkpoint, tmp_path, labels)


@needs_shared
def test_position_tables_are_resized_for_another_resolution() -> None:
    state = official.read(fixture("ram") / "checkpoint.pth")
    config = official.configuration(state, image_size=384, heads=4, decoder_heads=2, special_ids=SPECIAL)
    assert config.image_encoder_options["window_size"] == 12
    model = official.load(state, config)
    table = model.image_encoder.backbone.layers[0].blocks[0].attn.relative_position_bias_table
    assert table.shape == (23 * 23, 1)
    with torch.inference_mode():
        assert model.encode_image(torch.randn(1, 3, 384, 384)).shape == (1, 145, 192)


@needs_shared
def test_the_legacy_prefix_is_known() -> None:
    state = official.read(fixture("tag2text") / "checkpoint.pth")
    legacy = {name.replace("tagging_head.", "vision_multi."): value for name, value in state.items()}
    config = official.configuration(legacy, heads=4, special_ids=SPECIAL)
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        models = [official.load(each, config) for each in (state, legacy)]
        first, second = (model.tag_logits(model.encode_image(images)) for model in models)
    assert torch.equal(first, second)


@needs_shared
def test_missing_and_left_over_tensors_are_named() -> None:
    state = official.read(fixture("ram") / "checkpoint.pth")
    config = official.configuration(state, heads=4, decoder_heads=2, special_ids=SPECIAL)
    lacking = {name: value for name, value in state.items() if name != "image_proj.bias"}
    with pytest.raises(official.CheckpointError, match=r"image_projection\.bias"):
        official.load(lacking, config)
    with pytest.raises(official.CheckpointError, match="surplus"):
        official.load({**state, "surplus": torch.ones(1)}, config)


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (Path.touch, (self.marker,))


def test_reading_runs_no_code(tmp_path: Path) -> None:
    file, marker = tmp_path / "evil.pth", tmp_path / "marker"
    torch.save({"model": {"x": torch.ones(1)}, "extra": Evil(marker)}, file)
    with pytest.raises(official.CheckpointError, match="more than tensors"):
        official.read(file)
    assert not marker.exists()
    torch.load(file, weights_only=False)  # the file is what it says: read carelessly it does run
    assert marker.exists()


WRONG_FILES = {
    "empty": (b"", "the file is empty"),
    "web page": (b"<!DOCTYPE html><html>", "web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "link to a file"),
    "archive": (b"PK\x03\x04" + b"\0" * 50, "truncated or damaged"),
    "safetensors": (b"\x40\0\0\0\0\0\0\0{" + b'"a":1}' + b" " * 60, "safetensors"),
    "text": (b"hello there, this is text", "expected a PyTorch checkpoint|more than tensors"),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_wrong_file_is_named(kind: str, tmp_path: Path) -> None:
    content, message = WRONG_FILES[kind]
    file = tmp_path / "wrong.pth"
    file.write_bytes(content)
    with pytest.raises(official.CheckpointError, match=message):
        official.read(file)
    with pytest.raises(official.CheckpointError, match="no such file"):
        official.read(tmp_path / "nothing.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3}, "a dictionary with the keys \\['epoch'\\]"),
        ([1, 2], "a list"),
        ({"model": {"patch_embed.proj.weight": torch.ones(1)}}, "an image encoder alone"),
        ({"model": {"conv1.weight": torch.ones(1)}}, "another model \\(its first tensors: conv1.weight\\)"),
        ({"reweight_scale": torch.ones(1)}, "RAM\\+\\+"),
    ],
)
def test_another_checkpoint_is_named(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(official.CheckpointError, match=message):
        official.read(tmp_path / "other.pth")


def test_the_authors_label_lists(tmp_path: Path) -> None:
    (tmp_path / "tags.txt").write_text("dog\nfire truck\n")
    (tmp_path / "thresholds.txt").write_text("0.65\n 0.7")
    labels = official.labels_from_files(tmp_path / "tags.txt", tmp_path / "thresholds.txt")
    assert labels == [Label("dog", threshold=0.65), Label("fire truck", threshold=0.7)]
    (tmp_path / "thresholds.txt").write_text("0.65")
    with pytest.raises(official.CheckpointError, match="1 thresholds for the 2 tags"):
        official.labels_from_files(tmp_path / "tags.txt", tmp_path / "thresholds.txt")
