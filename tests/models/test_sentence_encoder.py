"""The packaged sentence encoder gives what sentence-transformers makes of the same weights."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from models import label_queries
from models.sentence_encoder import minilm, minilm_folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of one's own with the packaged model in it."""
    return Path(shutil.copytree(minilm_folder(), tmp_path / "own"))


class Planted:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def test_a_folder_of_ones_own_is_read(own: Path) -> None:
    texts = ["dog", "ice cream"]
    torch.testing.assert_close(label_queries.embed(texts, str(own)), minilm().encode(texts), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "type_",
    [
        "evil.Transformer",
        "sentence_transformers.models.Router",
        "sentence_transformers_evil.Transformer",
        "subprocess.Popen",
        "Transformer",
        None,
    ],
)
def test_a_model_that_brings_code_is_refused(own: Path, tmp_path: Path, type_: str | None) -> None:
    mark = tmp_path / "mark"
    (own / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Transformer: pass\n")
    modules = json.loads((own / "modules.json").read_text())
    (own / "modules.json").write_text(json.dumps([*modules, {"idx": 9, "name": "9", "path": "", "type": type_}]))
    with pytest.raises(ValueError, match="which may run code"):
        label_queries.embed(["dog"], str(own))
    assert not mark.exists()


@pytest.mark.parametrize("content", ["", "{", "[1]", "[{}]", '{"a": 1}'])
def test_a_list_of_modules_that_is_none_is_refused(own: Path, content: str) -> None:
    (own / "modules.json").write_text(content)
    with pytest.raises(ValueError, match="does not list a model's modules"):
        label_queries.embed(["dog"], str(own))


@pytest.mark.parametrize("pickled", [False, True])
def test_code_beside_the_weights_and_in_them_does_not_run(own: Path, tmp_path: Path, pickled: bool) -> None:
    mark = tmp_path / "mark"
    (own / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Model: pass\nclass Config: pass\n")
    config = json.loads((own / "config.json").read_text())
    asked = {"auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}, "trust_remote_code": True}
    (own / "config.json").write_text(json.dumps(config | asked))
    bert = json.loads((own / "sentence_bert_config.json").read_text())
    trusting = {name: {"trust_remote_code": True} for name in ("model_args", "config_args", "tokenizer_args")}
    (own / "sentence_bert_config.json").write_text(json.dumps(bert | trusting))
    if pickled:
        (own / "model.safetensors").unlink()
        with (own / "pytorch_model.bin").open("wb") as file:
            pickle.dump(Planted(mark), file)
    with contextlib.suppress(Exception):  # whatever the library says, and whether it reads the rest
        label_queries.embed(["dog"], str(own))
    assert not mark.exists()


def test_vectors_are_those_of_sentence_transformers() -> None:
    library = pytest.importorskip("sentence_transformers")
    texts = ["dog", "a cat sits on the mat", "ice cream", "", "Café, 東京! 🐶", "word " * 300, "A DOG", "x" * 500]
    theirs = library.SentenceTransformer(str(minilm_folder()), device="cpu")
    expected = theirs.encode(texts, normalize_embeddings=True, convert_to_tensor=True)
    torch.testing.assert_close(minilm().encode(texts), expected, atol=1e-6, rtol=0)


def test_a_text_has_the_same_vector_alone_and_among_others() -> None:
    texts = [f"{'very ' * (number % 7)}old dog number {number}" for number in range(150)]
    vectors = minilm().encode(texts)
    assert vectors.shape == (150, 384)
    for number in (0, 77, 149):
        torch.testing.assert_close(minilm().encode([texts[number]])[0], vectors[number], atol=1e-6, rtol=0)


def test_no_texts_give_no_vectors() -> None:
    assert minilm().encode([]).shape == (0, 384)
