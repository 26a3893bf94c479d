"""Where there is evidence that a tag holds although no caption names it: the bar that each tag's additions must clear.

Everything is counted out of fold, over images that the annotator did not learn from. A tag is added from the logit on
from which the mean probability of its additions, at the lower bound of what is known of the tag (its fit and its
mention rate), reaches the target precision; and to no more images than it can be in at all. For images without
captions each tag has a bar of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from tasks.labels.mention_rates import MentionRates
from tasks.settings.calibrate import CalibrateSettings
from tasks.training.calibration import (
    CENTRES,
    EDGES,
    TagCounts,
    TagFits,
    cuts_at,
    damped,
    fit_tags,
    probability,
    probability_unnamed,
)

Floats = NDArray[np.floating]
SURE = 0.95  # of the intervals that people are told
DRAWS = 1000
MORE_IMAGES = (2, 4, 8, 16, 32)  # times as many images, tried in turn to say what it would take


@dataclass(frozen=True)
class Bars:
    """Of each tag, (tags,): from which logit on it is added (infinite: never), and what is expected of that.

    ``bare_cuts`` are those of bare images; all others are of images with captions. ``precision`` and ``precision_low``
    are NaN where nothing is added. Shares are of all images, 0..1.
    """

    cuts: Floats
    bare_cuts: Floats
    thresholds: Floats
    precision: Floats
    precision_low: Floats
    added_share: Floats
    plausible: Floats
    plausible_low: Floats
    plausible_high: Floats


@dataclass(frozen=True)
class Estimate:
    """The precision of added tags, measured on images that did not set the bars, with its interval."""

    value: float
    low: float
    high: float
    additions: float  # that it rests on


def bars(counts: TagCounts, fits: TagFits, rates: MentionRates, described: bool, settings: CalibrateSettings) -> Bars:
    """The bars that ``settings`` ask for; ``described``: whether the images of ``counts`` name all that is there."""
    log_odds = fits.log_odds(CENTRES)
    shift = norm.ppf(settings.confidence) * _deviations(fits, rates, described)
    mention = rates.rates[:, None]
    chance = probability_unnamed(log_odds, mention, described)
    low = probability_unnamed(log_odds - shift, mention, described)
    unnamed = _unnamed(counts, log_odds, mention, described)
    total = np.maximum(counts.images.sum(axis=1), 1e-9)
    plausible = _plausible(counts, rates, described)
    room = plausible[0] * (1 - rates.rates) * total
    cuts = np.maximum(cuts_at(unnamed, low, settings.target_precision), _cuts_within(unnamed, room))
    passing = unnamed * (EDGES[:-1] >= cuts[:, None])
    added = passing.sum(axis=1)
    cuts = np.where(added > 0, cuts, np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, precision_low = (passing * chance).sum(1) / added, (passing * low).sum(1) / added
    first = np.argmax(passing > 0, axis=1)
    thresholds = np.where(added > 0, chance[np.arange(len(cuts)), first], 1 + 1e-6)
    bare_cuts = _bare_cuts(counts, fits, rates, described, settings)
    return Bars(cuts, bare_cuts, thresholds, precision, precision_low, added / total, *plausible)


def _bare_cuts(
    counts: TagCounts, fits: TagFits, rates: MentionRates, described: bool, settings: CalibrateSettings
) -> Floats:
    """(tags,): from which logit on a tag is added to a bare picture, whose captions could not have named it anyway.

    There the probability that it is there counts, whether a caption would name it or not: the mean of it, at the lower
    bound of what is known, has to reach the target precision. Infinite: never.
    """
    log_odds = fits.log_odds(CENTRES)
    low = log_odds - norm.ppf(settings.confidence) * fits.deviations(CENTRES)
    cuts = cuts_at(counts.images, probability(low, rates.high[:, None], described), settings.target_precision)
    room = _plausible(counts, rates, described)[0] * counts.images.sum(axis=1)
    return np.maximum(cuts, _cuts_within(counts.images, room))


def measured(
    halves: tuple[TagCounts, TagCounts],
    types: list[str],
    rates: MentionRates,
    described: bool,
    settings: CalibrateSettings,
    bare: bool = False,
) -> Estimate | None:
    """The precision of what each half of the images would have added by bars that the other half set; with ``bare`` by
    those of bare images, had they come without their captions.

    The interval is a bootstrap's over tags and over what is known of their mention rates. None where nothing is added.
    """
    counted = []
    for own, other in (halves, halves[::-1]):
        found = bars(own, fit_tags(own, types), rates, described, settings)
        passing = EDGES[:-1] >= (found.bare_cuts if bare else found.cuts)[:, None]
        counted.append(((other.named * passing).sum(axis=1), (other.images * passing).sum(axis=1)))
    named, passed = np.concatenate(counted, axis=1)
    unnamed = passed - named
    odds = np.tile(1 - rates.rates if described else (1 - rates.rates) / rates.rates, 2)
    spread = np.tile(rates.log_odds_deviations if not described else rates.spreads / (1.001 - rates.rates), 2)
    seen = np.flatnonzero((named if bare else odds * named) + unnamed > 0)
    if not len(seen):
        return None

    def precision(rows: NDArray[np.intp], luck: Floats) -> float:
        unsaid = (odds * named)[rows] @ luck / max(unnamed[rows].sum(), 1e-9)
        if not bare:
            return float(unsaid / (1 + unsaid) if described else damped(np.log(max(unsaid, 1e-9))))
        # what a caption names is there; of the rest a part is, and nothing where everything is named
        rest = 0.0 if described else damped(np.log(max(unsaid, 1e-9))) * unnamed[rows].sum()
        return float((named[rows].sum() + rest) / (named + unnamed)[rows].sum())

    chance = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        rows = chance.choice(seen, len(seen))
        drawn.append(precision(rows, np.exp(spread[rows] * chance.standard_normal(len(rows)))))
    low, high = np.quantile(drawn, [(1 - SURE) / 2, (1 + SURE) / 2])
    return Estimate(
        precision(seen, np.ones(len(seen))), float(low), float(high), float((passed if bare else unnamed).sum())
    )


def images_needed(
    counts: TagCounts, fits: TagFits, rates: MentionRates, described: bool, settings: CalibrateSettings
) -> int | None:
    """About how many more images would let a first tag clear its bar; None where 32 times as many would not."""
    images = float(counts.images.sum(axis=1).max())
    for times in MORE_IMAGES:
        found = bars(counts, fits.with_images(times), rates, described, settings)
        if np.isfinite(found.cuts).any():
            return round((times - 1) * images)
    return None


def _deviations(fits: TagFits, rates: MentionRates, described: bool) -> Floats:
    """(tags, bins): the standard deviation of the log-odds of being there unnamed."""
    own = rates.spreads / (1.001 - rates.rates) if described else rates.log_odds_deviations
    return np.asarray(np.hypot(fits.deviations(CENTRES), own[:, None]))


def _unnamed(counts: TagCounts, log_odds: Floats, mention: Floats, described: bool) -> Floats:
    """(tags, bins): the images whose captions would not name the tag."""
    if described:
        return np.asarray(counts.images * (1 - mention * probability(log_odds, mention, described)))
    return np.asarray(counts.images - counts.named)


def _plausible(counts: TagCounts, rates: MentionRates, described: bool) -> tuple[Floats, Floats, Floats]:
    """The share of the images that each tag can be in at all, and its interval."""
    total = np.maximum(counts.images.sum(axis=1), 1e-9)
    share = counts.named.sum(axis=1) / total
    error = norm.ppf((1 + SURE) / 2) * np.sqrt(share * (1 - share) / total)
    if described:
        return share, np.maximum(share - error, 0), np.minimum(share + error, 1)
    middle = np.minimum(share / rates.rates, 1)
    return middle, np.maximum((share - error) / rates.high, 0), np.minimum((share + error) / rates.low, 1)


def _cuts_within(unnamed: Floats, room: Floats) -> Floats:
    """(tags,): the least logits from which on no more than ``room`` (tags,) of the images are."""
    from_here = np.cumsum(unnamed[:, ::-1], axis=1)[:, ::-1]
    fits = from_here <= np.maximum(room, 1)[:, None]
    return np.where(fits.any(axis=1), EDGES[np.argmax(fits, axis=1)], np.inf)
