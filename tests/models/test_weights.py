"""Weights of the hub: from the cache where they are, one sentence where they are not, never for a typing error."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
from huggingface_hub import constants

from models import label_queries, weights
from models.tagger import Tagger
from tests.conftest import SMALL_CLIP


def test_only_a_name_asks_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "ram").mkdir(parents=True)
    (tmp_path / "models" / "ram" / "config.json").write_text("{}")
    monkeypatch.setattr(weights, "hub_in_reach", lambda: pytest.fail("the hub was asked"))
    assert weights.model_folder("models/ram") == Path("models/ram")
    for mistyped in ("models/rma", "./models/rma", "/nowhere/ram", "ram", "owner/name", "a/b/c", "models/ram/whole/x"):
        with pytest.raises(FileNotFoundError, match="there is no model folder"):
            Tagger.from_pretrained(mistyped)
    with pytest.raises(FileNotFoundError, match=r"models has ram"):
        weights.model_folder("models/rma")


def test_offline_a_name_costs_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(weights, "hub_in_reach", lambda: False)
    with pytest.raises(weights.WeightsError, match="owner/name is not in the cache; the hub is not asked"):
        weights.model_folder("hub:owner/name")
    with pytest.raises(FileNotFoundError, match="write hub:OWNER/NAME"):
        weights.model_folder("hub:name")
    with pytest.raises(weights.WeightsError, match=r"open_clip:ViT-B-16 is needed.*or name a file of its weights"):
        label_queries.embed(["dog"], "open_clip:ViT-B-16")
    with pytest.raises(weights.WeightsError, match=r"all-mpnet-base-v2 is not in the cache"):
        label_queries.embed(["dog"], "sentence-transformers/all-mpnet-base-v2")
    with pytest.raises(ValueError, match=r"no weights 'opnai' of ViT-B-16.*it has: openai"):
        label_queries.embed(["dog"], "open_clip:ViT-B-16:opnai")


def test_the_hub_is_asked_once_and_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    weights.hub_in_reach.cache_clear()
    assert not weights.hub_in_reach()
    assert "127.0.0.1:9) cannot be reached" in weights.no_hub()
    weights.hub_in_reach.cache_clear()


def test_cached_weights_of_a_clip_need_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, tag = "ViT-64-wide-cached", "tests"
    (tmp_path / f"{name}.json").write_text(json.dumps(SMALL_CLIP))
    open_clip.add_model_config(tmp_path)
    known = {"hf_hub": "owner/small-clip/", "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5)}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, {tag: known})
    monkeypatch.setattr(weights, "hub_in_reach", lambda: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert weights.clip_checkpoint(name, tag)[0] is None
    repository = tmp_path / "hub" / "models--owner--small-clip"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    torch.save(open_clip.create_model(name).state_dict(), snapshot / "open_clip_pytorch_model.bin")
    model = label_queries.open_clip_model(f"open_clip:{name}:{tag}")
    assert model.visual.preprocess_cfg["mean"] == (0.1, 0.2, 0.3)
