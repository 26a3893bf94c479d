"""Reduce stage `audit`: tries the judge on words that are known to be right, and the captioner on all of its words.

Reads pairs, caption_tags, generated, regions, clusters, label_system and tag_bars; writes judge_checks: a row for every
reason for which the judge would take a caption's word away, and one for the captioner.

A word is known to be right where another caption of the picture says it too, where it is among the labels that a person
gave the picture, or where the picture is fully described.
If a reason takes the share r of the words that are known to be right, and the share a of all words, then at least
1 - r / a of what it takes is wrong. It is proven where the lower bound of that is above one half.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.stats import beta

from storage.bare import IN_SQL
from storage.schemas import TagSource, contract
from tasks.judging.typicality import read_clusters
from tasks.machine.inputs import Inputs
from tasks.settings.executor import ExecutorSettings
from tasks.settings.judge import JudgeSettings
from tasks.stages.judge import CAPTIONER, REASONS, decide, expected_shares, measured
from tasks.training.calibration import damped

SURE = 0.95  # of the bounds
PICTURES = 20_000  # that are looked at, at most
TOGETHER = 1_000  # pictures that are judged at once: their scores take much memory
DRAWS = 500
WORDS = {
    "caption_disagrees": "that a caption disagrees with its picture",
    "cluster_outlier": "that all regions of a tag are outliers",
    "region_not_predicted": "that no region of a tag looks like it",
    "no_box": "that no region of a tag was found",
}


def reduce(settings: JudgeSettings, inputs: Inputs, executor: ExecutorSettings) -> Mapping[str, pa.Table]:
    """The checks of the judge at these settings, and of the captioner."""
    pairs = inputs.sql(f"SELECT image_id, split FROM pairs WHERE NOT {IN_SQL} ORDER BY image_id LIMIT {PICTURES}")
    caption_tags, generated = (_of_pairs(inputs, name, pairs) for name in ("caption_tags", "generated"))
    inputs.progress(1, 3)
    regions = _regions(inputs, pairs, settings)
    expected = expected_shares(inputs.table("tag_bars"))
    label_system = inputs.table("label_system", ["tag_id", "groundable"])

    def said_of(some: pa.Table) -> pa.Table:
        """The verdicts on the words of some pairs' captions."""
        shard = {"pairs": some, "caption_tags": _of(caption_tags, some), "generated": _of(generated, some)}
        judged = (*REASONS, CAPTIONER)
        verdicts = decide(shard, _of(regions, some), expected, settings, label_system, judged)
        return verdicts.filter(pc.greater(pc.bit_wise_and(verdicts["source"], TagSource.CAPTION), 0))

    empty = contract("tag_verdicts").schema.empty_table()
    starts = range(0, pairs.num_rows, TOGETHER)
    said = pa.concat_tables([empty, *(said_of(pairs.slice(start, TOGETHER)) for start in starts)])
    inputs.progress(2, 3)
    known = known_right(caption_tags, pairs)
    rows = [_check(reason, said, known) for reason in REASONS]
    rows.append(_captioner(generated, caption_tags, inputs.table("tag_bars"), pairs))
    return {"judge_checks": pa.Table.from_pylist(rows, schema=contract("judge_checks").schema)}


def known_right(caption_tags: pa.Table, pairs: pa.Table) -> set[tuple[str, int]]:
    """The words (image_id, tag_id) that are known to be right.

    A source that has pairs to fine-tune on describes them, and those to calibrate on, fully.
    """
    splits = dict(zip(pairs["image_id"].to_pylist(), pairs["split"].to_pylist(), strict=True))
    described = {"fine_tune", "calibrate"} if "fine_tune" in splits.values() else set()
    times: dict[tuple[str, int], int] = {}
    for row in caption_tags.to_pylist():
        a_persons_own = row["caption_index"] < 0 or splits[row["image_id"]] in described
        worth = 2 if a_persons_own else 1
        for tag_id in set(row["tag_ids"]):
            times[row["image_id"], tag_id] = times.get((row["image_id"], tag_id), 0) + worth
    return {word for word, said in times.items() if said > 1}


def wrong_share(known: int, known_taken: int, said: int, said_taken: int) -> tuple[float, float]:
    """How much of what a reason takes is wrong at least, 0..1: as estimated, and its lower bound.

    ``known_taken`` of the ``known`` right words are taken, and ``said_taken`` of all ``said``; bounds are those of
    Clopper and Pearson (1934).
    """
    if not known or not said_taken:
        return 0.0, 0.0
    right = beta.ppf(SURE, known_taken + 1, known - known_taken) if known_taken < known else 1.0
    taken = beta.ppf(1 - SURE, said_taken, said - said_taken + 1)
    value = 1 - (known_taken / known) / (said_taken / said)
    return max(0.0, value), max(0.0, float(1 - right / taken))


def _check(reason: str, said: pa.Table, known: set[tuple[str, int]]) -> dict[str, object]:
    taken = pc.and_(pc.equal(said["reason"], reason), pc.invert(said["kept"])).to_numpy(zero_copy_only=False)
    words = list(zip(said["image_id"].to_pylist(), said["tag_id"].to_pylist(), strict=True))
    right = np.fromiter((word in known for word in words), bool, len(words))
    value, low = wrong_share(int(right.sum()), int((taken & right).sum()), len(words), int(taken.sum()))
    passed = low > 0.5
    if passed:
        told = f"Of the words that fall on the ground {WORDS[reason]}, at least {low:.0%} are wrong: they are removed."
    elif not right.any():
        told = (
            f"Captions' words are not removed on the ground {WORDS[reason]}: no picture has several captions or a full "
            "description, so that nothing shows whether the judge or the caption is right."
        )
    else:
        told = (
            f"Captions' words are not removed on the ground {WORDS[reason]}: it would take {int(taken.sum()):,} of "
            f"{len(words):,} words, and {int((taken & right).sum()):,} of the {int(right.sum()):,} known to be right."
        )
    return _row(reason, value, low, 1.0, passed, told)


def _captioner(generated: pa.Table, caption_tags: pa.Table, bars: pa.Table, pairs: pa.Table) -> dict[str, object]:
    """How right the words of generated captions are that no caption of a training picture names, as estimated."""
    train = set(pairs.filter(pc.equal(pairs["split"], "train"))["image_id"].to_pylist())
    named: dict[str, set[int]] = {image_id: set() for image_id in train}
    for row in caption_tags.to_pylist():
        if row["image_id"] in train:
            named[row["image_id"]].update(row["tag_ids"])
    texts, counts = set(), []
    odds = dict(zip(bars["tag_id"].to_pylist(), _unnamed_odds(bars), strict=True))
    for row in generated.select(["image_id", "captions", "caption_tag_ids"]).to_pylist():
        if row["image_id"] in train and row["captions"]:
            texts.add(row["captions"][0])
            written = {tag for tags in row["caption_tag_ids"] for tag in tags if tag in odds}
            own = written & named[row["image_id"]]
            counts.append((sum(odds[tag] for tag in own), len(written) - len(own)))
    if not counts:
        return _row(CAPTIONER, np.nan, np.nan, np.nan, False, "No captions were generated.")
    described = bool(bars["described"][0].as_py())
    value, low, high = _precision(np.array(counts, np.float64), described)
    passed = low >= 0.5
    told = (
        f"{len(texts):,} different captions were written for {len(counts):,} pictures; of their words that no caption "
        f"names {value:.0%} are right as estimated ({low:.0%} to {high:.0%}): they are "
        f"{'listened to' if passed else 'not listened to'}."
    )
    return _row(CAPTIONER, value, low, high, passed, told)


def _unnamed_odds(bars: pa.Table) -> NDArray[np.float64]:
    """(tags,): how often a tag is there unnamed, for each time that a caption names it."""
    rates = bars["mention_rate"].to_numpy().clip(1e-3, 1)
    return np.asarray((1 - rates) / rates)


def _precision(counts: NDArray[np.float64], described: bool) -> tuple[float, float, float]:
    """The precision of unnamed words and its interval, from what is expected right and how many there are, (images, 2);
    see :func:`~tasks.training.calibration.damped`, here of all words at once."""
    chance = np.random.default_rng(0)

    def precision(rows: NDArray[np.intp]) -> float:
        right, unnamed = counts[rows].sum(axis=0)
        log_odds = np.log(max(right, 1e-9) / max(unnamed, 1e-9))
        if described:
            return float(min(1.0, np.exp(log_odds)))
        return float(damped(log_odds))

    drawn = [precision(chance.integers(0, len(counts), len(counts))) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [(1 - SURE) / 2, (1 + SURE) / 2])
    return precision(np.arange(len(counts))), float(low), float(high)


def _row(check: str, value: float, low: float, high: float, passed: bool, told: str) -> dict[str, object]:
    return {"check": check, "value": value, "low": low, "high": high, "needed": 0.5, "passed": passed, "told": told}


def _of(table: pa.Table, pairs: pa.Table) -> pa.Table:
    """The rows of these pairs."""
    return table.filter(pc.is_in(table["image_id"], value_set=pairs["image_id"].combine_chunks()))


def _of_pairs(inputs: Inputs, name: str, pairs: pa.Table) -> pa.Table:
    """The rows of these pairs in an artifact, of which a part at a time is in memory."""
    empty = contract(name).schema.empty_table()
    return pa.concat_tables([empty, *(_of(part, pairs) for part in inputs.parts(name))])


def _regions(inputs: Inputs, pairs: pa.Table, settings: JudgeSettings) -> pa.Table:
    """The regions of these pairs as the judge measures them, part by part: their features are large."""
    clusters = read_clusters(inputs.table("clusters"))
    tables = [measured(_of(part, pairs), clusters, settings) for part in inputs.parts("regions")]
    return pa.concat_tables(tables or [measured(contract("regions").schema.empty_table(), clusters, settings)])
