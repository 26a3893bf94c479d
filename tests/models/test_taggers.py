from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models import PRESETS, RAM, Tag2Text, label_queries, load_tagger, tagger_folder
from models.config import TaggerConfig
from tests.models.small import LABELS, image_tokens, small_tagger


@pytest.mark.parametrize("architecture", ["ram", "tag2text"])
def test_some_labels_get_the_logits_they_get_among_all(architecture: str) -> None:
    model, tokens = small_tagger(architecture), image_tokens(3)
    everything = model.tag_logits(tokens)
    assert everything.shape == (3, 5)
    assert torch.allclose(model.tag_logits(tokens, tag_ids=torch.tensor([4, 1])), everything[:, [4, 1]])
    own = torch.tensor([[0], [2], [3]])
    assert torch.allclose(model.tag_logits(tokens, tag_ids=own), everything.gather(1, own))


def test_any_label_list_can_be_asked_for() -> None:
    model, tokens = small_tagger("ram"), image_tokens(2)
    queries = torch.cat([torch.randn(2, 384, dtype=torch.float64), model.label_queries[1:3]])
    logits = model.tag_logits(tokens, queries)
    assert logits.shape == (2, 4)
    assert torch.allclose(logits[:, 2:], model.tag_logits(tokens)[:, 1:3])
    with pytest.raises(ValueError, match="only the labels it was trained with"):
        small_tagger("tag2text").tag_logits(tokens, queries)


def test_an_image_weighs_the_descriptions_of_a_label() -> None:
    torch.manual_seed(0)
    config = replace(PRESETS["ram_plus_small"], labels=3, descriptions=4, hidden=64)
    queries = torch.nn.functional.normalize(torch.randn(3, 4, 384), dim=-1)
    model = RAM(config, label_queries=queries).double().eval()
    tokens = image_tokens(2)
    direction = torch.nn.functional.normalize(model.context(tokens)[:, 0], dim=-1)
    for image in range(2):
        weights = (model.description_scale.exp() * (model.label_queries @ direction[image])).softmax(-1)
        mixed = (weights[..., None] * model.label_queries).sum(1)
        alone = model.tag_logits(tokens[image : image + 1], mixed)
        assert torch.allclose(model.tag_logits(tokens)[image], alone[0])
    own = torch.tensor([[2], [0]])
    assert torch.allclose(model.tag_logits(tokens, tag_ids=own), model.tag_logits(tokens).gather(1, own))
    assert model(tokens, extra_queries=queries[:, 0].double()).extra_logits.shape == (2, 3)
    with pytest.raises(ValueError, match="one description a label"):
        RAM(replace(config, descriptions=1)).double().tag_logits(tokens, queries.double())


def test_descriptions_are_label_queries_of_three_dimensions(tmp_path: Path) -> None:
    texts = [["a barking animal", "a pet on a lead"], ["a red fruit", "a round thing to eat"]]
    queries = label_queries.described(texts)
    assert queries.shape == (2, 2, 384)
    assert torch.allclose(queries[1, 0], label_queries.build(["a red fruit"])[0], atol=1e-5)
    with pytest.raises(ValueError, match="as many descriptions"):
        label_queries.described([["one"], ["one", "two"]])


@pytest.mark.parametrize("architecture", ["ram", "tag2text"])
def test_attention_looks_at_the_token_that_answers_the_query(architecture: str) -> None:
    model, tokens = small_tagger(architecture), image_tokens(2)
    maps = model.tag_attention(tokens, torch.tensor([0, 3]))
    assert maps.shape == (2, 2, 7, 7)
    assert (maps >= 0).all()
    assert (maps.sum((2, 3)) < 1).all()
    # tokens are a row-by-row grid: two of them exchanged exchange their places in the map
    swapped = tokens.clone()
    swapped[:, [1 + 2 * 7 + 3, 1 + 5]] = tokens[:, [1 + 5, 1 + 2 * 7 + 3]]
    moved = model.tag_attention(swapped, torch.tensor([0, 3]))
    assert torch.allclose(moved[:, :, 2, 3], maps[:, :, 0, 5])


@pytest.mark.parametrize("architecture", ["ram", "tag2text"])
def test_without_decoder_layers_single_tokens_decide(architecture: str) -> None:
    model = small_tagger(architecture, decoder_layers=0)
    assert not any("recognition_decoder" in name for name, _ in model.named_parameters())
    tokens = image_tokens(2)
    equal = tokens[:, :1].expand(-1, 50, -1)
    one = torch.cat([tokens[:, :1], tokens[:, :1]], dim=1)
    assert torch.allclose(model.tag_logits(equal), model.tag_logits(one))  # whatever the number of tokens
    maps = model.tag_attention(tokens, torch.tensor([0, 3]))
    assert maps.shape == (2, 2, 7, 7)
    assert torch.allclose(maps.sum((2, 3)), torch.ones(2, 2, dtype=torch.float64))
    swapped = tokens.clone()
    swapped[:, [1 + 2 * 7 + 3, 1 + 5]] = tokens[:, [1 + 5, 1 + 2 * 7 + 3]]
    assert torch.allclose(model.tag_attention(swapped, torch.tensor([0, 3]))[:, :, 2, 3], maps[:, :, 0, 5])
    model.train()
    model(tokens).tag_logits.sum().backward()
    silent = [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None]
    assert all(name.startswith(("image_encoder", "captioner")) for name in silent), silent


def test_something_must_look_at_the_image() -> None:
    with pytest.raises(ValueError, match="needs token evidence"):
        RAM(TaggerConfig(decoder_layers=0, captioner=None, image_encoder="tf_efficientnet_lite0"))


def test_extra_queries_are_answered_in_the_same_pass() -> None:
    model, tokens = small_tagger("ram"), image_tokens(2)
    queries = torch.randn(3, 384, dtype=torch.float64)
    output = model(tokens, extra_queries=queries)
    assert torch.allclose(output.tag_logits, model.tag_logits(tokens))
    assert torch.allclose(output.extra_logits, model.tag_logits(tokens, queries))


def test_distillation_embedding_is_the_projected_mean_token() -> None:
    model, tokens = small_tagger("ram"), image_tokens(2)
    assert isinstance(model, RAM)
    assert torch.allclose(model.distillation_embedding(tokens), model(tokens).distillation_embedding)


@pytest.mark.parametrize("architecture", ["ram", "tag2text"])
def test_shared_weights_stay_shared_in_a_folder(architecture: str, tmp_path: Path) -> None:
    model, tokens = small_tagger(architecture).float(), image_tokens(2).float()
    model.save_pretrained(tmp_path)
    for loaded in (load_tagger(tmp_path), type(model).from_pretrained(tmp_path)):
        assert type(loaded) is type(model)
        assert loaded.labels == LABELS
    model.save_pretrained(tmp_path / "again")
    weights = tmp_path / "model.safetensors"
    assert (tmp_path / "again" / weights.name).read_bytes() == weights.read_bytes()
    names = load_file(weights).keys()
    assert len(names) < len(model.state_dict())  # shared weights are written once
    assert names < model.state_dict().keys()
    for loaded in (load_tagger(tmp_path), type(model).from_pretrained(tmp_path)):
        assert loaded.config == model.config
        assert not loaded.training
        assert torch.equal(loaded.tag_logits(tokens), model.tag_logits(tokens))
        assert loaded.generate_captions(tokens) == model.generate_captions(tokens)
        assert loaded.captioner is not None
        first = loaded.captioner.tag_encoder.encoder.layers()[0]
        decoder = loaded.recognition_decoder.encoder.layers()[0]
        assert first.crossattention.self.query.weight is decoder.crossattention.self.query.weight
        assert first.output.dense.weight is decoder.output.dense.weight
        predictions = loaded.captioner.text_decoder.cls["predictions"]
        assert predictions.decoder.weight is loaded.captioner.text_decoder.bert.embeddings.word_embeddings.weight


def test_thresholds_default_and_are_kept(tmp_path: Path) -> None:
    model = small_tagger("tag2text")
    assert model.thresholds().tolist() == pytest.approx([0.5, 0.5, 0.5, 0.3, 0.5])
    model.set_thresholds([0.1, 0.2, 0.3, 0.4, 0.5])
    tagger_folder.save(model, tmp_path)
    assert load_tagger(tmp_path).thresholds().tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model folder: model\.safetensors, config\.json"):
        load_tagger(tmp_path)
    with pytest.raises(ValueError, match="unknown \\['colour'\\]"):
        TaggerConfig.from_json('{"colour": "red"}')
    with pytest.raises(ValueError, match="150 labels, but 5 are given"):
        Tag2Text(TaggerConfig(architecture="tag2text", image_encoder="resnet10t", labels=150), LABELS)
    with pytest.raises(ValueError, match="label queries have shape"):
        RAM(TaggerConfig(image_encoder="resnet10t", labels=5, captioner=None), LABELS, label_queries=torch.ones(5, 3))
