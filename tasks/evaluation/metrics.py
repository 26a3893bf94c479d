"""Figures of multi-label tagging, as the RAM and Tag2Text papers report them. All arrays are (images, tags)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Truth = NDArray[np.bool_]
BLOCK = 64  # tags that are gone through together
SHARE, DIFFERENCE, ANY = (0.0, 1.0), (-1.0, 1.0), (-np.inf, np.inf)  # what a figure can be


@dataclass(frozen=True)
class _Hits:
    """Every pair of a tag and an image that has it, tag by tag in the order of the scores; all (pairs,).

    ``last`` is the place in the tag's order up to which images score as much or more; of the pairs those of the same
    tag up to there are ``first`` to ``within``.
    """

    tags: NDArray[np.intp]
    images: NDArray[np.intp]
    last: NDArray[np.intp]
    first: NDArray[np.intp]
    within: NDArray[np.intp]


@dataclass(frozen=True)
class Ranking:
    """The images of each tag by descending score, sorted once: figures for any weights of the images are then cheap."""

    truth: Truth
    scores: NDArray[np.floating]

    def __post_init__(self) -> None:
        _same_shape(self.truth, self.scores)
        if np.isnan(self.scores).any():
            raise ValueError("there are scores that are not numbers")

    @cached_property
    def _images_of_tags(self) -> NDArray[np.intp]:
        """(tags, images): each tag's images in a row of its own, the highest score first."""
        return np.argsort(-self.scores.T, axis=1, kind="stable")

    @property
    def order(self) -> NDArray[np.intp]:
        """(images, tags): the same in columns."""
        return self._images_of_tags.T

    def last_of_equals(self) -> NDArray[np.intp]:
        """(images, tags): in each tag's order the place of the last image of the same score, which passes with it."""
        ordered = np.take_along_axis(self.scores, self.order, axis=0)
        ends = np.ones(ordered.shape, bool)
        ends[:-1] = ordered[1:] != ordered[:-1]
        places = np.where(ends, np.arange(len(ends))[:, None], len(ends))
        return np.minimum.accumulate(places[::-1], axis=0)[::-1]

    @cached_property
    def _hits(self) -> _Hits:
        tags, places = np.nonzero(self.relevant().T)
        last = self.last_of_equals()[places, tags]
        keys = tags * len(self.truth) + places  # ascending
        within = np.searchsorted(keys, tags * len(self.truth) + last, side="right")
        return _Hits(tags, self.order[places, tags], last, np.searchsorted(tags, tags), within)

    def relevant(self) -> Truth:
        """(images, tags): whether the image at this place of the tag's order has the tag."""
        return np.take_along_axis(self.truth, self.order, axis=0)

    def average_precisions(self, weights: Array | None = None) -> Array:
        """The non-interpolated average precision of each tag, (tags,) in 0..1; NaN for a tag that no image has.

        ``weights`` (images,), whole numbers, count an image so many times, 0 leaves it out: a bootstrap sample is a set
        of weights.
        """
        hits, weights = self._hits, np.ones(len(self.truth)) if weights is None else weights.astype(np.float64)
        counts = weights.astype(np.int32)  # sums of which are exact, and three times as fast
        tags, right = hits.tags, weights[hits.images]
        seen = np.empty(len(tags))
        for first in range(0, self.truth.shape[1], BLOCK):  # such blocks stay in the processor's cache
            own = slice(*np.searchsorted(tags, [first, first + BLOCK]))
            passed = counts.take(self._images_of_tags[first : first + BLOCK]).cumsum(axis=1, dtype=np.int32)
            seen[own] = passed[tags[own] - first, hits.last[own]]
        summed_up = np.concatenate([[0.0], right.cumsum()])
        reached = summed_up[hits.within] - summed_up[hits.first]
        total = self._weights_of_tags(weights)
        summed = np.bincount(tags, right * reached / np.maximum(seen, 1e-300), self.truth.shape[1])
        return np.where(total > 0, summed / np.where(total > 0, total, 1), np.nan)

    def _weights_of_tags(self, weights: Array) -> Array:
        """(tags,): the weight of all images that have each tag."""
        return np.bincount(self._hits.tags, weights[self._hits.images], self.truth.shape[1]).astype(np.float64)

    def weighted_mean(self, weights: Array | None = None) -> float:
        """:meth:`weighted_means` of all tags."""
        return float(self.weighted_means(np.ones((1, self.truth.shape[1]), bool), weights)[0])

    def weighted_means(self, subsets: Truth, weights: Array | None = None) -> Array:
        """mAP of each of ``subsets`` (subsets, tags), where a tag counts in a bootstrap sample as often as its images
        are drawn, more often or less; NaN where no tag of it has an image.

        So tags of few images, whose precision hangs on which they are, widen an interval as much as they should: the
        plain mean of each sample gives intervals that are a sixth too narrow.
        """
        present = self.truth.sum(axis=0).astype(np.float64)
        drawn = present if weights is None else self._weights_of_tags(weights)
        shares = drawn / np.maximum(present, 1)
        summed = subsets @ np.nan_to_num(self.average_precisions(weights) * shares)
        counted = subsets @ (present > 0).astype(np.float64)
        return np.divide(summed, counted, out=np.full(len(subsets), np.nan), where=counted > 0)

    def best_thresholds(self) -> Array:
        """(tags,): from which score on each tag's F1 is greatest; infinite for a tag that no image has.

        These look at the truth: what they give is a bound, not what a user gets.
        """
        last = self.last_of_equals()
        reached = np.take_along_axis(self.relevant().cumsum(axis=0), last, axis=0)
        worth = 2 * reached / (last + 1 + self.truth.sum(axis=0))
        ordered = np.take_along_axis(self.scores, self.order, axis=0).astype(np.float64)
        best = np.take_along_axis(ordered, worth.argmax(axis=0)[None], axis=0)[0]
        return np.where(self.truth.any(axis=0), best, np.inf)


def average_precisions(truth: Truth, scores: NDArray[np.floating]) -> Array:
    """The non-interpolated average precision of each tag, (tags,) in 0..1; NaN for a tag that no image has."""
    _same_shape(truth, scores)
    starts = range(0, truth.shape[1], BLOCK)  # an order of all tags' images is many times as large as their scores
    blocks = [Ranking(truth[:, at : at + BLOCK], scores[:, at : at + BLOCK]).average_precisions() for at in starts]
    return np.concatenate([np.zeros(0), *blocks])


def mean_average_precision(truth: Truth, scores: NDArray[np.floating]) -> float:
    """mAP: the mean of :func:`average_precisions` over the tags that some image has; NaN where there is none."""
    return mean_of_numbers(average_precisions(truth, scores))


def precision_recall(truth: Truth, predicted: Truth, weights: Array | None = None) -> dict[str, float]:
    """Class (macro) and overall (micro) precision, recall and F1: CP, CR, CF1, OP, OR, OF1, each in 0..1.

    Class figures are means over the tags that some image has; a tag that is never predicted counts with precision
    0. The overall ones count every pair of image and tag. F1 is that of the two means. Where nothing is counted
    (no tag present, or none predicted) a figure is 0. ``weights`` (images,) count an image so many times.
    """
    _same_shape(truth, predicted)
    counted_as = np.ones(len(truth)) if weights is None else weights.astype(np.float64)
    right = counted_as @ (truth & predicted)
    present, claimed = counted_as @ truth, counted_as @ predicted
    counted = present > 0
    class_precision = _mean(_shares(right[counted], claimed[counted]))
    class_recall = _mean(_shares(right[counted], present[counted]))
    overall_precision = float(_shares(right.sum(keepdims=True), claimed.sum(keepdims=True))[0])
    overall_recall = float(_shares(right.sum(keepdims=True), present.sum(keepdims=True))[0])
    return {
        "CP": class_precision,
        "CR": class_recall,
        "CF1": f1(class_precision, class_recall),
        "OP": overall_precision,
        "OR": overall_recall,
        "OF1": f1(overall_precision, overall_recall),
    }


def f1(precision: float, recall: float) -> float:
    """The harmonic mean of both; 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def bootstrap(
    statistic: Callable[[Array], NDArray[np.floating]], images: int, samples: int = 1000, seed: int = 0
) -> Array:
    """(samples, ...): ``statistic`` of so many samples of the images with replacement, each given as weights (images,).

    The same seed draws the same samples: statistics of two models over one test set are then paired.
    """
    chance = np.random.default_rng(seed)
    shares = np.full(images, 1 / images)
    return np.array([statistic(chance.multinomial(images, shares).astype(np.float64)) for _ in range(samples)])


def interval(
    drawn: Array, estimate: float, confidence: float = 0.95, within: tuple[float, float] = SHARE
) -> tuple[float, float]:
    """The interval that holds the share ``confidence`` of the bootstrapped figures ``drawn`` (samples,), shifted to
    where their mean is the ``estimate``, and cut to what the figure can be (``within``).

    A sample holds images twice, which makes them easier to rank: average precision is higher in every sample.
    """
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail]) - np.nanmean(drawn) + estimate
    low, high = np.clip((low, high), *within)
    return float(low), float(high)


def frequency_bands(counts: NDArray[np.integer]) -> dict[str, Truth]:
    """The tags by how often they are named, ``counts`` (tags,): the rarest third, the middle one, the most frequent."""
    ranks = np.argsort(np.argsort(counts, kind="stable"), kind="stable")
    thirds = ranks * 3 // max(1, len(ranks))
    return {name: thirds == third for third, name in enumerate(("rare", "medium", "frequent"))}


def mean_of_numbers(values: NDArray[np.floating]) -> float:
    """The mean of what is a number; NaN where nothing is."""
    numbers = values[~np.isnan(values)]
    return float(numbers.mean()) if len(numbers) else float("nan")


def _shares(part: Array, whole: Array) -> Array:
    """part / whole; 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else 0.0


def _same_shape(truth: NDArray[np.bool_], other: NDArray[np.generic]) -> None:
    if truth.ndim != 2 or truth.shape != other.shape:
        raise ValueError(f"truth is {truth.shape} and scores are {other.shape}: both should be (images, tags)")
