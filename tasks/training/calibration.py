"""From a model's logits to probabilities, and to thresholds that a precision may be expected of.

P(named | image) is a sigmoid of the logit, with a slope and an intercept a tag. Few tags have enough positives for a
fit of their own: the parameters of a type's tags are taken for draws from one normal distribution, which is estimated
from all of them (empirical Bayes: Efron and Morris 1973), and each tag's is what its own images make of that. So a tag
with few positives borrows from its type, and how little is known of it is known too.

From what is named to what is there, with the mention rate c = P(a caption names it | it is there). Images that are
*described* name all that is there; of their tags a caption leaves out the odds (1 - c) P(there) / (1 - P(there)), by
Bayes' rule. Where captions are all that is known, a tag that they do not name is there in x = (1 - c) / c P(named) /
(1 - P(named)) of the images (Elkan and Noto 2008, section 2.1) if mentioning is luck. It is not luck alone: what
strikes the eye is named, and scored high. So the odds are taken to grow as x ** SALIENCE_POWER, which was measured
against what any of five people name (``python benchmarks/first_contact.py`` shows how well it holds).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.special import expit

from tasks.labels import mention_rates
from tasks.labels.mention_rates import MentionRates
from tasks.settings.training import ThresholdRule

Floats = NDArray[np.floating]
FILE = "calibration.safetensors"
SALIENCE_POWER, SALIENCE_FACTOR = 0.55, 0.8  # the odds of being there though unnamed are factor * x ** power
DOUBTFUL = 0.8  # nothing is taken whose own probability is below this share of the precision aimed at
EDGES = np.linspace(-20, 20, 801)  # logits are counted in bins of a twentieth
CENTRES = (EDGES[1:] + EDGES[:-1]) / 2
EVIDENCE = 20_000  # images, at most, that a model is calibrated on
ROUNDS, STEPS = 8, 4  # of empirical Bayes, and of Newton's method within each


@dataclass(frozen=True)
class TagCounts:
    """How many images a model gives each logit, by tag: all of them, and those whose captions name the tag.

    Both are (tags, bins), the bins' centres being ``CENTRES``; images may count as fractions.
    """

    images: Floats
    named: Floats

    @classmethod
    def of(cls, logits: Floats, named: NDArray[np.bool_], weight: float = 1.0) -> TagCounts:
        """Of ``logits`` and ``named`` (images, tags); each image counts ``weight``."""
        bins = len(CENTRES)
        images, positives = np.zeros((2, logits.shape[1], bins))
        for tag in range(logits.shape[1]):
            places = np.clip(((logits[:, tag] - EDGES[0]) / (EDGES[1] - EDGES[0])).astype(np.int64), 0, bins - 1)
            images[tag] = np.bincount(places, minlength=bins)
            positives[tag] = np.bincount(places[named[:, tag]], minlength=bins)
        return cls(images * weight, positives * weight)

    def __add__(self, other: TagCounts) -> TagCounts:
        return TagCounts(self.images + other.images, self.named + other.named)


@dataclass(frozen=True)
class TagFits:
    """Of each tag P(named | logit) = sigmoid(intercept + slope logit), as a normal distribution of both.

    ``parameters`` (tags, 2) are the means, the intercept first; ``covariances`` are (tags, 2, 2).
    """

    parameters: Floats
    covariances: Floats

    def log_odds(self, logits: Floats) -> Floats:
        """(tags, n) of ``logits`` (tags, n), or (n,) for all tags alike."""
        return self.parameters[:, :1] + self.parameters[:, 1:] * logits

    def deviations(self, logits: Floats) -> Floats:
        """(tags, n): the standard deviation of :meth:`log_odds`."""
        covariance = self.covariances
        variance = covariance[:, 0, :1] + 2 * covariance[:, 0, 1:] * logits + covariance[:, 1, 1:] * logits**2
        return np.sqrt(np.maximum(variance, 0))

    def with_images(self, times: float) -> TagFits:
        """What would be known with so many times as many images."""
        return TagFits(self.parameters, self.covariances / times)


@dataclass(frozen=True)
class Calibration:
    """What turns logits into probabilities: one slope, intercept and mention rate a tag, and its threshold.

    ``cuts`` are the logits from which on a tag is predicted, ``bare_cuts`` those for images that came without captions,
    where it is the annotator's; infinite: never.
    """

    slopes: Floats
    intercepts: Floats
    mention_rates: Floats
    cuts: Floats
    described: bool = True  # the sigmoid is of what is there; else of what captions name
    bare_cuts: Floats | float = np.inf

    @classmethod
    def identity(cls, thresholds: Sequence[float]) -> Calibration:
        """No calibration: probabilities are the model's own."""
        ones = np.ones(len(thresholds))
        values = np.asarray(thresholds, np.float64)
        cuts = np.where(values < 1, _logit(values), np.inf)
        return cls(ones, np.zeros(len(ones)), ones, cuts)

    @classmethod
    def of_bars(cls, bars: pa.Table, tag_ids: Sequence[int]) -> Calibration:
        """What ``tag_bars`` say of these tags; of those that they lack nothing is ever predicted."""
        row_of = {tag_id: row for row, tag_id in enumerate(bars["tag_id"].to_pylist())}
        rows = np.array([row_of.get(tag_id, -1) for tag_id in tag_ids], np.intp)
        known = rows >= 0

        def column(name: str, otherwise: float) -> NDArray[np.float64]:
            values = np.append(bars[name].to_numpy().astype(np.float64), otherwise)
            return np.where(known, values[rows], otherwise)

        described = bool(bars.num_rows) and bool(bars["described"][0].as_py())
        return cls(
            column("slope", 1), column("intercept", 0), column("mention_rate", 1), column("cut", np.inf), described,
            column("bare_cut", np.inf),
        )  # fmt: skip

    def probabilities(self, logits: Floats, named: NDArray[np.bool_] | bool | None = None) -> Floats:
        """P(there | image) in 0..1 of logits (..., tags); with ``named`` False, (..., tags), of what no caption names.

        Where a caption names the tag it is as if nobody had said so.
        """
        return self.probabilities_of(logits, np.arange(logits.shape[-1]), named)

    def probabilities_of(
        self, logits: Floats, labels: NDArray[np.integer], named: NDArray[np.bool_] | bool | None = None
    ) -> Floats:
        """As :meth:`probabilities`, of single logits (n,), each of one of the ``labels`` (n,)."""
        log_odds = logits * self.slopes[labels] + self.intercepts[labels]
        there = probability(log_odds, self.mention_rates[labels], self.described)
        if named is None:
            return there
        return np.where(named, there, probability_unnamed(log_odds, self.mention_rates[labels], self.described))

    def added(self, logits: Floats, bare: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(images, tags): which tags are added to images with these ``logits`` (images, tags), of which some (images,)
        are ``bare``."""
        return np.where(bare[:, None], logits >= self.bare_cuts, logits >= self.cuts)

    def raw_thresholds(self) -> list[float]:
        """The thresholds as plain sigmoid values of the logits: what is written into a model's labels."""
        return np.where(np.isfinite(self.cuts), expit(self.cuts), 1 + 1e-6).tolist()


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
        self, types: Sequence[str], target_precision: float, rule: ThresholdRule = "precision"
    ) -> Calibration:
        """The calibration of tags of these types, with thresholds by ``rule`` that aim at ``target_precision``.

        Captions of a few held-out images cannot tell tags apart: thresholds for a precision come from one sigmoid and
        one mention rate of all tags, which leaves the model's own order of its tags as it is.
        """
        counts = TagCounts.of(self.logits, self.named)
        rates = mention_rates.expected(types, self.named.mean(axis=0))
        fits = fit_tags(counts, types)
        if rule == "precision" and not self.described:
            fits, rates = _pooled(counts, rates)
        return calibrate(counts, fits, rates, self.described, target_precision, rule)

    def save(self, folder: Path) -> None:
        """Writes ``calibration.safetensors`` into a model folder."""
        logits = self.logits.astype(np.float32)
        arrays: dict[str, NDArray[Any]] = {"logits": logits, "named": self.named.astype(np.uint8)}
        arrays["mentioned"] = self.mentioned.astype(np.float32)
        save_file(arrays, folder / FILE, {"described": str(int(self.described))})

    @staticmethod
    def is_described(folder: Path) -> bool:
        """Whether what :meth:`save` wrote is of described images; it is not read for that."""
        with safe_open(folder / FILE, "np") as file:
            return bool(file.metadata()["described"] == "1")

    @classmethod
    def load(cls, folder: Path) -> Evidence | None:
        """What :meth:`save` wrote; None where the model was not calibrated."""
        if not (folder / FILE).is_file():
            return None
        with safe_open(folder / FILE, "np") as file:
            logits, named, mentioned = (file.get_tensor(name) for name in ("logits", "named", "mentioned"))
        return cls(logits, named.astype(bool), cls.is_described(folder), mentioned)


def evidence_rows(count: int) -> NDArray[np.int64]:
    """The numbers of those of ``count`` images that calibrate a model: all, or as many as are enough, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, EVIDENCE)).astype(np.int64))


def calibrate(
    counts: TagCounts,
    fits: TagFits,
    rates: MentionRates,
    described: bool,
    target_precision: float,
    rule: ThresholdRule = "precision",
) -> Calibration:
    """Thresholds by what ``fits`` and mention ``rates`` lead to expect of the images of ``counts``.

    Args:
        described: whether those images name all that is there.
        target_precision: what the rule "precision" aims at, in 0..1: so much of all that passes is right, even where
            every tag is a standard deviation worse than it seems. One probability is asked of all tags, which loses the
            least recall; a tag that never reaches it is never predicted.
        rule: "precision", "f1" (the best that is expected) or "balanced" (precision equal to recall).
    """
    log_odds, deviations = fits.log_odds(CENTRES), fits.deviations(CENTRES)
    there = probability(log_odds, rates.rates[:, None], described)
    if rule == "precision":
        low = probability(log_odds - deviations, rates.high[:, None], described)
        cuts = common_cuts(counts.images, there, low, target_precision)
    else:
        cuts = best_cuts(counts.images, there, rule)
    return Calibration(fits.parameters[:, 1], fits.parameters[:, 0], rates.rates, cuts, described)


def _pooled(counts: TagCounts, rates: MentionRates) -> tuple[TagFits, MentionRates]:
    """One sigmoid and one mention rate for all tags, by all that captions name."""
    tags, named = len(counts.images), counts.named.sum(axis=1) + 1e-9
    together = fit_tags(TagCounts(counts.images.sum(0, keepdims=True), counts.named.sum(0, keepdims=True)), ["all"])
    fits = TagFits(np.repeat(together.parameters, tags, axis=0), np.repeat(together.covariances, tags, axis=0))
    means = (np.full(tags, np.average(values, weights=named)) for values in (rates.rates, rates.spreads))
    return fits, MentionRates(*means)


def probability(log_odds: Floats, rates: Floats, described: bool) -> Floats:
    """P(there), 0..1, of the log-odds that a tag of this mention rate is named; see the module."""
    named = expit(log_odds)
    if described:
        return np.asarray(named)
    return np.asarray(named + (1 - named) * probability_unnamed(log_odds, rates, described))


def probability_unnamed(log_odds: Floats, rates: Floats, described: bool) -> Floats:
    """P(there | no caption names it), 0..1, of the log-odds that a tag of this mention rate is named."""
    with np.errstate(divide="ignore"):
        if described:
            return np.asarray(expit(log_odds + np.log(1 - rates)))
        return damped(log_odds + np.log((1 - rates) / rates))


def damped(log_odds: Floats) -> Floats:
    """P(there | no caption names it), 0..1, of log x: the odds x grow as a power, see the head of this module."""
    return np.asarray(expit(SALIENCE_POWER * log_odds + np.log(SALIENCE_FACTOR)))


def fit_tags(counts: TagCounts, types: Sequence[str]) -> TagFits:
    """The :class:`TagFits` of tags of these types, (tags,), by empirical Bayes within each type."""
    kinds = np.unique(np.asarray(types), return_inverse=True)[1] if len(types) else np.zeros(0, np.intp)
    means = np.tile([0.0, 1.0], (len(types), 1))
    spreads = np.tile(np.diag([1.0, 0.25]), (len(types), 1, 1))
    parameters = means.copy()
    covariances = spreads.copy()
    for _ in range(ROUNDS):
        precisions = np.linalg.inv(spreads)
        for _ in range(STEPS):
            parameters, covariances = _newton(counts, parameters, means, precisions)
        for kind in np.unique(kinds):
            own = kinds == kind
            means[own] = parameters[own].mean(axis=0)
            apart = parameters[own] - means[own]
            scatter = np.einsum("ti,tj->ij", apart, apart) + covariances[own].sum(axis=0) + 0.02 * np.eye(2)
            spreads[own] = scatter / (own.sum() + 1)
    return TagFits(parameters, covariances)


def _newton(counts: TagCounts, parameters: Floats, means: Floats, precisions: Floats) -> tuple[Floats, Floats]:
    """One step towards each tag's most likely parameters, and the covariances there (Laplace)."""
    chance = expit(parameters[:, :1] + parameters[:, 1:] * CENTRES)
    error = counts.named - counts.images * chance
    weight = counts.images * chance * (1 - chance)
    apart = parameters - means
    gradient = np.stack([error.sum(1), error @ CENTRES], axis=1) - np.einsum("tij,tj->ti", precisions, apart)
    moments = weight.sum(1), weight @ CENTRES, weight @ CENTRES**2
    hessian = precisions + np.stack([np.stack(moments[:2], 1), np.stack(moments[1:], 1)], axis=1)
    covariances = np.linalg.inv(hessian)
    step = np.einsum("tij,tj->ti", covariances, gradient).clip(-2, 2)
    moved = parameters + step
    moved[:, 1] = np.maximum(moved[:, 1], 1e-3)  # a slope that is not positive would turn the order of images round
    return moved, covariances


def cuts_at(images: Floats, probabilities: Floats, precision: float) -> Floats:
    """(tags,): the logits from which on the mean of the ``probabilities`` of ``images``, both (tags, bins), reaches
    ``precision``, and each is at least ``DOUBTFUL`` of it; infinite where none does."""
    from_here = np.cumsum(images[:, ::-1], axis=1)[:, ::-1]
    right = np.cumsum((images * probabilities)[:, ::-1], axis=1)[:, ::-1]
    enough = (from_here > 0) & (right >= precision * from_here) & (probabilities >= DOUBTFUL * precision)
    first = np.argmax(enough, axis=1)
    return np.where(enough.any(axis=1), EDGES[first], np.inf)


def common_cuts(images: Floats, probabilities: Floats, low: Floats, precision: float) -> Floats:
    """(tags,): the logits from which on the ``probabilities`` of ``images`` reach one value, the same for all tags: the
    least from which on the mean of ``low``, their lower bounds, is at least ``precision``. All are (tags, bins).
    Infinite for tags that do not reach it."""
    order = np.argsort(-probabilities, axis=None, kind="stable")
    from_here = np.cumsum(images.ravel()[order])
    right = np.cumsum((images * low).ravel()[order])
    enough = np.flatnonzero((from_here > 0) & (right >= precision * from_here))
    if not len(enough):
        return np.full(len(images), np.inf)
    passing = probabilities >= probabilities.ravel()[order][enough[-1]]
    return np.where(passing.any(axis=1), EDGES[np.argmax(passing, axis=1)], np.inf)


def best_cuts(images: Floats, probabilities: Floats, rule: ThresholdRule) -> Floats:
    """(tags,): the logits from which on the expected F1 is greatest ("f1"), or the expected precision and recall are
    closest ("balanced"); infinite where there is nothing to expect."""
    from_here = np.cumsum(images[:, ::-1], axis=1)[:, ::-1]
    right = np.cumsum((images * probabilities)[:, ::-1], axis=1)[:, ::-1]
    all_right = right[:, :1]
    if rule == "f1":
        worth = 2 * right / np.maximum(from_here + all_right, 1e-9)
    else:
        worth = -np.abs(right / np.maximum(from_here, 1e-9) - right / np.maximum(all_right, 1e-9))
    worth = np.where(from_here > 0, worth, -np.inf)
    return np.where(all_right[:, 0] > 1e-6, EDGES[np.argmax(worth, axis=1)], np.inf)


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


def _logit(values: Floats) -> Floats:
    clipped = np.clip(values, 1e-9, 1 - 1e-9)
    return np.log(clipped / (1 - clipped))
