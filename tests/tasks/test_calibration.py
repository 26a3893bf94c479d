from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.training.calibration import (
    CENTRES,
    Calibration,
    Evidence,
    TagCounts,
    best_cuts,
    common_cuts,
    cuts_at,
    fit_tags,
    probability,
    probability_unnamed,
)

TYPES = ["object"] * 4 + ["action"] * 2


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def world(images: int = 4000, tags: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are twice too sure and one too high, and what is there."""
    chance = np.random.default_rng(seed)
    logits = chance.normal(-3, 3, (images, tags))
    return 2 * logits + 1, chance.random(logits.shape) < sigmoid(logits)


def test_each_tag_gets_its_slope_and_intercept() -> None:
    logits, there = world()
    fits = fit_tags(TagCounts.of(logits, there), TYPES)
    assert fits.parameters[:, 1] == pytest.approx([0.5] * 6, abs=0.06)
    assert fits.parameters[:, 0] == pytest.approx([-0.5] * 6, abs=0.25)


def test_a_tag_with_few_images_borrows_from_its_type_and_is_known_less_well() -> None:
    logits, there = world(tags=8)
    counts = TagCounts.of(logits, there)
    images, named = counts.images.copy(), counts.named.copy()
    few = TagCounts.of(logits[:40, :1], there[:40, :1])
    images[0], named[0] = few.images[0], few.named[0]
    fits = fit_tags(TagCounts(images, named), ["object"] * 8)
    assert fits.parameters[0, 1] == pytest.approx(0.5, abs=0.1)
    unsure = fits.deviations(CENTRES)[:, 400]
    assert unsure[0] > 1.5 * unsure[1:].max()
    assert fits.with_images(4).deviations(CENTRES)[:, 400] == pytest.approx(unsure / 2)


def test_thresholds_hold_the_precision_they_aim_at_on_other_images() -> None:
    logits, there = world()
    found = Evidence(logits, there, True, np.ones(6)).calibrate(TYPES, 0.8)
    fresh_logits, fresh = world(seed=1)
    probabilities = found.probabilities(fresh_logits)
    sure = (probabilities > 0.6) & (probabilities < 0.8)
    assert fresh[sure].mean() == pytest.approx(0.7, abs=0.06)
    predicted = fresh_logits >= found.cuts
    assert 0.78 < fresh[predicted].mean() < 0.88
    # the same thresholds, written as plain sigmoid values of the logits
    assert np.array_equal(predicted, sigmoid(fresh_logits) >= np.array(found.raw_thresholds()))


def test_a_tag_that_cannot_reach_the_precision_is_never_predicted() -> None:
    logits, there = world()
    there[:, 0] = np.random.default_rng(2).random(len(there)) < 0.1  # no one can see it
    found = Evidence(logits, there, True, np.ones(6)).calibrate(TYPES, 0.8)
    assert np.isinf(found.cuts[0])
    assert found.raw_thresholds()[0] > 1
    assert np.isfinite(found.cuts[1:]).all()
    # nor one of which there are three images
    thin = Evidence(logits[:3], there[:3], True, np.ones(6)).calibrate(TYPES, 0.8)
    assert not (logits[:3] >= thin.cuts).any()


@pytest.mark.parametrize("rule", ["f1", "balanced"])
def test_thresholds_by_f1_and_by_balance(rule: str) -> None:
    logits, there = world()
    found = Evidence(logits, there, True, np.ones(6)).calibrate(TYPES, 0.8, rule)  # type: ignore[arg-type]
    predicted = logits >= found.cuts
    precision, recall = there[predicted].mean(), predicted[there].mean()
    if rule == "balanced":
        assert precision == pytest.approx(recall, abs=0.05)
    else:
        every = []
        for threshold in np.linspace(0.05, 0.95, 19):
            said = found.probabilities(logits) >= threshold
            every.append(2 * (said & there).sum() / (said.sum() + there.sum()))
        assert 2 * precision * recall / (precision + recall) == pytest.approx(max(every), abs=0.02)


@settings(max_examples=50)
@given(st.floats(-15, 15), st.floats(0.05, 0.98), st.booleans())
def test_what_is_there_is_at_least_what_is_named_and_unnamed_less_likely(
    log_odds: float, rate: float, described: bool
) -> None:
    odds, mention = np.array([log_odds]), np.array([rate])
    there, unnamed = probability(odds, mention, described)[0], probability_unnamed(odds, mention, described)[0]
    assert 0 <= unnamed <= there + 1e-12 <= 1 + 1e-12
    assert there >= sigmoid(odds)[0] - 1e-12
    assert probability_unnamed(odds + 0.5, mention, described)[0] >= unnamed
    assert probability_unnamed(odds, mention.clip(0, 0.97) + 0.01, described)[0] <= unnamed + 1e-12


def test_what_captions_leave_out_of_described_images_follows_bayes() -> None:
    chance = np.random.default_rng(0)
    there = chance.random(200_000) < 0.4
    named = there & (chance.random(len(there)) < 0.7)
    expected = probability_unnamed(np.array([np.log(0.4 / 0.6)]), np.array([0.7]), described=True)[0]
    assert there[~named].mean() == pytest.approx(expected, abs=0.005)


def test_cuts_take_the_most_images_that_still_reach_the_precision() -> None:
    images = np.zeros((2, len(CENTRES)))
    images[0, [100, 200, 300]] = 1
    chances = np.zeros_like(images)
    chances[:, [100, 200, 300]] = 0.1, 0.55, 0.65
    first, nothing = cuts_at(images, chances, 0.6)
    assert CENTRES[100] < first <= CENTRES[200]
    assert np.isinf(nothing)
    assert np.isinf(cuts_at(images, chances, 0.7)).all()
    # one probability for all tags: the least from which on all of them together reach the precision
    two = np.stack([chances[0], np.where(chances[0] > 0.2, chances[0] + 0.2, 0)])
    both = common_cuts(images[[0, 0]], two, two, 0.72)
    assert CENTRES[200] < both[0] <= CENTRES[300]
    assert CENTRES[100] < both[1] <= CENTRES[200]
    assert np.isinf(common_cuts(images[[0, 0]], two, two, 0.9)).all()
    # an image that is doubtful by itself is not carried by the others
    assert cuts_at(images, np.where(chances == 0.1, 0.4, chances + 0.3), 0.6)[0] > CENTRES[100]
    assert np.isinf(best_cuts(np.zeros((1, len(CENTRES))), chances[:1], "f1")).all()


def test_evidence_survives_a_round_trip(tmp_path: Path) -> None:
    logits, named = world(images=20)
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
