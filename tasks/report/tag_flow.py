"""How many tags each stage added and removed, and how many of them are right where the truth is known."""

from __future__ import annotations

from typing import Any

from storage.schemas import TagSource
from tasks.report.views import Views

STEPS = {  # the sources of the tags that there are after each step
    "parsed from captions": TagSource.CAPTION,
    "with generated captions": TagSource.CAPTION | TagSource.GENERATED_CAPTION,
    "with predicted tags": TagSource.CAPTION | TagSource.GENERATED_CAPTION | TagSource.PREDICTED,
}


def tag_flow(views: Views, number: int) -> dict[str, Any]:
    """One round: ``links`` (origin, reason, kept, count, right) and ``steps`` (tags, precision, recall).

    ``right``, ``precision`` and ``recall`` are None where the truth is not known.
    """
    groups = views.rows(
        f"""
        SELECT source, origin, reason, kept, count(*) AS count, count(true_tags.tag_id) AS right
        FROM entries LEFT JOIN true_tags USING (image_id, tag_id) WHERE round = {number}
        GROUP BY ALL ORDER BY ALL
        """
    )
    total = views.rows("SELECT count(*) AS count FROM true_tags")[0]["count"] if views.knows_truth else None
    judged = number <= views.judged
    steps = {name: [group for group in groups if group["source"] & sources] for name, sources in STEPS.items()}
    if all(group["origin"] == "parsed" for group in groups):
        steps = {"parsed from captions": groups}
    if judged:
        steps["after cleaning"] = [group for group in groups if group["kept"]]
    return {
        "round": number,
        "judged": judged,
        "images": views.rows("SELECT count(*) AS count FROM pictures")[0]["count"],
        "true_tags": total,
        "links": _links(groups, total is not None),
        "steps": [_step(name, members, total) for name, members in steps.items()],
    }


def _links(groups: list[dict[str, Any]], knows_truth: bool) -> list[dict[str, Any]]:
    """The groups put together by where a tag first came from."""
    links: dict[tuple[str, str, bool], dict[str, Any]] = {}
    for group in groups:
        key = (group["origin"], group["reason"], group["kept"])
        link = links.setdefault(key, {"origin": key[0], "reason": key[1], "kept": key[2], "count": 0, "right": 0})
        link["count"] += group["count"]
        link["right"] += group["right"]
    return [link if knows_truth else {**link, "right": None} for link in links.values()]


def _step(name: str, groups: list[dict[str, Any]], total: int | None) -> dict[str, Any]:
    tags, right = (sum(group[key] for group in groups) for key in ("count", "right"))
    return {
        "name": name,
        "tags": tags,
        "precision": right / tags if total is not None and tags else None,
        "recall": right / total if total else None,
    }
