from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from tasks.evaluation.metrics import (
    Ranking,
    average_precisions,
    bootstrap,
    f1,
    frequency_bands,
    interval,
    mean_average_precision,
    precision_recall,
)


def test_average_precision_of_hand_worked_rankings() -> None:
    truth = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]], bool)
    scores = np.array([[0.9, 0.9, 0.1], [0.8, 0.8, 0.2], [0.7, 0.7, 0.3], [0.1, 0.1, 0.4]])
    # first tag: right at ranks 1 and 3, (1/1 + 2/3) / 2; second: ranks 2 and 3, (1/2 + 2/3) / 2; third: nobody has it
    values = average_precisions(truth, scores)
    assert values[:2] == pytest.approx([5 / 6, 7 / 12])
    assert math.isnan(values[2])
    assert mean_average_precision(truth, scores) == pytest.approx((5 / 6 + 7 / 12) / 2)


def test_equal_scores_rank_together() -> None:
    truth = np.array([[1], [0], [0], [0]], bool)
    assert average_precisions(truth, np.zeros((4, 1))) == pytest.approx([0.25])


def test_precision_and_recall_of_a_hand_worked_case() -> None:
    # tag 0: there in 2, claimed in 3, right 2; tag 1: there in 2, never claimed; tag 2: nowhere, claimed once
    truth = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]], bool)
    predicted = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]], bool)
    found = precision_recall(truth, predicted)
    assert found["CP"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["CR"] == pytest.approx((1 + 0) / 2)
    assert found["OP"] == pytest.approx(2 / 4)
    assert found["OR"] == pytest.approx(2 / 4)
    assert found["CF1"] == pytest.approx(2 * (1 / 3) * 0.5 / (1 / 3 + 0.5))
    assert found["OF1"] == pytest.approx(0.5)


def test_nothing_true_or_nothing_claimed_gives_zeros() -> None:
    nothing, everything = np.zeros((3, 2), bool), np.ones((3, 2), bool)
    assert set(precision_recall(nothing, everything).values()) == {0.0}
    assert set(precision_recall(everything, nothing).values()) == {0.0}
    assert math.isnan(mean_average_precision(nothing, np.zeros((3, 2))))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        average_precisions(np.zeros((2, 3), bool), np.zeros((3, 2)))


BOTH = st.tuples(st.integers(1, 8), st.integers(1, 5)).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(np.float64, shape, elements=st.integers(0, 4).map(float)))
)


@given(BOTH)
def test_average_precision_follows_its_definition(case: tuple[np.ndarray, np.ndarray]) -> None:
    truth, scores = case
    for tag, value in enumerate(average_precisions(truth, scores)):
        there = truth[:, tag]
        if not there.any():
            assert math.isnan(value)
            continue
        # the mean, over the images that have the tag, of the precision among those that score as much or more
        precisions = [there[scores[:, tag] >= score].mean() for score in scores[there, tag]]
        assert value == pytest.approx(np.mean(precisions))


@given(BOTH)
def test_a_perfect_ranking_is_1_and_all_figures_stay_in_range(case: tuple[np.ndarray, np.ndarray]) -> None:
    truth, scores = case
    perfect = average_precisions(truth, truth.astype(float))
    assert np.all(np.isnan(perfect) | (perfect == 1))
    assert all(0 <= value <= 1 for value in precision_recall(truth, scores > 2).values())


@given(st.floats(0, 1), st.floats(0, 1))
def test_f1_lies_between_its_parts(precision: float, recall: float) -> None:
    assert min(precision, recall) - 1e-9 <= f1(precision, recall) <= max(precision, recall) + 1e-9


@given(BOTH)
def test_figures_are_those_of_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    truth, scores = case
    there = np.flatnonzero(truth.any(axis=0))
    values = average_precisions(truth, scores)
    for tag in there:
        assert values[tag] == pytest.approx(average_precision_score(truth[:, tag], scores[:, tag]))
    predicted = scores > 1
    found = precision_recall(truth, predicted)
    assert found["OP"] == pytest.approx(precision_score(truth.ravel(), predicted.ravel(), zero_division=0))
    assert found["OR"] == pytest.approx(recall_score(truth.ravel(), predicted.ravel(), zero_division=0))
    if len(there):
        pair = truth[:, there].astype(int), predicted[:, there].astype(int)
        assert found["CP"] == pytest.approx(
            np.mean([precision_score(a, b, zero_division=0) for a, b in zip(pair[0].T, pair[1].T, strict=True)])
        )
        assert found["CR"] == pytest.approx(
            np.mean([recall_score(a, b) for a, b in zip(pair[0].T, pair[1].T, strict=True)])
        )


@given(BOTH, st.data())
def test_a_weight_counts_an_image_so_many_times(case: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    truth, scores = case
    weights = data.draw(arrays(np.int64, len(truth), elements=st.integers(0, 3)))
    rows = np.repeat(np.arange(len(truth)), weights)
    weighted, repeated = (
        Ranking(truth, scores).average_precisions(weights),
        average_precisions(truth[rows], scores[rows]),
    )
    assert weighted == pytest.approx(repeated, nan_ok=True)
    assert precision_recall(truth, scores > 1, weights) == pytest.approx(
        precision_recall(truth[rows], scores[rows] > 1)
    )


@given(BOTH)
def test_no_other_threshold_gives_a_tag_a_better_f1(case: tuple[np.ndarray, np.ndarray]) -> None:
    truth, scores = case
    best = Ranking(truth, scores).best_thresholds()
    for tag in range(truth.shape[1]):
        there = truth[:, tag]
        if not there.any():
            assert np.isinf(best[tag])
            continue
        reached = f1_score(there, scores[:, tag] >= best[tag])
        assert reached == pytest.approx(max(f1_score(there, scores[:, tag] >= at) for at in scores[:, tag]))


def test_a_bootstrap_interval_holds_the_figure_and_narrows_with_the_images() -> None:
    chance = np.random.default_rng(0)
    widths = []
    for images in (100, 1600):
        truth = chance.random((images, 5)) < 0.3
        scores = truth + chance.normal(size=truth.shape)
        ranking = Ranking(truth, scores)
        drawn = bootstrap(ranking.average_precisions, images, samples=200)
        assert drawn.shape == (200, 5)
        figure = ranking.average_precisions().mean()
        low, high = interval(drawn.mean(axis=1), figure)
        assert low < figure < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2  # four times narrower but for chance


def test_the_same_seed_draws_the_same_images_for_two_models() -> None:
    assert np.array_equal(
        bootstrap(lambda weights: weights, 7, 3, seed=1), bootstrap(lambda weights: weights, 7, 3, seed=1)
    )


def test_bands_are_thirds_of_the_tags_by_frequency() -> None:
    bands = frequency_bands(np.array([5, 100, 1, 50, 2, 70]))
    assert {name: members.nonzero()[0].tolist() for name, members in bands.items()} == {
        "rare": [2, 4],
        "medium": [0, 3],
        "frequent": [1, 5],
    }


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="should be floats"):
        Ranking(np.ones((2, 1), bool), np.array([[0], [1]], np.uint8))
    with pytest.raises(ValueError, match="not numbers"):
        average_precisions(np.ones((1, 1), bool), np.array([[np.nan]]))
