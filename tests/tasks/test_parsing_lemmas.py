"""Base forms, where the first rule that fits would be wrong."""

from __future__ import annotations

import pytest

from tasks.parsing.language_model import language_model
from tasks.parsing.lemmas import Lemmas


@pytest.fixture(scope="module")
def lemmas() -> Lemmas:
    return Lemmas(language_model())


@pytest.mark.parametrize(
    ("word", "base"),
    [
        ("riding", "ride"), ("rides", "ride"), ("rode", "ride"), ("running", "run"), ("hopping", "hop"),
        ("hoping", "hope"), ("singing", "sing"), ("lying", "lie"), ("laying", "lay"), ("laid", "lay"),
        ("skiing", "ski"), ("dancing", "dance"), ("carries", "carry"), ("watches", "watch"), ("tied", "tie"),
        ("sat", "sit"), ("waving", "wave"), ("staring", "stare"), ("surrounded", "surround"), ("table", "table"),
        ("quickly", ""), ("xyzzying", ""),
    ],
)  # fmt: skip
def test_verbs(lemmas: Lemmas, word: str, base: str) -> None:
    assert lemmas.verb(word) == base


@pytest.mark.parametrize(
    ("word", "base"),
    [
        ("dogs", "dog"), ("buses", "bus"), ("glass", "glass"), ("glasses", "glasses"), ("people", "people"),
        ("men", "man"), ("firemen", "fireman"), ("children", "child"), ("leaves", "leaf"), ("waves", "wave"),
        ("knives", "knife"), ("puppies", "puppy"), ("cookies", "cookie"), ("jeans", "jeans"), ("scissors", "scissors"),
        ("tomatoes", "tomato"), ("sheep", "sheep"), ("geese", "goose"), ("benches", "bench"), ("horses", "horse"),
        ("shoes", "shoe"), ("tennis", "tennis"), ("frisbees", "frisbee"), ("cacti", "cactus"),
    ],
)  # fmt: skip
def test_nouns(lemmas: Lemmas, word: str, base: str) -> None:
    assert lemmas.noun(word) == base


@pytest.mark.parametrize(
    ("word", "base"),
    [("bigger", "big"), ("largest", "large"), ("happier", "happy"), ("cutest", "cute"), ("red", "red")],
)
def test_adjectives(lemmas: Lemmas, word: str, base: str) -> None:
    assert lemmas.adjective(word) == base
