"""Asks annotators and detectors, other people's code: what they fail on costs one image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from storage.store import StoreError
from tasks.annotators.base import Annotator, Answers, Batch
from tasks.images.tokens import MissingTokensError

Answer = TypeVar("Answer")


def isolated(
    ask: Callable[[Sequence[int]], Sequence[Answer]], places: Sequence[int], failed: Callable[[int, str], Answer]
) -> list[Answer]:
    """What ``ask`` answers about ``places``, one answer each; where it fails, each is asked about alone.

    ``failed`` gives the answer of a place at which it fails again, and is told why.
    """
    try:
        answers = list(ask(places))
        if len(answers) != len(places):
            raise ValueError(f"{len(answers)} answers to {len(places)} images")
        return answers
    except (MissingTokensError, StoreError):  # no fault of an image: the store lacks what a stage before has to give
        raise
    except Exception as error:
        if len(places) == 1:
            return [failed(places[0], f"{type(error).__name__}: {error}")]
    return [answer for place in places for answer in isolated(ask, [place], failed)]


def annotated(annotator: Annotator, batch: Batch) -> Answers:
    """The annotator's answers about one of its parts of a batch; the images that it fails on are among the rejected."""
    width = len(annotator.columns)
    nothing: NDArray[np.float32] = np.zeros(width, np.float32)

    def ask(places: Sequence[int]) -> list[tuple[NDArray[np.floating], list[str], str]]:
        answers = annotator.annotate(batch.subset(places))
        rejected = [answers.rejected.get(place, "") for place in range(len(places))]
        answered = np.array([not why for why in rejected], bool)
        scores = np.asarray(answers.scores)
        if scores.shape != (len(places), width) or not np.isfinite(scores[answered]).all():
            raise ValueError(f"its scores {scores.shape} are not finite numbers ({len(places)}, {width})")
        captions = answers.captions if len(answers.captions) else [()] * len(places)
        texts = [[_text(text) for text in of_image] for of_image in captions]
        return list(zip(np.where(answered[:, None], scores, 0), texts, rejected, strict=True))

    said = isolated(ask, range(len(batch)), lambda place, why: (nothing, [], why))
    return Answers(
        np.stack([scores for scores, _, _ in said]) if said else np.zeros((0, width), np.float32),
        [captions for _, captions, _ in said],
        {place: why for place, (_, _, why) in enumerate(said) if why},
    )


def _text(text: str) -> str:
    """The text, if it is one that can be stored. Raises UnicodeEncodeError, or AttributeError where it is none."""
    text.encode("utf-8")
    return text
