from __future__ import annotations

import numpy as np
import pytest

from tasks.judging import additions
from tasks.labels import mention_rates
from tasks.labels.mention_rates import MentionRates
from tasks.settings.calibrate import CalibrateSettings
from tasks.training.calibration import DOUBTFUL, TagCounts, fit_tags

TYPES = ["object"] * 8
SETTINGS = CalibrateSettings()


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def world(images: int, rate: float, seed: int = 0, luck: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of eight tags, what is there, and what a caption names: by ``luck``, or what strikes the eye."""
    chance = np.random.default_rng(seed)
    logits = chance.normal(-4, 2, (images, len(TYPES)))
    first, second = chance.random((2, *logits.shape))
    if luck:
        there = first < sigmoid(logits)
        return logits, there, there & (second < rate)
    named = first < sigmoid(logits)
    odds = 0.8 * (np.exp(logits) * (1 - rate) / rate) ** 0.55
    return logits, named | (second < odds / (1 + odds)), named


def halves(logits: np.ndarray, named: np.ndarray) -> tuple[TagCounts, TagCounts]:
    return TagCounts.of(logits[::2], named[::2]), TagCounts.of(logits[1::2], named[1::2])


def rates_of(named: np.ndarray, there: np.ndarray) -> MentionRates:
    return MentionRates(named.sum(0) / there.sum(0), np.full(len(TYPES), 0.05))


@pytest.mark.parametrize("described", [True, False])
def test_what_is_added_is_right_as_often_as_it_is_said_to_be(described: bool) -> None:
    logits, there, named = world(6000, 0.3, luck=described)
    rates = MentionRates(np.full(8, 0.3), np.full(8, 0.03))
    own = halves(logits, there if described else named)
    counts = own[0] + own[1]
    bars = additions.bars(counts, fit_tags(counts, TYPES), rates, described, SETTINGS)
    fresh_logits, fresh, said = world(6000, 0.3, 1, described)
    added = (fresh_logits >= bars.cuts) & ~said
    assert added.sum() > 100
    right = fresh[added].mean()
    assert right > SETTINGS.target_precision
    assert added.mean(axis=0) == pytest.approx(bars.added_share, abs=0.01)
    estimate = additions.measured(own, TYPES, rates, described, SETTINGS)
    assert estimate is not None
    assert estimate.low - 0.05 < right < estimate.high + 0.1


@pytest.mark.parametrize("described", [True, False])
def test_what_is_added_to_pictures_without_captions_is_right_as_often(described: bool) -> None:
    logits, there, named = world(6000, 0.8, luck=described)
    rates = MentionRates(np.full(8, 0.8), np.full(8, 0.03))
    counts = TagCounts.of(logits, there if described else named)
    fits = fit_tags(counts, TYPES)
    bars = additions.bars(counts, fits, rates, described, SETTINGS)
    fresh_logits, fresh, _ = world(6000, 0.8, 1, described)
    added = fresh_logits >= bars.bare_cuts
    assert fresh[added].mean() > SETTINGS.target_precision
    assert added.sum() <= 1.1 * fresh.sum()  # no more than can show it
    estimate = additions.measured(
        halves(logits, there if described else named), TYPES, rates, described, SETTINGS, True
    )
    assert estimate is not None
    assert estimate.low - 0.05 < fresh[added].mean() < estimate.high + 0.1
    # captions would name most of what is there: the bars of what they leave out are far too high for such pictures
    found, by_those = (fresh[passing].sum() for passing in (added, fresh_logits >= bars.cuts))
    assert found > 3 * by_those


def test_nothing_is_added_by_an_annotator_that_sees_nothing() -> None:
    logits, there, named = world(500, 0.3)
    np.random.default_rng(3).shuffle(logits)
    own = halves(logits, named)
    counts = own[0] + own[1]
    fits = fit_tags(counts, TYPES)
    bars = additions.bars(counts, fits, rates_of(named, there), False, SETTINGS)
    assert np.isinf(bars.cuts).all()
    assert np.isinf(bars.bare_cuts).all()
    assert not bars.added_share.any()
    assert np.isnan(bars.precision).all()
    for bare in (False, True):
        assert additions.measured(own, TYPES, rates_of(named, there), False, SETTINGS, bare) is None


@pytest.mark.parametrize("bare", [False, True])
def test_bars_that_hold_by_luck_are_found_out_on_the_other_half(bare: bool) -> None:
    """In one half the scores say what is there, in the other nothing: as if the annotator had learnt that half."""
    logits, _, named = world(4000, 0.5)
    np.random.default_rng(2).shuffle(logits[1::2])
    rates = MentionRates(np.full(8, 0.5), np.full(8, 0.03))
    estimate = additions.measured(halves(logits, named), TYPES, rates, False, SETTINGS, bare)
    assert estimate is not None
    assert estimate.low < DOUBTFUL * SETTINGS.target_precision


def test_no_tag_is_added_to_more_images_than_it_can_be_in() -> None:
    logits, _, named = world(4000, 0.3)
    counts = TagCounts.of(logits, named)
    fits = fit_tags(counts, TYPES)
    much = MentionRates(np.full(8, 0.3), np.full(8, 0.02))
    nearly_all = MentionRates(np.full(8, 0.97), np.full(8, 0.01))
    bars = additions.bars(counts, fits, much, False, SETTINGS)
    assert (bars.added_share > 0).any()
    few = additions.bars(counts, fits, nearly_all, False, SETTINGS)
    room = named.mean(axis=0) / 0.97 * 0.03
    assert (few.added_share <= room + 1 / 4000).all()
    assert (few.plausible_low <= few.plausible).all()
    assert (few.plausible <= few.plausible_high).all()


def test_more_images_or_more_certainty_add_more() -> None:
    logits, there, named = world(300, 0.3)
    counts = TagCounts.of(logits, named)
    fits = fit_tags(counts, TYPES)
    rates = rates_of(named, there)

    def added(fits_: object, **changed: float) -> float:
        chosen = SETTINGS.model_copy(update=changed)
        return float(additions.bars(counts, fits_, rates, False, chosen).added_share.sum())  # type: ignore[arg-type]

    assert added(fits, confidence=0.55) >= added(fits) >= added(fits, confidence=0.99)
    assert added(fits, target_precision=0.4) >= added(fits) >= added(fits, target_precision=0.8)
    assert added(fits.with_images(100), confidence=0.99) >= added(fits, confidence=0.99)
    strict = SETTINGS.model_copy(update={"confidence": 0.999, "target_precision": 0.6})
    needed = additions.images_needed(counts, fits, rates, False, strict)
    assert needed is None or needed >= 300


def test_the_shipped_table_is_read_by_type_and_frequency() -> None:
    found = mention_rates.expected(["object", "object", "attribute"], np.array([0.0, 0.1, 0.1]))
    assert found.rates[1] > found.rates[0] > found.rates[2] - 0.2
    assert ((found.rates > 0) & (found.rates < 1) & (found.spreads > 0)).all()
    types = {band.type for band in mention_rates.table()}
    assert types == {"object", "scene", "attribute", "action"}


def test_several_captions_correct_the_table() -> None:
    chance = np.random.default_rng(0)
    there = chance.random(3000) < 0.5
    first, second = ((chance.random(3000) < 0.8) & there for _ in range(2))
    said = float(first.sum() + second.sum())
    again = 2.0 * float((first & second).sum())
    prior = mention_rates.expected(["attribute"] * 2, np.array([0.1, 0.1]))
    found = mention_rates.observed(prior, np.array([said, 0.0]), np.array([again, 0.0]))
    assert found.rates[0] == pytest.approx(0.8, abs=0.03)
    assert found.spreads[0] < prior.spreads[0]
    assert (found.rates[1], found.spreads[1]) == (prior.rates[1], prior.spreads[1])


def test_a_persons_own_labels_tell_the_mention_rate() -> None:
    prior = mention_rates.expected(["object"] * 2, np.array([0.1, 0.1]))
    found = mention_rates.of_described(prior, np.array([400.0, 0.0]), np.array([80.0, 0.0]))
    assert found.rates[0] == pytest.approx(0.2, abs=0.02)
    assert found.rates[1] == prior.rates[1]
