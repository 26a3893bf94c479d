"""The verdict: what it says of models whose difference is known, and that it is no surer than it may be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tasks.evaluation.metrics import interval
from tasks.evaluation.verdict import (
    BETTER,
    BEYOND,
    FEWEST,
    NOT_COMPARED,
    NOT_SHOWN,
    WORSE,
    basis,
    headline,
    next_steps,
    verdict,
)


def drawn(pictures: int, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, and scores of two models: the second one sees it through that much more noise."""
    chance = np.random.default_rng(seed)
    truth = chance.random((pictures, 20)) < 0.2
    return truth, truth + chance.normal(size=truth.shape), truth + noise * chance.normal(size=truth.shape)


def test_a_difference_is_called_by_its_name_and_with_few_pictures_none_is() -> None:
    truth, good, bad = drawn(200, noise=3)
    better, worse, same = verdict(truth, good, bad), verdict(truth, bad, good), verdict(truth, good, good)
    assert (better.word, worse.word, same.word) == (BETTER, WORSE, NOT_SHOWN)
    assert 0 < better.low < better.difference < better.high < 1
    assert (worse.low, worse.high) == pytest.approx((-better.high, -better.low))
    assert better.difference == pytest.approx(better.after - better.before)
    assert "Better: the retrained model reaches" in headline(better)
    assert next_steps(better) == []
    assert len(next_steps(worse)) == len(next_steps(same)) == 2
    few = verdict(
        truth[:5], truth[:5].astype(float), (~truth[:5]).astype(float)
    )  # one is always right, the other never
    assert few.low > 0
    assert few.word == NOT_SHOWN
    assert "5 test pictures" in basis(few)
    assert "prove nothing" in basis(few)


def test_it_says_how_many_pictures_a_difference_takes() -> None:
    shown = verdict(*drawn(200, noise=3))
    unsure = replace(shown, difference=0.1, low=-0.1, high=0.3, pictures=50)
    assert unsure.least_shown == pytest.approx(0.2)
    assert unsure.pictures_needed == 200  # an interval half as wide
    assert replace(unsure, difference=0.0).pictures_needed == BEYOND
    assert replace(unsure, difference=0.9).pictures_needed == FEWEST
    assert "more than a million" in next_steps(replace(unsure, word=NOT_SHOWN, difference=0.0))[0]


def test_without_a_tag_nothing_is_compared() -> None:
    nothing = np.zeros((40, 3), bool)
    found = verdict(nothing, nothing.astype(float), nothing.astype(float))
    assert found.word == NOT_COMPARED
    assert headline(found) == "Not compared: no test picture has a tag."


def test_an_interval_is_as_wide_as_chance_asks_for() -> None:
    """Of two models that are equally good, on rare tags: how far they lie apart by chance, and how far it is said."""
    differences, widths = [], []
    for seed in range(120):
        chance = np.random.default_rng(seed)
        truth = chance.random((60, 40)) < chance.beta(0.6, 8, 40).clip(0.01)
        shared = truth + chance.normal(size=truth.shape)
        one, other = (shared + 0.5 * chance.normal(size=truth.shape) for _ in range(2))
        found = verdict(truth, one, other, samples=60)
        differences.append(found.difference)
        widths.append(found.high - found.low)
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(differences), rel=0.15)


def test_an_interval_ends_at_what_the_figure_can_be() -> None:
    around = np.array([0.9, 0.95, 1.0, 1.0])
    assert interval(around, 0.99)[1] == 1.0
    assert interval(-around, 0.01)[0] == 0.0
    assert interval(around - 1, -0.01, within=(-1, 1))[0] < 0
