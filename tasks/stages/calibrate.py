"""Reduce stage `calibrate`: which tags the annotator may add, and where: only where there is evidence that they hold.

Reads caption_tags, label_system and the model ``annotator``, with what it said of images that it did not learn from;
writes tag_bars, a row a tag that the annotator knows, and annotator_checks: how right additions are, as estimated on
images that did not set the bars, and what it would take where nothing clears them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.schemas import DESCRIBED, contract
from tasks.annotators import folder as annotator_folder
from tasks.annotators.evidence import AnnotatorEvidence
from tasks.judging import additions
from tasks.judging.additions import Bars, Estimate
from tasks.labels import mention_rates
from tasks.labels.mention_rates import MentionRates
from tasks.machine.inputs import Inputs
from tasks.settings.calibrate import CalibrateSettings
from tasks.settings.executor import ExecutorSettings
from tasks.training.calibration import DOUBTFUL, TagFits, fit_tags
from tasks.training.data import TagColumns, tag_columns

FEW_TIMES = 4.0  # a tag that would clear its bar with so many times as many images has too few


def reduce(settings: CalibrateSettings, inputs: Inputs, executor: ExecutorSettings) -> Mapping[str, pa.Table]:
    """The bars of the annotator's tags; where the estimate of all additions fails, nothing may be added. Additions to
    pictures with captions and to those without are two kinds, each with its estimate."""
    tags = tag_columns(inputs.table("label_system"))
    annotator = inputs.model("annotator")
    evidence = annotator_folder.read(annotator).evidence(annotator, tags)
    tag_ids = [tags.ids[column] for column in evidence.columns]
    types = [tags.types[column] for column in evidence.columns]
    counts = evidence.halves[0] + evidence.halves[1]
    rates = _rates(inputs, tags, evidence)
    fits = fit_tags(counts, types)
    found = additions.bars(counts, fits, rates, evidence.described, settings)
    estimate, of_bare = (
        additions.measured(evidence.halves, types, rates, evidence.described, settings, bare) for bare in (False, True)
    )
    allowed = _proven(estimate, settings)
    needed = None
    if not allowed:
        needed = additions.images_needed(counts, fits, rates, evidence.described, settings)
    more = additions.bars(counts, fits.with_images(FEW_TIMES), rates, evidence.described, settings)
    named = np.round(counts.named.sum(axis=1)).astype(np.int64)
    without = np.where(np.isfinite(more.cuts), "too_few", "unsure")
    reasons = np.where(np.isfinite(found.cuts) & allowed, "added", without)
    if not _proven(of_bare, settings):
        found = replace(found, bare_cuts=np.full(len(tag_ids), np.inf))
    bars_table = _bars_table(tag_ids, named, fits, rates, found, reasons, evidence.described)
    checks = _checks(found, estimate, of_bare, needed, evidence.images, settings)
    return {"tag_bars": bars_table, "annotator_checks": checks}


def _proven(estimate: Estimate | None, settings: CalibrateSettings) -> bool:
    """Whether additions are right often enough on images that did not set their bars."""
    return estimate is not None and estimate.low >= DOUBTFUL * settings.target_precision


def _rates(inputs: Inputs, tags: TagColumns, evidence: AnnotatorEvidence) -> MentionRates:
    """The tags' mention rates: measured on described images, else the table's with what several captions show."""
    if evidence.described:
        return MentionRates(evidence.mentioned, np.full(len(evidence.mentioned), 0.05))
    counts = evidence.halves[0] + evidence.halves[1]
    shares = counts.named.sum(axis=1) / np.maximum(counts.images.sum(axis=1), 1e-9)
    prior = mention_rates.expected([tags.types[column] for column in evidence.columns], shares)
    tag_ids = [tags.ids[column] for column in evidence.columns]
    prior = mention_rates.of_described(prior, *_by_tag(inputs, _DESCRIBED, tag_ids))
    return mention_rates.observed(prior, *_by_tag(inputs, _SEVERAL_CAPTIONS, tag_ids))


def _by_tag(inputs: Inputs, query: str, tag_ids: Sequence[int]) -> NDArray[np.float64]:
    """(2, tags): the two counts of each tag in rows of (tag_id, first, second), summed; 0 where there is none."""
    counts, column = np.zeros((2, len(tag_ids))), {tag_id: at for at, tag_id in enumerate(tag_ids)}
    for rows in inputs.sql_by_piece(query):
        for row in rows.to_pylist():
            if row["tag_id"] in column:
                counts[:, column[row["tag_id"]]] += row["first"], row["second"]
    return counts


_DESCRIBED = f"""
WITH described AS (
    SELECT image_id, unnest(tag_ids) AS tag_id FROM caption_tags WHERE caption_index = {DESCRIBED}
),
captions AS (SELECT image_id, tag_ids FROM caption_tags WHERE caption_index >= 0)
SELECT tag_id, count(*)::DOUBLE AS first, count(*) FILTER (list_contains(tag_ids, tag_id))::DOUBLE AS second
FROM described JOIN captions USING (image_id) GROUP BY tag_id
"""
"""DuckDB: how many captions the pictures have in which a person says that a tag is, and how many of them name it."""


_SEVERAL_CAPTIONS = """
WITH captions AS (
    SELECT image_id, tag_ids, count(*) OVER (PARTITION BY image_id) AS captions
    FROM caption_tags WHERE caption_index >= 0
),
named AS (
    SELECT image_id, unnest(tag_ids) AS tag_id, captions FROM captions WHERE captions > 1
),
images AS (SELECT image_id, tag_id, any_value(captions) AS captions, count(*) AS times FROM named GROUP BY ALL)
SELECT tag_id, sum(times)::DOUBLE AS first, sum(times * (times - 1) / (captions - 1))::DOUBLE AS second
FROM images GROUP BY tag_id
"""
"""DuckDB: how often captions of images that have several name a tag, and how much of that another one confirms."""


def _bars_table(
    tag_ids: list[int],
    named: NDArray[np.int64],
    fits: TagFits,
    rates: MentionRates,
    found: Bars,
    reasons: NDArray[np.str_],
    described: bool,
) -> pa.Table:
    """``tag_bars``; the cut of a tag that is not added, by its reason, is infinite."""
    cleared = reasons == "added"
    columns = {
        "tag_id": tag_ids,
        "slope": fits.parameters[:, 1],
        "intercept": fits.parameters[:, 0],
        "described": [described] * len(tag_ids),
        "mention_rate": rates.rates,
        "mention_low": rates.low,
        "named": named,
        "plausible": found.plausible,
        "plausible_low": found.plausible_low,
        "plausible_high": found.plausible_high,
        "cut": np.where(cleared, found.cuts, np.inf),
        "bare_cut": found.bare_cuts,
        "threshold": np.where(cleared, found.thresholds, 1 + 1e-6),
        "precision": np.where(cleared, found.precision, np.nan),
        "precision_low": np.where(cleared, found.precision_low, np.nan),
        "added_share": np.where(cleared, found.added_share, 0),
        "reason": reasons.tolist(),
    }
    schema = contract("tag_bars").schema
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema)


def _checks(
    found: Bars,
    estimate: Estimate | None,
    of_bare: Estimate | None,
    needed: int | None,
    images: int,
    settings: CalibrateSettings,
) -> pa.Table:
    """``annotator_checks``: a row for the additions' precision, one for that of pictures without captions, and one for
    the additions' number."""
    allowed = _proven(estimate, settings)
    share = float(found.added_share[np.isfinite(found.cuts)].sum()) if allowed else 0.0
    remedy = f"about {needed:,} more captioned pictures, or a" if needed else "a"
    rows = [
        _precision_check(
            "added_precision", " to the captions' words", estimate, f"{remedy} stronger annotator", images, settings
        ),
        _precision_check(
            "bare_precision", " to pictures without captions", of_bare, "a stronger annotator", images, settings
        ),
        {
            "check": "added_a_picture",
            "value": share,
            "low": np.nan,
            "high": np.nan,
            "needed": np.nan,
            "passed": allowed,
            "told": f"{share:.2f} tags are added to a picture.",
        },
    ]
    return pa.Table.from_pylist(rows, schema=contract("annotator_checks").schema)


def _precision_check(
    name: str, where: str, estimate: Estimate | None, remedy: str, images: int, settings: CalibrateSettings
) -> dict[str, Any]:
    """The row of a precision, and what a person is told: how right additions are, or why there are none."""
    passed = _proven(estimate, settings)
    over = f"out of fold over {images:,} pictures"
    if not images:
        told = (
            f"Nothing is added{where}: no picture with a caption or a label is held out to show how right the "
            "annotator is. Bring some hundred labels of your own (--source labels:FILE.csv): docs/data.md."
        )
    elif estimate is not None and passed:
        told = (
            f"Of the tags that are added{where}, {estimate.value:.0%} are right as estimated ({estimate.low:.0%} to "
            f"{estimate.high:.0%}), {over}."
        )
    else:
        why = "no tag clears its bar"
        if estimate is not None:
            why = f"of what would be added perhaps only {estimate.low:.0%} is right"
        told = f"Nothing is added{where}: {why}, {over}. It would take {remedy}: docs/annotators.md."
    return {
        "check": name,
        "value": estimate.value if estimate else np.nan,
        "low": estimate.low if estimate else np.nan,
        "high": estimate.high if estimate else np.nan,
        "needed": DOUBTFUL * settings.target_precision,
        "passed": passed,
        "told": told,
    }
