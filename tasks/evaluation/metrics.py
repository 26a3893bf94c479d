"""Figures of multi-label tagging, as the RAM and Tag2Text papers report them. All arrays are (images, tags)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
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
        if self.scores.dtype.kind != "f":
            raise ValueError(f"scores are {self.scores.dtype}: they should be floats, of which the highest come first")
        if np.isnan(self.scores).any():
            raise ValueError("there are scores that are not numbers")

    @cached_property
    def _images_of_tags(self) -> NDArray[np.int32]:
        """(tags, images): each tag's images in a row of its own, the highest score first."""
        order = np.empty(self.scores.T.shape, np.int32)
        for tags in self._blocks():
            order[tags] = np.argsort(-self.scores.T[tags], axis=1, kind="stable")
        return order

    @cached_property
    def _hits(self) -> _Hits:
        found: list[_Hits] = []
        for block in self._blocks():
            truth, scores = self._ordered(block)
            tags, places = np.nonzero(truth)
            last = last_of_equals(scores)[tags, places]
            keys = tags * len(self.truth) + places  # ascending
            before = sum(len(hits.tags) for hits in found)
            found.append(
                _Hits(
                    tags + block.start,
                    self._images_of_tags[block][tags, places].astype(np.intp),
                    last,
                    before + np.searchsorted(tags, tags),
                    before + np.searchsorted(keys, tags * len(self.truth) + last, side="right"),
                )
            )
        return _Hits(*(np.concatenate([getattr(hits, field.name) for hits in found]) for field in fields(_Hits)))

    def _blocks(self) -> list[slice]:
        """Of tags, of which one is gone through at a time: what all take is many times the scores."""
        return [slice(first, first + BLOCK) for first in range(0, self.truth.shape[1], BLOCK)] or [slice(0, 0)]

    def _ordered(self, tags: slice) -> tuple[Truth, NDArray[np.floating]]:
        """(tags, images) of a block: whether the image at this place of the tag's order has the tag, and its score."""
        order = self._images_of_tags[tags]
        return np.take_along_axis(self.truth.T[tags], order, 1), np.take_along_axis(self.scores.T[tags], order, 1)

    def average_precisions(self, weights: Array | None = None) -> Array:
        """The non-interpolated average precision of each tag, (tags,) in 0..1; NaN for a tag that no image has.

        ``weights`` (images,), whole numbers, count an image so many times, 0 leaves it out: a bootstrap sample is a set
        of weights.
        """
        hits, weights = self._hits, np.ones(len(self.truth)) if weights is None else weights.astype(np.float64)
        counts = weights.astype(np.int32)  # sums of which are exact, and three times as fast
        tags, right = hits.tags, weights[hits.images]
        seen = np.empty(len(tags))
        for block in self._blocks():  # such blocks stay in the processor's cache
            own = slice(*np.searchsorted(tags, [block.start, block.stop]))
            passed = counts.take(self._images_of_tags[block]).cumsum(axis=1, dtype=np.int32)
            seen[own] = passed[tags[own] - block.start, hits.last[own]]
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
        best = np.full(self.truth.shape[1], np.inf)
        for block in self._blocks():
            truth, scores = self._ordered(block)
            last, present = last_of_equals(scores), truth.sum(axis=1)
            reached = np.take_along_axis(truth.cumsum(axis=1), last, 1)
            worth = 2 * reached / (last + 1 + present[:, None])
            at_best = np.take_along_axis(scores, worth.argmax(axis=1)[:, None], 1)[:, 0]
            best[block] = np.where(present > 0, at_best, np.inf)
        return best


def last_of_equals(ordered: NDArray[np.floating]) -> NDArray[np.intp]:
    """Of scores in descending order (tags, images) the place of the last one of the same value: all pass together."""
    ends = np.ones(ordered.shape, bool)
    ends[:, :-1] = ordered[:, 1:] != ordered[:, :-1]
    places = np.where(ends, np.arange(ordered.shape[1]), ordered.shape[1])
    return np.minimum.accumulate(places[:, ::-1], axis=1)[:, ::-1]


def average_precisions(truth: Truth, scores: NDArray[np.floating]) -> Array:
    """The non-interpolated average precision of each tag, (tags,) in 0..1; NaN for a tag that no image has."""
    return Ranking(truth, scores).average_precisions()


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
