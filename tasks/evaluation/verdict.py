"""Whether the engine made a better tagger: two models on the same test pictures, and how sure one can be.

The interval is a paired bootstrap over the pictures. Another seed of a training moves mAP as well; what that is worth
`ram-engine ablate` tells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.metrics import DIFFERENCE, Ranking, bootstrap, interval
from tasks.evaluation.rows import Row

BETTER, NOT_SHOWN, WORSE, NOT_COMPARED = "better", "no difference shown", "worse", "not compared"
FEWEST = 30  # pictures: of fewer the interval is too narrow (of 5 and 10 one in eight missed the truth, not one in 20)
BEYOND = 1_000_000  # pictures that no one will label
NAMES = {
    Row.CLEANING: "the retrained model",
    Row.PARSED: "the one trained on parsed captions alone",
    Row.FINE_TUNED: "the fine-tuned model",
    Row.PARSED_FINE_TUNED: "the one trained on parsed captions alone and fine-tuned alike",
}
LEFT_OUT = "what they leave out counts as wrong"
AGAINST = {
    "truth": "the known truth",
    "described": "a person's own labels, which name everything",
    "captions": f"the words of their captions: {LEFT_OUT}",
    "all captions": f"the words of all captions of each picture: {LEFT_OUT}",
    "labels": f"the labels that their source gives: {LEFT_OUT}",
    "captions and labels": f"the words of their captions and the labels that their source gives: {LEFT_OUT}",
}
"""What figures on the test pictures are measured against."""


@dataclass(frozen=True)
class Verdict:
    """``model`` compared with another one, ``compared_with``.

    ``difference`` is the mAP ``after`` less the mAP ``before`` (each 0..1), with its 95% interval from ``low`` to
    ``high``, over the ``tags`` that one of the test ``pictures`` has. ``against`` is a key of :data:`AGAINST`. Figures
    are NaN where ``word`` is "not compared", and ``reason`` says why.
    """

    word: str
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    after: float = math.nan
    before: float = math.nan
    pictures: int = 0
    tags: int = 0
    against: str = "captions"
    model: str = Row.CLEANING.value
    compared_with: str = Row.PARSED.value
    reason: str = ""

    @property
    def least_shown(self) -> float:
        """The least difference of mAP that so many pictures can show: half the interval's width."""
        return (self.high - self.low) / 2

    @property
    def pictures_needed(self) -> int:
        """From about how many pictures on the interval of such a difference leaves zero out: its width falls with their
        square root. :data:`BEYOND` where the difference is too small to be shown at all."""
        if not abs(self.difference) > 0:
            return BEYOND
        needed = self.pictures * (self.least_shown / abs(self.difference)) ** 2
        return min(BEYOND, max(FEWEST, _rounded(needed)))


def verdict(
    truth: NDArray[np.bool_],
    scores_after: NDArray[np.floating],
    scores_before: NDArray[np.floating],
    samples: int = 500,
    seed: int = 0,
) -> Verdict:
    """Which of two models is better, by their scores (images, tags) of the same test pictures.

    "better" or "worse" only where the 95% interval of the difference leaves zero out and there are at least
    :data:`FEWEST` pictures. Raises ValueError where shapes differ.
    """
    rankings = [Ranking(truth, scores) for scores in (scores_after, scores_before)]  # checks the shapes
    counted = truth.any(axis=0)
    if not counted.any():
        return Verdict(NOT_COMPARED, pictures=len(truth), reason="no test picture has a tag")
    rankings = [Ranking(truth[:, counted], ranking.scores[:, counted]) for ranking in rankings]
    after, before = (float(ranking.weighted_mean()) for ranking in rankings)

    def gap(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        first, second = (ranking.weighted_mean(weights) for ranking in rankings)
        return np.array(first - second)

    low, high = interval(bootstrap(gap, len(truth), samples, seed), after - before, within=DIFFERENCE)
    word = BETTER if low > 0 else WORSE if high < 0 else NOT_SHOWN
    if len(truth) < FEWEST:
        word = NOT_SHOWN
    return Verdict(word, after - before, low, high, after, before, len(truth), int(counted.sum()))


def headline(comparison: Verdict) -> str:
    """The verdict in a sentence."""
    if comparison.word == NOT_COMPARED:
        return f"Not compared: {comparison.reason}."
    model, other = NAMES[Row(comparison.model)], NAMES[Row(comparison.compared_with)]
    return (
        f"{comparison.word.capitalize()}: {model} reaches {comparison.after:.3f} mAP, {other} {comparison.before:.3f}: "
        f"{comparison.difference:+.3f} (95% interval {comparison.low:+.3f} to {comparison.high:+.3f})."
    )


def basis(comparison: Verdict) -> str:
    """How many pictures it rests on, what they can show, and what they are measured against."""
    if comparison.word == NOT_COMPARED:
        return ""
    said = f"This rests on {comparison.pictures:,} test pictures, measured against {AGAINST[comparison.against]}. "
    if comparison.pictures < FEWEST:
        return f"{said}So few prove nothing, whatever the figures say: at least {FEWEST} are needed."
    return f"{said}So many can show a difference from about {comparison.least_shown:.3f} on."


def next_steps(comparison: Verdict) -> list[str]:
    """What to do where it is worse, or not shown: two lines; none where it is better."""
    if comparison.word in (BETTER, NOT_COMPARED):
        return []
    ablate = "`ram-engine ablate --seeds 5` trains on each stage's labels and tells which of them help and which harm."
    if comparison.word == WORSE:
        return [
            "Add less (a higher calibrate.target_precision), or let a stronger model annotate: docs/annotators.md.",
            ablate,
        ]
    needed = comparison.pictures_needed
    about = "more than a million" if needed >= BEYOND else f"about {needed:,}"
    return [
        f"To show a difference of {abs(comparison.difference):.3f} takes {about} test pictures: hold out more "
        "(ingest.test_share), or bring labels of your own (--source labels:FILE.csv).",
        ablate,
    ]


def verdicts_of(rows: Sequence[dict[str, Any]]) -> list[Verdict]:
    """The rows of the artifact ``verdict``."""
    return [Verdict(**row) for row in rows]


def _rounded(value: float) -> int:
    """To two digits, upwards: a guess has no more."""
    step = 10 ** max(0, int(math.log10(max(value, 1))) - 1)
    return math.ceil(value / step) * step
