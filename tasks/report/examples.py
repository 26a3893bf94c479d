"""Example pictures: their captions, and each tag with where it came from and why it stayed or fell."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from storage.names import of_round
from tasks.report.pictures import Pictures
from tasks.report.views import Views

EXAMPLES = 18
SIZE = 260


def examples(views: Views, number: int = EXAMPLES, size: int = SIZE) -> list[dict[str, Any]]:
    """``number`` pictures within ``size`` x ``size`` pixels: half of them some that lost a tag where there are such,
    the rest by chance; up to a sixth are ``bare``: they came without captions.

    Each has ``picture``, ``captions``, ``generated`` captions, ``tags`` and the names of true tags that it ``lacks``.
    """
    if not views.has("pairs"):
        return []
    by_id = "ORDER BY image_id LIMIT $number"  # digests of the images: their order is as good as chance, and stays
    bare = [row["image_id"] for row in views.rows(f"SELECT * FROM bare_pictures {by_id}", number=number // 6)]
    chosen = [*_choose(views, number - len(bare)), *bare]
    pictures = Pictures(views, chosen)
    captions = _by_image(views, "SELECT image_id, captions FROM pairs", chosen)
    generated = _generated(views, chosen)
    tags = _tags(views, chosen)
    lacking = _lacking(views, chosen)
    return [
        {
            "id": image_id,
            "bare": image_id in bare,
            "picture": pictures.thumbnail(image_id, size),
            "captions": [caption for row in captions[image_id] for caption in row["captions"]],
            "generated": generated.get(image_id, []),
            "tags": tags.get(image_id, []),
            "lacks": lacking.get(image_id, []),
        }
        for image_id in chosen
    ]


def _choose(views: Views, number: int) -> list[str]:
    by_chance = [row["image_id"] for row in views.rows(f"SELECT * FROM pictures ORDER BY 1 LIMIT {number}")]
    if not views.judged:
        return by_chance
    lost = views.rows(
        f"""
        SELECT image_id FROM entries WHERE round = {views.judged} GROUP BY image_id
        HAVING count(*) FILTER (NOT kept) > 0
        ORDER BY least(count(*) FILTER (kept AND origin != 'parsed'), 1) DESC, image_id LIMIT {number // 2}
        """
    )
    return list(dict.fromkeys([row["image_id"] for row in lost] + by_chance))[:number]


def _by_image(views: Views, query: str, image_ids: list[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    chosen = "(SELECT unnest($ids) AS image_id)"
    for row in views.rows(f"SELECT * FROM ({query}) SEMI JOIN {chosen} USING (image_id)", ids=image_ids):
        found[row.pop("image_id")].append(row)
    return found


def _generated(views: Views, image_ids: list[str]) -> dict[str, list[str]]:
    artifacts = [of_round("generated", number) for number in range(1, views.rounds + 1)]
    artifact = next((name for name in reversed(artifacts) if views.has(name)), "")
    if not artifact:
        return {}
    rows = _by_image(views, f"SELECT image_id, captions FROM {artifact.replace('-', '_')}", image_ids)
    return {image_id: [caption for row in found for caption in row["captions"]] for image_id, found in rows.items()}


def _tags(views: Views, image_ids: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The tags of the last round, the parsed ones first, then by score; with the best region's ``box``."""
    if not views.has("label_system") or not views.rounds:
        return {}
    query = f"""
        SELECT image_id, tag_id, name, type, origin, score, kept, reason, region_score,
            {"CASE WHEN NOT bare THEN true_tags.tag_id IS NOT NULL END" if views.knows_truth else "NULL"} AS is_true
        FROM (SELECT *, false AS bare FROM entries UNION ALL SELECT *, true FROM bare_entries)
        JOIN label_system USING (tag_id) LEFT JOIN true_tags USING (image_id, tag_id) WHERE round = {views.rounds}
        ORDER BY kept DESC, list_position(['parsed', 'generated', 'predicted'], origin), score DESC, name
    """
    tags = _by_image(views, query, image_ids)
    boxes = _boxes(views, image_ids)
    for image_id, rows in tags.items():
        for row in rows:
            row["box"] = boxes.get((image_id, row.pop("tag_id")))
    return tags


def _boxes(views: Views, image_ids: list[str]) -> dict[tuple[str, int], list[float]]:
    """The box of the best region (by the annotator's score) of each tag of these images."""
    names = [of_round("regions", number) for number in range(1, views.rounds + 1)]
    artifact = next((name for name in reversed(names) if views.has(name)), "")
    if not artifact:
        return {}
    query = f"""
        SELECT image_id, tag_id, arg_max(box, coalesce(tag_score, detector_score)) AS box
        FROM {artifact.replace("-", "_")} GROUP BY image_id, tag_id
    """
    return {
        (image_id, row["tag_id"]): row["box"]
        for image_id, rows in _by_image(views, query, image_ids).items()
        for row in rows
    }


def _lacking(views: Views, image_ids: list[str]) -> dict[str, list[str]]:
    """True tags that no stage found."""
    if not views.knows_truth or not views.rounds:
        return {}
    query = f"""
        SELECT image_id, name FROM true_tags JOIN label_system USING (tag_id)
        ANTI JOIN (SELECT * FROM entries WHERE round = {views.rounds}) AS entries USING (image_id, tag_id) ORDER BY name
    """
    return {image_id: [row["name"] for row in rows] for image_id, rows in _by_image(views, query, image_ids).items()}
