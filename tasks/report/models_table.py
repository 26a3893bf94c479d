"""The rows of the ablation: every model with its figures on the test pictures, and its precision-recall curve."""

from __future__ import annotations

from typing import Any

import numpy as np

from storage.schemas import DESCRIBED
from tasks.evaluation.rows import STEPS, Row
from tasks.evaluation.true_tags import TRUE_TAGS_SQL
from tasks.report.views import MEASURED_WITH, Views

MOST_TEST_PICTURES = 2_000  # that curves are drawn from
POINTS = 40

TONES = {  # the page's colours of the curves
    Row.ZERO_SHOT: "faint",
    Row.PARSED: "parsed",
    Row.GENERATION: "generated",
    Row.CLEANING: "predicted",
    Row.FINE_TUNED: "second",
    Row.TRUTH: "kept",
    Row.PARSED_FINE_TUNED: "accent",
    Row.TRUTH_FINE_TUNED: "removed",
}


def models_table(views: Views) -> list[dict[str, Any]]:
    """A dictionary a model in the order of :class:`Row`: its ``title``, its ``figures`` as {subset: {metric: value}},
    its ``tone``, and its ``step`` among what the engine makes, 0, 1, .. (None: it is there to compare with)."""
    if not views.has("metrics"):
        return []
    measured: dict[str, dict[str, dict[str, float]]] = {}
    for row in views.rows("SELECT model, subset, metric, value FROM metrics WHERE tag IS NULL ORDER BY ALL"):
        measured.setdefault(row["model"], {}).setdefault(row["subset"], {})[row["metric"]] = row["value"]
    return [
        {
            "model": row.value,
            "title": row.heading,
            "figures": measured[row],
            "tone": TONES.get(row),
            "step": STEPS.index(row) if row in STEPS else None,
        }
        for row in Row
        if any("mAP" in figures for figures in measured.get(row, {}).values())
    ]


def against(views: Views) -> str:
    """What the figures on the test pictures are measured against: a key of
    :data:`tasks.evaluation.verdict.AGAINST`."""
    rows = views.rows("SELECT against FROM verdict LIMIT 1") if views.has("verdict") else []
    return rows[0]["against"] if rows else "truth" if views.knows_truth else "captions"


def curves(views: Views) -> dict[str, list[list[float]]]:
    """Of each model :data:`POINTS` points (recall, precision) over all thresholds, pictures and tags pooled.

    The tags are those that there were when the models were measured; nothing where they are not in the store any more.
    """
    if not views.has("predictions", "pairs", *MEASURED_WITH):
        return {}
    known = against(views)
    named = "SELECT DISTINCT image_id, unnest(tag_ids) AS tag_id FROM measured_captions"
    if known == "described":
        named += f" WHERE caption_index = {DESCRIBED}"
    true_tags = TRUE_TAGS_SQL.replace("label_system", "measured_labels")
    rows = views.rows(
        f"""
        WITH test AS (SELECT image_id FROM pairs WHERE split = 'test' ORDER BY image_id LIMIT {MOST_TEST_PICTURES}),
        labels AS (SELECT tag_id, row_number() OVER (ORDER BY tag_id) - 1 AS place FROM measured_labels WHERE active),
        said AS (SELECT * FROM ({true_tags if known == "truth" else named}) JOIN labels USING (tag_id)),
        grouped AS (SELECT image_id, list(place) AS places FROM said GROUP BY image_id)
        SELECT model, scores, coalesce(places, []) AS places
        FROM predictions SEMI JOIN test USING (image_id) LEFT JOIN grouped USING (image_id)
        """
    )
    by_model: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_model.setdefault(row["model"], []).append(row)
    return {model.value: _curve(by_model[model]) for model in Row if model in by_model}


def _curve(rows: list[dict[str, Any]]) -> list[list[float]]:
    scores = np.array([row["scores"] for row in rows], np.float32)
    truth = np.zeros(scores.shape, bool)
    for at, row in enumerate(rows):
        truth[at, row["places"]] = True
    right = np.cumsum(truth.ravel()[np.argsort(-scores, axis=None, kind="stable")])
    if not right.size or not right[-1]:
        return []
    recall, precision = right / right[-1], right / np.arange(1, right.size + 1)
    places = np.unique(np.searchsorted(recall, np.linspace(0.02, 1, POINTS)).clip(0, right.size - 1))
    return [[float(recall[place]), float(precision[place])] for place in places]
