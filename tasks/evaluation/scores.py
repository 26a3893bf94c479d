"""What a model says of an evaluation set, stored: thresholds move without the model running again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from models import Label
from tasks.evaluation.metrics import DIFFERENCE, Ranking, bootstrap, frequency_bands, interval, precision_recall

Figures = dict[str, dict[str, list[float]]]
"""subset -> metric -> value, lower and upper end of its interval."""


class ScoresError(ValueError):
    """A file that holds no stored scores."""


@dataclass(frozen=True)
class Scores:
    """``truth`` and ``scores`` are (images, labels); the rest (labels,).

    ``thresholds`` are the model's own (infinite: it has none), ``answered`` whether it answers for the label at all,
    ``trained`` whether it was trained on it: what is answered and not trained on is open vocabulary.
    """

    model: str
    labels: tuple[Label, ...]
    images: tuple[str, ...]
    truth: NDArray[np.bool_]
    scores: NDArray[np.float32]
    thresholds: NDArray[np.float32]
    answered: NDArray[np.bool_]
    trained: NDArray[np.bool_]
    against: str = ""  # what the truth is; "": it was not written down

    def save(self, file: Path) -> None:
        """Writes one safetensors file."""
        described = {
            "model": self.model,
            "labels": json.dumps([asdict(label) for label in self.labels]),
            "images": json.dumps(self.images),
            "against": self.against,
        }
        arrays: dict[str, NDArray[Any]] = {"scores": self.scores, "thresholds": self.thresholds}
        for name in ("truth", "answered", "trained"):
            arrays[name] = getattr(self, name).astype(np.uint8)
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(arrays, file, described)

    @classmethod
    def load(cls, file: Path) -> Scores:
        """What :meth:`save` wrote. Raises :class:`ScoresError` for anything else."""
        try:
            with safe_open(file, "np") as stored:
                described = stored.metadata()
                flags = {name: stored.get_tensor(name).astype(bool) for name in ("truth", "answered", "trained")}
                return cls(
                    described["model"],
                    tuple(Label(**label) for label in json.loads(described["labels"])),
                    tuple(json.loads(described["images"])),
                    scores=stored.get_tensor("scores"),
                    thresholds=stored.get_tensor("thresholds"),
                    against=described.get("against", ""),
                    **flags,
                )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ScoresError(f"{file} holds no scores that `ram-engine evaluate` stored ({error})") from error


def measure(stored: Scores, thresholds: NDArray[np.floating] | None = None, samples: int = 1000) -> Figures:
    """mAP by subset, and class and overall precision, recall and F1 at ``thresholds`` (labels,), by default the own.

    Subsets: all; a type each; frequent, medium and rare, thirds of the tags by how many images have them; trained and
    never_trained, where there are both. ``best`` has the precision, recall and F1 at the thresholds that are best for
    each tag by the truth: a bound. Intervals hold 95% of ``samples`` bootstrap samples of the images. Tags that no
    image has, or that the model does not answer for, are left out.
    """
    counted = stored.answered & stored.truth.any(axis=0)
    truth, scores = stored.truth[:, counted], stored.scores[:, counted]
    if not truth.size:
        raise ScoresError(f"{stored.model} answers for none of the labels that an image has")
    limits = (stored.thresholds if thresholds is None else thresholds)[counted]
    ranking = Ranking(truth, scores)
    subsets = _subsets(stored, counted, truth)
    members = np.array([*subsets.values()])

    def averages(weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
        return ranking.weighted_means(members, weights)

    figures: Figures = {}
    drawn = bootstrap(averages, len(truth), samples)
    for name, value, values in zip(subsets, averages(None), drawn.T, strict=True):
        figures[name] = {"mAP": [float(value), *interval(values, value)]}
    claims = {"best": scores >= ranking.best_thresholds()}
    if np.isfinite(limits).any():
        claims["all"] = scores >= limits
    for name, predicted in claims.items():

        def claimed(weights: NDArray[np.float64], predicted: NDArray[np.bool_] = predicted) -> NDArray[np.float64]:
            return np.array([*precision_recall(truth, predicted, weights).values()])

        drawn = bootstrap(claimed, len(truth), samples)
        for (metric, value), values in zip(precision_recall(truth, predicted).items(), drawn.T, strict=True):
            figures.setdefault(name, {})[metric] = [value, *interval(values, value)]
    return figures


def difference(ours: Scores, theirs: Scores, samples: int = 1000) -> list[float]:
    """mAP of ``one`` less that of ``other`` over the tags that both answer for, and its 95% interval, paired."""
    if ours.images != theirs.images or ours.labels != theirs.labels:
        raise ScoresError(f"{ours.model} and {theirs.model} were measured on different sets: nothing can be compared")
    counted = ours.answered & theirs.answered & ours.truth.any(axis=0)
    if not counted.any():
        raise ScoresError(f"{ours.model} and {theirs.model} answer for no label in common")
    rankings = [Ranking(scores.truth[:, counted], scores.scores[:, counted]) for scores in (ours, theirs)]

    def gap(weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
        first, second = (ranking.weighted_mean(weights) for ranking in rankings)
        return np.array(first - second)

    gained = float(gap(None))
    return [gained, *interval(bootstrap(gap, len(ours.truth), samples), gained, within=DIFFERENCE)]


def per_tag(stored: Scores) -> dict[str, list[float]]:
    """label -> AP and how many images have it, the best first; labels that are not counted are left out."""
    counted = np.flatnonzero(stored.answered & stored.truth.any(axis=0))
    values = Ranking(stored.truth[:, counted], stored.scores[:, counted]).average_precisions()
    return {
        stored.labels[counted[at]].name: [float(values[at]), int(stored.truth[:, counted[at]].sum())]
        for at in np.argsort(-values, kind="stable")
    }


def _subsets(stored: Scores, counted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    types = np.array([label.type for label in stored.labels])[counted]
    trained = stored.trained[counted]
    subsets = {"all": np.ones(len(types), bool)}
    if len(set(types)) > 1:
        subsets |= {name: types == name for name in sorted(set(types))}
    subsets |= frequency_bands(truth.sum(axis=0))
    if trained.any() and not trained.all():
        subsets |= {"trained": trained, "never_trained": ~trained}
    return {name: members for name, members in subsets.items() if members.any()}
