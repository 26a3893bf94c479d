"""The real groundingdino-py, on a small configuration with random weights and a small BERT made here."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.regions import GroundingDinoProposer, grounding_dino
from models.sentence_encoder import minilm_folder
from storage.store import Store
from tests.conftest import ram_engine

SMALL = "\nenc_layers = 1\ndec_layers = 1\nnum_queries = 20\ndim_feedforward = 32\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration file, a checkpoint in the official layout and a text encoder."""
    from groundingdino.util.slconfig import SLConfig
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    sizes = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    BertModel(sizes).save_pretrained(folder / "bert")
    BertTokenizerFast(str(minilm_folder() / "vocab.txt"), do_lower_case=True).save_pretrained(folder / "bert")
    official = files("groundingdino.config").joinpath("GroundingDINO_SwinT_OGC.py").read_text("utf-8")
    (folder / "small.py").write_text(official + SMALL, encoding="utf-8")
    arguments = SLConfig.fromfile(str(folder / "small.py"))
    arguments.text_encoder_type = str(folder / "bert")
    model = grounding_dino.build(arguments)
    model.transformer.decoder.norm.weight.mul_(0.02)  # random weights are sure of everything: no score would differ
    torch.save({"model": {f"module.{name}": value for name, value in model.state_dict().items()}}, folder / "dino.pth")
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> object:
    return grounding_dino.load(folder / "dino.pth", str(folder / "small.py"), str(folder / "bert"))


def pictures() -> list[Image.Image]:
    chance = np.random.default_rng(0)
    sizes = ((60, 90), (90, 60), (64, 90), (50, 50))
    return [Image.fromarray(chance.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in sizes]


def test_a_batch_gives_what_single_pictures_give(model: object) -> None:
    prompts = {0: "dog", 1: "hot dog", 2: "traffic light"}
    proposer = GroundingDinoProposer(model, prompts, threshold=0.0, long_edge=96, batch=3)
    tags = [[0, 1], [2], [2, 0, 1], []]
    together = proposer.propose(pictures(), tags)
    alone = [proposer.propose([picture], [asked])[0] for picture, asked in zip(pictures(), tags, strict=True)]
    assert together[3] == []
    for found, expected, asked in zip(together, alone, tags, strict=True):
        assert list(dict.fromkeys(one.tag_id for one in found)) == asked
        assert [one.tag_id for one in found] == [one.tag_id for one in expected]
        for one, other in zip(found, expected, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-3)
            assert one.box == pytest.approx(other.box, abs=1e-3)
    assert proposer.propose(pictures(), [[]] * 4) == [[]] * 4
    none = GroundingDinoProposer(model, prompts, threshold=1.1, long_edge=96)
    assert none.propose(pictures()[:1], [[0]]) == [[]]


def test_half_precision_sees_nearly_the_same(model: object) -> None:
    prompts = {0: "dog", 1: "hot dog"}
    full, half = (
        GroundingDinoProposer(model, prompts, threshold=0.0, long_edge=96, half_precision=half).look(
            (64, 96), pictures()[:1], GroundingDinoProposer(model, prompts).texts([0, 1])
        )
        for half in (False, True)
    )
    assert half[0].dtype == half[1].dtype == torch.float32
    # the same queries need not win, but most boxes stay where they were
    assert (half[0] - full[0]).abs().median() < 0.05
    assert not torch.equal(half[1], full[1])


def test_a_strip_is_enlarged_until_every_query_has_a_place(model: object, monkeypatch: pytest.MonkeyPatch) -> None:
    strip = Image.new("RGB", (1000, 12))
    asks = model.num_queries  # type: ignore[attr-defined]
    assert grounding_dino.places(32, 32, 4) == 16 + 4 + 1 + 1
    monkeypatch.setattr(model, "num_queries", 100)
    height, width = GroundingDinoProposer(model, {0: "dog"}, long_edge=32)._shape(strip)
    assert grounding_dino.places(height, width, 4) >= 100 > asks
    assert width > 4 * height


def test_weights_may_come_from_the_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    asked: list[tuple[str, str]] = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(folder / "dino.pth")

    monkeypatch.setattr(grounding_dino, "hf_hub_download", download)
    grounding_dino.load("hub:owner/name/weights/dino.pth", str(folder / "small.py"), str(folder / "bert"))
    assert asked == [("owner/name", "weights/dino.pth")]


def test_spans_are_the_phrases_that_the_package_reads(model: object) -> None:
    from groundingdino.util.utils import get_phrases_from_posmap

    prompts = dict(enumerate(["dog", "hot dog", "Traffic light.", "sheepdog", "fire hydrant", "t-shirt"]))
    (text,) = GroundingDinoProposer(model, prompts).texts(list(prompts))
    tokenizer = model.tokenizer  # type: ignore[attr-defined]
    for tag, span in text.spans.items():
        said = torch.zeros(256, dtype=torch.bool)
        said[list(span)] = True
        phrase = get_phrases_from_posmap(said, tokenizer(text.text), tokenizer)
        assert phrase.replace(" ", "") == prompts[tag].lower().rstrip(".").replace(" ", "")


def test_many_tags_are_asked_for_in_few_texts(model: object) -> None:
    prompts = {number: f"thing number {number}" for number in range(300)}
    prompts[300] = "word " * 400  # no text holds it
    texts = GroundingDinoProposer(model, prompts).texts(list(prompts))
    assert sorted(tag for text in texts for tag in text.spans) == list(range(300))
    sizes = [len(model.tokenizer(text.text)["input_ids"]) for text in texts]  # type: ignore[attr-defined]
    assert max(sizes) <= grounding_dino.LONGEST_TEXT
    assert len(texts) <= -(-sum(sizes) // grounding_dino.LONGEST_TEXT) + 1


def test_a_checkpoint_that_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    torch.save({"model": {"feat_map.bias": torch.zeros(256)}}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match="does not fit the configuration"):
        grounding_dino.load(tmp_path / "part.pth", str(folder / "small.py"), str(folder / "bert"))


def test_the_detector_grounds_by_configuration_alone(folder: Path, copied_store: Path) -> None:
    arguments = ("run", "--preset", "tiny", "--store", str(copied_store), "--proposer", "grounding_dino")
    failed = ram_engine(*arguments, check=False)
    assert "ground.proposer.checkpoint is missing" in failed.stdout
    ram_engine(
        *("run", "--preset", "tiny", "--store", str(copied_store), "--until", "judge"),
        *("--proposer", f"grounding_dino:{folder / 'dino.pth'}"),
        *("--set", f"ground.proposer.configuration={folder / 'small.py'}"),
        *("--set", f"ground.proposer.text_encoder={folder / 'bert'}"),
        *("--set", "ground.proposer.threshold=0.0", "--set", "ground.proposer.long_edge=64"),
    )
    store = Store(copied_store)
    regions = store.table(store.snapshot("regions")).to_pylist()
    assert len(regions) > 100
    assert all(0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 for x0, y0, x1, y1 in (row["box"] for row in regions))
    assert store.snapshot("tag_verdicts").inputs["regions"] == store.snapshot("regions").name
