"""Every tag with how often it stands before and after, and how many pictures have no tag."""

from __future__ import annotations

from typing import Any

from storage.schemas import TagSource
from tasks.evaluation.rows import FINAL, Row
from tasks.labels.synonyms import source_names
from tasks.report.views import Views
from tasks.settings.build_labels import BuildLabelsSettings


def tag_table(views: Views) -> dict[str, Any]:
    """``rows``: [name, type, parsed, all, kept, average precision of each of ``models``], the frequent ones first;

    ``without``: the share of pictures that have no tag, and ``mean``: tags a picture, parsed and kept; ``synonyms``: a
    sentence on where these come from.
    """
    last = views.rounds
    precisions = average_precisions(views)
    final = next((row.value for row in FINAL if row in precisions), "")
    before, after = precisions.get(Row.PARSED, {}), precisions.get(final, {})
    counts = views.rows(
        f"""
        SELECT name, type, tag_id,
            count(*) FILTER (source & {TagSource.CAPTION} > 0) AS parsed,
            count(source) AS named, count(*) FILTER (kept) AS kept
        FROM label_system LEFT JOIN (SELECT * FROM entries WHERE round = {last}) AS entries USING (tag_id)
        WHERE active GROUP BY ALL ORDER BY parsed DESC, kept DESC, name, type
        """
    )
    pictures = views.rows(
        f"""
        SELECT count(*) AS pictures,
            count(*) FILTER (coalesce(parsed, 0) = 0) AS none_parsed,
            count(*) FILTER (coalesce(kept, 0) = 0) AS none_kept,
            sum(parsed)::BIGINT AS parsed, sum(kept)::BIGINT AS kept
        FROM pictures LEFT JOIN (
            SELECT image_id, count(*) FILTER (source & {TagSource.CAPTION} > 0) AS parsed,
                count(*) FILTER (kept) AS kept
            FROM entries WHERE round = {last} GROUP BY image_id
        ) USING (image_id)
        """
    )[0]
    total = max(pictures["pictures"], 1)
    return {
        "rows": [
            [
                row["name"],
                row["type"],
                row["parsed"],
                row["named"],
                row["kept"],
                *(table.get((row["name"], row["type"])) for table in (before, after) if table),
            ]
            for row in counts
        ],
        "judged": last <= views.judged,
        "annotated": any(row["named"] > row["parsed"] for row in counts),
        "without": [pictures["none_parsed"] / total, pictures["none_kept"] / total],
        "mean": [(pictures["parsed"] or 0) / total, (pictures["kept"] or 0) / total],
        "models": [name for name in (Row.PARSED.value, final) if name in precisions],
        "synonyms": _synonyms(BuildLabelsSettings(**views.snapshots["label_system"].settings)),
    }


def _synonyms(settings: BuildLabelsSettings) -> str:
    """Where the synonyms that were merged, or wait to be, came from."""
    if not settings.synonyms:
        return "No synonyms were looked for."
    sources = source_names(settings.wordnet)
    missing = "" if "WordNet" in sources else "; WordNet was not at hand (build_labels.wordnet)"
    return f"Synonyms were proposed by {', '.join(sources)}{missing}."


def average_precisions(views: Views) -> dict[str, dict[tuple[str, str], float]]:
    """The average precision of each model for each tag, by the tag's name and type."""
    by_model: dict[str, dict[tuple[str, str], float]] = {}
    if views.has("metrics"):
        for row in views.rows("SELECT model, tag, subset, value FROM metrics WHERE metric = 'AP' AND tag IS NOT NULL"):
            by_model.setdefault(row["model"], {})[row["tag"], row["subset"]] = row["value"]
    return by_model
