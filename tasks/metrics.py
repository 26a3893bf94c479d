"""Figures of multi-label tagging, as the RAM and Tag2Text papers report them. All arrays are (images, tags)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

Array = NDArray[np.float64]
Truth = NDArray[np.bool_]


def average_precisions(truth: Truth, scores: NDArray[np.floating]) -> Array:
    """The non-interpolated average precision of each tag, (tags,) in 0..1; NaN for a tag that no image has."""
    _same_shape(truth, scores)
    values = np.full(truth.shape[1], np.nan)
    for tag in np.flatnonzero(truth.any(axis=0)):
        values[tag] = average_precision_score(truth[:, tag], scores[:, tag])
    return values


def mean_average_precision(truth: Truth, scores: NDArray[np.floating]) -> float:
    """mAP: the mean of :func:`average_precisions` over the tags that some image has; NaN where there is none."""
    values = average_precisions(truth, scores)
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def precision_recall(truth: Truth, predicted: Truth) -> dict[str, float]:
    """Class (macro) and overall (micro) precision, recall and F1: CP, CR, CF1, OP, OR, OF1, each in 0..1.

    Class figures are means over the tags that some image has; a tag that is never predicted counts with precision
    0. The overall ones count every pair of image and tag. F1 is that of the two means. Where nothing is counted
    (no tag present, or none predicted) a figure is 0.
    """
    _same_shape(truth, predicted)
    right = (truth & predicted).sum(axis=0)
    present, claimed = truth.sum(axis=0), predicted.sum(axis=0)
    counted = present > 0
    class_precision = _mean(right[counted] / np.maximum(claimed[counted], 1))
    class_recall = _mean(right[counted] / present[counted])
    overall_precision = float(right.sum() / max(claimed.sum(), 1))
    overall_recall = float(right.sum() / max(present.sum(), 1))
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


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else 0.0


def _same_shape(truth: NDArray[np.bool_], other: NDArray[np.generic]) -> None:
    if truth.ndim != 2 or truth.shape != other.shape:
        raise ValueError(f"truth is {truth.shape} and scores are {other.shape}: both should be (images, tags)")
