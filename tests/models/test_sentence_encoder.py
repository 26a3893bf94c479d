"""The packaged sentence encoder gives what sentence-transformers makes of the same weights."""

import pytest
import torch

from models.sentence_encoder import minilm, minilm_folder


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
