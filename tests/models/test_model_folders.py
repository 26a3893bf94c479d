"""A model folder from elsewhere: what is wrong with it is said in a sentence, and it reads and asks nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from models import RAM, TaggerConfig, load_tagger, onnx_tagger, tagger_folder
from models.tagger_folder import ModelFolderError
from ram_engine.tagger import Tagger
from tests.faults import FAULTS
from tests.models.small import small_tagger
from tests.storage.test_store import JSON


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two model folders, ``ram`` and ``tag2text``."""
    folder = tmp_path_factory.mktemp("saved")
    for kind in ("ram", "tag2text"):
        tagger_folder.save(small_tagger(kind).float(), folder / kind)
    return folder


@pytest.fixture
def own(saved: Path, tmp_path: Path) -> Path:
    """A model folder that a test may change."""
    return Path(shutil.copytree(saved / "ram", tmp_path / "own"))


def description(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All but the weights, which a test may change."""
    folder = tmp_path_factory.mktemp("described")
    for name in ("config.json", "labels.json"):
        shutil.copy(saved / "ram" / name, folder)
    return folder


def configured(folder: Path, **changes: Any) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "labels.json", "tokenizer.json"])
@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "flipped"])
def test_a_fault_is_one_sentence_that_names_the_file(saved: Path, own: Path, fault: str, name: str) -> None:
    config = json.loads((saved / "tag2text/config.json").read_text()) | {"labels": 4}
    (saved / "tag2text/config.json").write_text(json.dumps(config))
    FAULTS[fault](own / name, saved / "tag2text" / name)
    if name in ("labels.json", "tokenizer.json") and fault == "swapped":  # both models have the same
        (own / name).write_text("[]")
    if name == "tokenizer.json" and fault in ("missing", "made_a_directory"):
        pytest.skip("a model that writes no captions has none")
    with pytest.raises((ModelFolderError, FileNotFoundError), match=name) as raised:
        Tagger.from_pretrained(own)
    assert "\n" not in str(raised.value)


@settings(max_examples=50)
@given(st.binary(max_size=40) | st.builds(lambda value: json.dumps(value).encode(), JSON), st.booleans())
def test_garbage_is_named(saved: Path, tmp_path_factory: pytest.TempPathFactory, content: bytes, labels: bool) -> None:
    folder, name = description(saved, tmp_path_factory), "labels.json" if labels else "config.json"
    (folder / name).write_bytes(content)
    with pytest.raises(ModelFolderError, match=name):
        tagger_folder.read_description(folder)


@settings(max_examples=50)
@given(st.sampled_from(sorted(json.loads(TaggerConfig().to_json()))), JSON)
def test_a_configuration_of_other_values_is_named_or_read(
    saved: Path, tmp_path_factory: pytest.TempPathFactory, field: str, value: object
) -> None:
    folder = configured(description(saved, tmp_path_factory), **{field: value})
    said = ""
    try:
        tagger_folder.read_description(folder)
    except ModelFolderError as error:
        said = str(error)
    assert not said or "config.json" in said


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden": 10**6},  # terabytes, which nothing may ask for
        {"hidden": 96},
        {"feed_forward": 10**9},
        {"decoder_layers": 10**9},
        {"decoder_layers": 1},
        {"decoder_heads": 7},
        {"query_width": 10**7},
        {"architecture": "tag2text"},
        {"captioner": None},
        {"image_encoder": "tf_efficientnet_lite1"},
        {"image_encoder": "vit_base_patch16_224"},
        {"image_encoder_options": {"depths": [10**9]}},
        {"image_encoder_options": {"embed_dim": 8}},
        {"image_size": 10**6},
        {"image_size": -1},
    ],
)
def test_a_configuration_of_another_model_takes_no_memory(own: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ModelFolderError, match=r"(config\.json|model\.safetensors) "):
        load_tagger(configured(own, **changes))


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.pop("label_queries"),
        lambda weights: weights.update(more=torch.zeros(1)),
        lambda weights: weights.update(label_queries=torch.zeros(5, 7)),
    ],
)
def test_weights_of_another_model_are_named(own: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(own / "model.safetensors")
    change(weights)
    save_file(weights, own / "model.safetensors")
    with pytest.raises(ModelFolderError, match=r"model\.safetensors has .*: they are of two models"):
        load_tagger(own)


ENCODERS: list[dict[str, object]] = [
    {"image_encoder": "hf-hub:owner/name"},
    {"image_encoder": "hf_hub:owner/name"},
    {"image_encoder": "local-dir:{folder}"},
    {"image_encoder": "{folder}"},
    {"image_encoder": ""},
    {"image_encoder": "no_such_model"},
    {"image_encoder_options": {"checkpoint_path": "{folder}/weights.pth"}},
    {"image_encoder_options": {"pretrained": True}},
    {"image_encoder_options": {"pretrained_cfg": "owner/name"}},
    {"image_encoder_options": {"pretrained_cfg_overlay": {"file": "{folder}/weights.pth"}}},
    {"image_encoder_options": {"cache_dir": "{folder}"}},
    {"image_encoder_options": {"num_heads": "{folder}"}},
    {"text_encoder": "{folder}"},
    {"text_encoder": "owner/name"},
    {"text_encoder": "hub:owner/name"},
    {"text_encoder": "../encoder"},
    {"text_encoder": ""},
    {"text_encoder": "open_clip:ViT-B-16:{folder}/weights.pt"},
    {"text_encoder": "open_clip:ViT-B-16:weights.pt"},
    {"text_encoder": "open_clip:hf-hub:owner/name"},
    {"text_encoder": "open_clip:local-dir:{folder}"},
    {"text_encoder": "open_clip:"},
    {"text_encoder": "open_clip:ViT-B-16\n"},
]


@pytest.mark.parametrize("named", ENCODERS)
def test_encoders_of_its_own_are_refused(own: Path, monkeypatch: pytest.MonkeyPatch, named: dict[str, object]) -> None:
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("an encoder was made"))
    named = json.loads(json.dumps(named).replace("{folder}", str(own)))
    with pytest.raises(ModelFolderError, match=r"config\.json names the (image|text) encoder"):
        RAM.from_pretrained(configured(own, **named))


@pytest.mark.parametrize("named", ["open_clip:ViT-B-16", "open_clip:ViT-B-32-quickgelu:laion400m_e31"])
def test_known_encoders_are_read(own: Path, named: str) -> None:
    assert tagger_folder.read_description(configured(own, text_encoder=named))[0].text_encoder == named


def test_a_stores_own_encoders_are_read(own: Path) -> None:
    named = configured(own, text_encoder="/encoders/mine")
    assert load_tagger(named, own_encoders=True).config.text_encoder == "/encoders/mine"


GRAPH_FAULTS = [
    (fault, name) for fault in ("cut", "emptied", "swapped") for name in ("model.onnx", "label_queries.npy")
]


@pytest.fixture(scope="module")
def exported(saved: Path) -> Path:
    pytest.importorskip("onnxscript")
    from models import onnx_export

    model = load_tagger(saved / "ram")
    onnx_export.export(model, saved / "onnx")
    tagger_folder.describe(model, saved / "onnx")
    return saved / "onnx"


@pytest.mark.soak
@pytest.mark.parametrize("name", ["model.onnx", "label_queries.npy"])
@pytest.mark.parametrize("fault", ["cut", "emptied", "swapped"])
def test_a_damaged_graph_is_named(exported: Path, tmp_path: Path, fault: str, name: str) -> None:
    own = Path(shutil.copytree(exported, tmp_path / "own"))
    FAULTS[fault](own / name, exported / "labels.json")
    with pytest.raises(ModelFolderError, match=name):
        Tagger.from_pretrained(own)


@pytest.mark.soak
def test_a_graph_reads_no_file_outside_of_its_folder(exported: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    own = Path(shutil.copytree(exported, tmp_path / "own"))
    graph = onnx.load(own / "model.onnx")
    weights = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    (tmp_path / "secret.bin").write_bytes(weights.raw_data)
    onnx.external_data_helper.set_external_data(weights, "../secret.bin", 0, len(weights.raw_data))
    weights.ClearField("raw_data")
    (own / "model.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(ModelFolderError, match=r"model\.onnx is no graph of a tagger"):
        Tagger.from_pretrained(own)
    with pytest.raises(Exception, match=r"(?i)external data"):
        onnx_tagger._onnx_runtime(own / "model.onnx", 1)
