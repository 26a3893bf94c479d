"""How much of what is in a picture a caption names: by type and frequency of a tag.

c = P(a caption names it | one of five people names it). The table beside this module was measured on the training
captions of Flickr8k (Hodosh et al. 2013), five a photograph: ``python benchmarks/mention_rates.py FLICKR8K`` writes it.
Pictures with several captions say more about their own corpus: what they show is added to what the table expects.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
PEOPLE = 5  # what that many people would name counts as being there
LEAST_RATE, GREATEST_RATE = 0.05, 0.98


@dataclass(frozen=True)
class MentionRates:
    """Of each tag c, in 0..1, and the standard deviation of what is known of it; both (tags,)."""

    rates: Floats
    spreads: Floats

    @property
    def log_odds_deviations(self) -> Floats:
        """(tags,) the standard deviation of the logarithm of (1 - c) / c."""
        return self.spreads / np.maximum(self.rates * (1 - self.rates), 1e-6)

    @property
    def low(self) -> Floats:
        """(tags,) the rates, a standard deviation lower."""
        return np.clip(self.rates - self.spreads, LEAST_RATE, 1)

    @property
    def high(self) -> Floats:
        """(tags,) the rates, a standard deviation higher."""
        return np.clip(self.rates + self.spreads, LEAST_RATE, 1)


@dataclass(frozen=True)
class Band:
    """A row of the table: tags of one type that at least this share of the captions names."""

    type: str
    least_share: float
    rate: float
    spread: float
    tags: int


@cache
def table() -> tuple[Band, ...]:
    """The bands that come with the package, by type and share, ascending."""
    text = resources.files("tasks.labels").joinpath("mention_rates.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return tuple(
        Band(row["type"], float(row["least_share"]), float(row["rate"]), float(row["spread"]), int(row["tags"]))
        for row in rows
    )


def expected(types: Sequence[str], shares: Floats) -> MentionRates:
    """What the table says of tags of these types, (tags,), that these shares of the captions name, (tags,) in 0..1."""
    bands = [
        [band for band in table() if band.type == type_ and band.least_share <= max(share, 0.0)][-1]
        for type_, share in zip(types, shares, strict=True)
    ]
    return MentionRates(np.array([band.rate for band in bands]), np.array([band.spread for band in bands]))


def observed(prior: MentionRates, said: Floats, said_again: Floats) -> MentionRates:
    """``prior``, and what pictures with several captions show.

    ``said`` (tags,) is how many captions that have another beside them name the tag; ``said_again`` (tags,) how many
    of these a second caption of the picture confirms, on average over its other captions. P(confirmed | said) = s is
    that of one other caption; of five people 1 - (1 - s)^5 in s name it at least once.
    """
    once = np.divide(said_again, said, out=np.full(len(said), 0.5), where=said > 0).clip(0.02, 0.99)
    rate = once / (1 - (1 - once) ** PEOPLE)
    return _updated(prior, rate, said)


def of_described(prior: MentionRates, there: Floats, named: Floats) -> MentionRates:
    """``prior``, and what captions of pictures show of which a person named everything.

    ``there`` (tags,) is how many captions those pictures have that the tag is in, ``named`` how many of these name it.
    """
    return _updated(prior, np.divide(named, there, out=np.full(len(there), 0.5), where=there > 0), there)


def _updated(prior: MentionRates, rate: Floats, captions: Floats) -> MentionRates:
    """``prior`` and the ``rate`` that so many ``captions`` show; it is worth as many as its spread says."""
    rate = rate.clip(LEAST_RATE, GREATEST_RATE)
    known = np.maximum(prior.rates * (1 - prior.rates) / np.maximum(prior.spreads, 1e-3) ** 2 - 1, 1.0)
    weight = captions / (captions + known)
    mean = weight * rate + (1 - weight) * prior.rates
    spread = np.sqrt(mean * (1 - mean) / (captions + known + 1))
    return MentionRates(mean, np.minimum(spread, np.maximum(prior.spreads, 1e-3)))
