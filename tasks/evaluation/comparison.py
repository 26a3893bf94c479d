"""Rows of an ablation compared: trained alike on other labels, with several seeds each, measured on one test set.

An interval is over seeds and photographs: every bootstrap sample draws photographs and seeds with replacement, the same
ones for all rows. So differences are paired, and what all rows share does not widen them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.metrics import ANY, DIFFERENCE, Ranking, bootstrap, interval
from tasks.evaluation.rows import Row


def compare(
    truth: NDArray[np.bool_], rows: Mapping[str, NDArray[np.floating]], samples: int = 500, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Figures of each row's ``scores`` (seeds, images, tags), against ``truth`` (images, tags).

    ``mAP`` the mean over the seeds, ``spread`` their standard deviation and ``seeds`` each one's; ``more`` the
    difference to the row ``parsed`` with its 95% interval; and, where a row ``ceiling`` is above it, ``gap_closed``,
    the share of the difference between the two that the row makes good, with its interval. All rows need as many seeds.
    """
    counts = {len(scores) for scores in rows.values()}
    if len(counts) != 1:
        raise ValueError(f"rows with {sorted(counts)} seeds cannot be paired: train each with the same ones")
    seeds = counts.pop()
    rankings = [[Ranking(truth, of_seed) for of_seed in scores] for scores in rows.values()]
    values = _averages(rankings, None)
    drawn = bootstrap(lambda weights: _averages(rankings, weights), len(truth), samples, seed)  # (samples, rows, seeds)
    chance = np.random.default_rng(seed)
    chosen = chance.integers(seeds, size=(samples, seeds))
    drawn = np.take_along_axis(drawn, chosen[:, None, :], axis=2).mean(axis=2)  # (samples, rows)
    names = list(rows)
    figures: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(names):
        spread = float(values[place].std(ddof=1)) if seeds > 1 else None
        of_row: dict[str, Any] = {"mAP": float(values[place].mean()), "spread": spread, "seeds": values[place].tolist()}
        if Row.PARSED in rows:
            base = names.index(Row.PARSED)
            gained = float(values[place].mean() - values[base].mean())
            gained_drawn = drawn[:, place] - drawn[:, base]
            of_row["more"] = [gained, *interval(gained_drawn, gained, within=DIFFERENCE)]
            if Row.CEILING in rows and name not in (Row.PARSED, Row.CEILING):
                top = names.index(Row.CEILING)
                gap, gap_drawn = float(values[top].mean() - values[base].mean()), drawn[:, top] - drawn[:, base]
                if gap > 0 and gap_drawn.all():
                    of_row["gap_closed"] = [gained / gap, *interval(gained_drawn / gap_drawn, gained / gap, within=ANY)]
        figures[name] = of_row
    return figures


def _averages(rankings: list[list[Ranking]], weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """mAP of every row and seed, (rows, seeds)."""
    return np.array([[ranking.weighted_mean(weights) for ranking in row] for row in rankings])
