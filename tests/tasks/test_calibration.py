from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.training import calibration
from tasks.training.calibration import (
    Calibration,
    Evidence,
    best_threshold,
    calibrate,
    fit_sigmoid,
    mention_rate,
    pool_tags,
    threshold_at,
)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def world(images: int = 4000, tags: int = 6, mentioned: float = 1.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Logits that are twice too sure and one too high, what is there, and what the captions name of it."""
    chance = np.random.default_rng(seed)
    logits = chance.normal(-3, 3, (images, tags))
    there = chance.random(logits.shape) < sigmoid(logits)
    return 2 * logits + 1, there, there & (chance.random(logits.shape) < mentioned)


TYPES = ["object"] * 4 + ["action"] * 2


def test_platt_scaling_finds_the_slope_and_intercept() -> None:
    logits, there, _ = world()
    slope, intercept = fit_sigmoid(logits, there)
    assert slope == pytest.approx(0.5, abs=0.05)
    assert intercept == pytest.approx(-0.5, abs=0.15)


def test_fully_described_pairs_give_true_probabilities_and_the_target_precision() -> None:
    logits, _, named = world()
    found = calibrate(logits, named, TYPES, described=True, target_precision=0.8)
    assert found.mention_rates == (1.0,) * 6
    fresh_logits, fresh, _ = world(seed=1)
    probabilities = found.probabilities(fresh_logits)
    sure = (probabilities > 0.6) & (probabilities < 0.8)
    assert fresh[sure].mean() == pytest.approx(0.7, abs=0.06)
    predicted = probabilities >= found.thresholds
    assert fresh[predicted].mean() == pytest.approx(0.8, abs=0.05)
    # the same thresholds, written as plain sigmoid values of the logits
    assert np.array_equal(predicted, sigmoid(fresh_logits) >= np.array(found.raw_thresholds()) - 1e-9)


def test_plain_pairs_need_the_mention_rate() -> None:
    logits, there, named = world(mentioned=0.4)
    # captions never name four fifths of what is there
    naive = calibrate(logits, named, TYPES, described=True, target_precision=0.8)
    assert (naive.probabilities(logits) >= naive.thresholds).mean() < 0.001
    found = calibrate(logits, named, TYPES, described=False, target_precision=0.8)
    assert found.mention_rates == pytest.approx((0.4,) * 6, abs=0.06)
    predicted = found.probabilities(logits) >= found.thresholds
    assert there[predicted].mean() == pytest.approx(0.8, abs=0.07)


def test_a_tag_that_every_caption_names_does_not_speak_for_its_type() -> None:
    chance = np.random.default_rng(0)
    logits = chance.normal(-3, 3, (4000, 12))
    logits[:, 0] += 4  # dogs: many, sure, and always named; of the others captions name three in ten
    there = chance.random(logits.shape) < sigmoid(logits)
    named = there & (chance.random(logits.shape) < np.array([1.0] + [0.3] * 11))
    surest = np.argsort(-logits, axis=None)[: round(0.2 * named.sum())]
    at_once = named.ravel()[surest].mean()  # mostly dogs
    known = named.sum() / there.sum()
    assert known < mention_rate(logits, named) < at_once - 0.05
    few = np.array([[True], [False]])
    assert mention_rate(np.array([[2.0], [1.0]]), few) == 1
    assert mention_rate(np.array([[2.0], [1.0]]), np.zeros_like(few)) == 0.05


@pytest.mark.parametrize("mentioned", [1.0, 0.5])
def test_thresholds_by_f1_and_by_balance(mentioned: float) -> None:
    logits, there, named = world(mentioned=mentioned)

    def measured(predicted: np.ndarray) -> tuple[float, float]:
        return there[predicted].mean(), predicted[there].mean()

    found = calibrate(logits, named, TYPES, mentioned == 1, 0.8, "balanced")
    precision, recall = measured(found.probabilities(logits) >= found.thresholds)
    assert precision == pytest.approx(recall, abs=0.05)
    best = calibrate(logits, named, TYPES, mentioned == 1, 0.8, "f1")
    f1 = _f1(*measured(best.probabilities(logits) >= best.thresholds))
    every = [_f1(*measured(best.probabilities(logits) >= threshold)) for threshold in np.linspace(0.05, 0.95, 19)]
    assert f1 == pytest.approx(max(every), abs=0.02)
    assert best_threshold(np.array([0.9, 0.8]), np.array([False, False]), 1.0, "f1") > 1


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall)


def test_tags_are_pooled_by_type_and_frequency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "POOL_POSITIVES", 90)
    positives = np.array([5, 100, 90, 3, 10, 0])
    pools = [sorted(pool.tolist()) for pool in pool_tags(positives, ["object"] * 4 + ["action"] * 2)]
    assert sorted(pools) == [[0, 2, 3], [1], [4, 5]]
    assert sorted(tag for pool in pools for tag in pool) == list(range(6))


def test_a_threshold_needs_more_than_a_few_lucky_scores() -> None:
    right = np.array([True] * 9 + [False] + [True] * 8 + [False] * 22)
    scores = np.linspace(0.9, 0.1, len(right))
    # 17 of 19 exceed four fifths by more than a standard deviation, 17 of 20 do not
    assert threshold_at(scores, right, 0.8) == scores[18]
    assert threshold_at(scores[:3], right[:3], 0.8) > 1
    assert threshold_at(scores, np.zeros(40, bool), 0.1) > 1
    # equal scores pass or fail together
    assert threshold_at(np.full(40, 0.9), right, 0.8) > 1
    assert threshold_at(np.full(40, 0.9), right, 0.3) == 0.9


def test_tags_that_nobody_names_or_all_do_are_left_alone() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 2))
    for named in (np.zeros((50, 2), bool), np.ones((50, 2), bool)):
        assert fit_sigmoid(logits, named) == (1.0, 0.0)
        calibrate(logits, named, ["object", "scene"], described=False, target_precision=0.8)


def test_scores_that_rank_wrong_do_not_turn_round() -> None:
    logits, there, _ = world()
    slope, _ = fit_sigmoid(-logits, there)
    assert slope > 0


def test_evidence_survives_a_round_trip(tmp_path: Path) -> None:
    logits, _, named = world(images=20)
    Evidence(logits, named, True, np.full(logits.shape[1], 0.4)).save(tmp_path)
    found = Evidence.load(tmp_path)
    assert found is not None
    assert found.described
    assert np.allclose(found.logits, logits, atol=1e-5)
    assert np.array_equal(found.named, named)
    (tmp_path / "other").mkdir()
    assert Evidence.load(tmp_path / "other") is None


def test_identity_changes_nothing() -> None:
    logits = np.array([[0.0, 2.0]])
    assert Calibration.identity([0.5, 0.68]).probabilities(logits) == pytest.approx(sigmoid(logits))
    assert Calibration.identity([0.5, 0.68]).raw_thresholds() == pytest.approx([0.5, 0.68])
