"""From a model's logits to probabilities, and to per-tag thresholds at a target precision.

Two situations. *Fully described* pairs name everything, so a tag that is not named is not there: logits are fitted to
what is named (Platt 1999). *Plain* pairs name a part: with c = P(named | there), the mention rate,
P(there | image) = P(named | image) / c (Elkan and Noto 2008, lemma 1), and a precision measured against captions is
c times the true one.

Few tags have enough positives for a fit of their own, so tags are pooled by type and frequency (the mention rate by
type alone), and a tag that has enough gets its own threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression

from tasks.settings import ThresholdRule

Floats = NDArray[np.floating]
FILE = "calibration.safetensors"
OWN_THRESHOLD = 30  # a tag with so many positives gets a threshold of its own
POOL_POSITIVES = 200  # pools of one type are split by frequency down to so many positives
SURE_SHARE = 0.2  # the mention rate is measured where the model is surest: this share of a tag's positives' number


@dataclass(frozen=True)
class Calibration:
    """What turns logits into probabilities: one slope, intercept and mention rate a tag, and its threshold.

    ``thresholds`` are probabilities after calibration; 1 or more: the tag is never predicted.
    """

    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]
    mention_rates: tuple[float, ...]
    thresholds: tuple[float, ...]

    @classmethod
    def identity(cls, thresholds: Sequence[float]) -> Calibration:
        """No calibration: probabilities are the model's own."""
        ones = (1.0,) * len(thresholds)
        return cls(ones, (0.0,) * len(thresholds), ones, tuple(thresholds))

    def probabilities(self, logits: Floats) -> Floats:
        """P(there | image) in 0..1 of logits (..., tags)."""
        return self.probabilities_of(logits, np.arange(logits.shape[-1]))

    def probabilities_of(self, logits: Floats, labels: NDArray[np.integer]) -> Floats:
        """P(there) in 0..1 of single logits (n,), each of one of the ``labels`` (n,)."""
        slopes, intercepts, rates = (
            np.asarray(each)[labels] for each in (self.slopes, self.intercepts, self.mention_rates)
        )
        return np.minimum(_sigmoid(logits * slopes + intercepts) / rates, 1.0)

    def raw_thresholds(self) -> list[float]:
        """The thresholds as plain sigmoid values of the logits: what is written into a model's labels."""
        named = np.clip(np.asarray(self.thresholds) * np.asarray(self.mention_rates), 1e-6, 1 - 1e-6)
        logits = (np.log(named / (1 - named)) - np.asarray(self.intercepts)) / np.asarray(self.slopes)
        return [float(value) for value in _sigmoid(logits)]


@dataclass(frozen=True)
class Evidence:
    """What a model says about images that it has not been trained on: kept in its folder, so that another target
    precision needs no training.

    ``logits`` and ``named`` are (images, tags): whether the image's captions name the tag; ``described``: whether they
    name everything.
    """

    logits: Floats
    named: NDArray[np.bool_]
    described: bool
    mentioned: Floats  # (tags,) the share of what is there that a caption of a training image names already, 0..1

    def calibrate(
        self, types: Sequence[str], target_precision: float, added: bool = False, rule: ThresholdRule = "precision"
    ) -> Calibration:
        """The calibration of tags of these types, with thresholds by ``rule``, aiming at ``target_precision`` in 0..1.

        With ``added`` the aim is the precision of the tags that captions do not name: what they name, a share c, cannot
        be added, so that a precision t of the rest needs t / (t + (1 - c) (1 - t)) of all.
        """
        target = np.full(len(types), target_precision)
        if added:
            target = target / (target + (1 - self.mentioned) * (1 - target))
        return calibrate(self.logits, self.named, types, self.described, target, rule)

    def save(self, folder: Path) -> None:
        """Writes ``calibration.safetensors`` into a model folder."""
        logits = self.logits.astype(np.float32)
        arrays: dict[str, NDArray[Any]] = {"logits": logits, "named": self.named.astype(np.uint8)}
        arrays["mentioned"] = self.mentioned.astype(np.float32)
        save_file(arrays, folder / FILE, {"described": str(int(self.described))})

    @classmethod
    def load(cls, folder: Path) -> Evidence | None:
        """What :meth:`save` wrote; None where the model was not calibrated."""
        if not (folder / FILE).is_file():
            return None
        with safe_open(folder / FILE, "np") as file:
            described = file.metadata()["described"] == "1"
            return cls(
                file.get_tensor("logits"),
                file.get_tensor("named").astype(bool),
                described,
                file.get_tensor("mentioned"),
            )


def calibrate(
    logits: Floats,
    named: NDArray[np.bool_],
    types: Sequence[str],
    described: bool,
    target_precision: Floats | float,
    rule: ThresholdRule = "precision",
) -> Calibration:
    """Fits a :class:`Calibration` on images that the model has not been trained on.

    Args:
        logits: (images, tags).
        named: (images, tags), whether the image's captions name the tag.
        types: the tags' types, (tags,).
        described: whether the captions name everything.
        target_precision: what the thresholds of the rule "precision" aim at, in 0..1; (tags,), or one for all.
        rule: "precision", "f1" (the best there is) or "balanced" (precision equal to recall).
    """
    target = np.broadcast_to(target_precision, logits.shape[1])
    tags = logits.shape[1]
    slopes, intercepts, rates = np.ones(tags), np.zeros(tags), np.ones(tags)
    thresholds = np.full(tags, np.nan)
    pools = pool_tags(named.sum(axis=0), types)
    for pool in pools:
        slopes[pool], intercepts[pool] = fit_sigmoid(logits[:, pool], named[:, pool])
    if not described:
        for type_ in sorted(set(types)):
            members = np.flatnonzero(np.asarray(types) == type_)
            rates[members] = mention_rate(logits[:, members] * slopes[members] + intercepts[members], named[:, members])
    fitted = Calibration(tuple(slopes), tuple(intercepts), tuple(rates), tuple(thresholds))
    probabilities = fitted.probabilities(logits)
    for pool in pools:
        rate = float(rates[pool[0]])
        own = [np.array([tag]) for tag in pool if named[:, tag].sum() >= OWN_THRESHOLD]
        for group in [pool, *own]:
            if rule == "precision":
                aim = float(target[pool].mean() * rate)
                thresholds[group] = threshold_at(probabilities[:, group], named[:, group], aim)
            else:
                thresholds[group] = best_threshold(probabilities[:, group], named[:, group], rate, rule)
    return Calibration(fitted.slopes, fitted.intercepts, fitted.mention_rates, tuple(thresholds.tolist()))


def mentioned_share(taught: Floats, described: Floats, types: Sequence[str]) -> Floats:
    """(tags,): how much of what is there the training's captions name, by type.

    ``taught`` and ``described`` (tags,) are the mean numbers of times that a tag is named for a training image, and for
    one that is fully described.
    """
    kinds = np.asarray(types)
    share = np.zeros(len(kinds))
    for type_ in set(types):
        share[kinds == type_] = min(1.0, taught[kinds == type_].sum() / max(described[kinds == type_].sum(), 1e-9))
    return share


def pool_tags(positives: NDArray[np.integer], types: Sequence[str]) -> list[NDArray[np.intp]]:
    """Groups of tags of one type and of similar frequency, each with about ``POOL_POSITIVES`` positives or more."""
    pools: list[NDArray[np.intp]] = []
    for type_ in sorted(set(types)):
        members = np.flatnonzero(np.asarray(types) == type_)
        members = members[np.argsort(-positives[members], kind="stable")]
        count = max(1, int(positives[members].sum()) // POOL_POSITIVES)
        # a tag's band is where it starts when the positives of all are laid end to end
        starts = np.cumsum(positives[members]) - positives[members]
        bands = np.minimum(starts * count // max(1, int(positives[members].sum())), count - 1)
        pools += [members[bands == band] for band in np.unique(bands)]
    return pools


def fit_sigmoid(logits: Floats, named: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope (positive) and intercept of P(named) = sigmoid(slope logit + intercept), by maximum likelihood.

    Targets are smoothed as in Platt (1999), section 2.2, so that a few positives cannot make the fit certain; where
    nothing or everything is named, the logits are left as they are.
    """
    scores, target = logits.reshape(-1, 1), named.reshape(-1)
    positives, negatives = int(target.sum()), int((~target).sum())
    if not positives or not negatives:
        return 1.0, 0.0
    # a soft target is two weighted examples
    high, low = (positives + 1) / (positives + 2), 1 / (negatives + 2)
    weight = np.where(target, high, low)
    both = np.concatenate([scores, scores])
    labels = np.concatenate([np.ones(len(target)), np.zeros(len(target))])
    model = LogisticRegression(C=1e6, max_iter=1000).fit(both, labels, np.concatenate([weight, 1 - weight]))
    slope = float(model.coef_[0, 0])
    # a slope that is not positive would turn the order of the images round: then only the frequency is known
    return (slope, float(model.intercept_[0])) if slope > 1e-3 else (1e-3, float(np.log(positives / negatives)))


def mention_rate(scores: Floats, named: NDArray[np.bool_]) -> float:
    """c = P(named | there), in 0.05..1: how many are named where the model is surest that each tag is there.

    Elkan and Noto's third estimator, the greatest P(named | image), over more than one example, and over each of the
    tags (images, tags): over all at once the surest are of the few tags that every caption names, such as dogs.
    """
    positives = named.sum(axis=0)
    counts = np.round(SURE_SHARE * positives).astype(int)
    if not counts.any():
        counts = np.minimum(positives, 1)
    right = np.cumsum(np.take_along_axis(named, np.argsort(-scores, axis=0, kind="stable"), axis=0), axis=0)
    tags = np.flatnonzero(counts)
    hits = right[counts[tags] - 1, tags].sum()
    return float(np.clip(hits / max(int(counts.sum()), 1), 0.05, 1.0))


def threshold_at(scores: Floats, named: NDArray[np.bool_], precision: float) -> float:
    """The least score from which on the scores reach ``precision`` against ``named``; just above 1 where none does.

    They must exceed it by one standard deviation of their number, so that a few lucky scores make no threshold.
    """
    flat, right = scores.reshape(-1), named.reshape(-1)
    order = np.argsort(-flat, kind="stable")
    flat, hits, counts = flat[order], np.cumsum(right[order]), np.arange(1, len(order) + 1)
    enough = hits >= counts * precision + np.sqrt(counts * precision * (1 - precision))
    last_of_equals = np.append(flat[1:] != flat[:-1], True)  # equal scores pass together
    passing = np.flatnonzero(enough & last_of_equals)
    return float(flat[passing[-1]]) if len(passing) else 1.0 + 1e-6


def best_threshold(scores: Floats, named: NDArray[np.bool_], rate: float, rule: ThresholdRule) -> float:
    """The score from which on F1 is greatest ("f1"), or precision and recall are closest ("balanced").

    ``rate`` is the mention rate: precision against captions is that much below the true one, recall is the same where
    what captions name is a fair sample. Just above 1 where nothing is named.
    """
    flat, right = scores.reshape(-1), named.reshape(-1)
    if not right.any():
        return 1.0 + 1e-6
    order = np.argsort(-flat, kind="stable")
    flat, hits, counts = flat[order], np.cumsum(right[order]), np.arange(1, len(order) + 1)
    precision, recall = np.minimum(hits / counts / rate, 1), hits / hits[-1]
    worth = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    if rule == "balanced":
        worth = -np.abs(precision - recall)
    worth[:-1][flat[1:] == flat[:-1]] = -np.inf  # equal scores pass together
    return float(flat[np.argmax(worth)])


def _sigmoid(values: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(values, -60, 60)))
