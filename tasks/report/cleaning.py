"""Stored scores of the judged tags and their regions, so that the page can judge anew with other thresholds.

The page applies the rule of the stage `judge`: a tag falls where it has regions, none of which is good, unless its
score for the whole picture leaves no doubt. A region's ``share`` is the outlier share from which on it is an outlier
of its tag: exact at the share that was set, and linear in the region's rank within its tag on either side.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from storage.names import of_round
from tasks.judging.typicality import OutlierMeasure, is_good, read_clusters, typicality
from tasks.report.pictures import Pictures
from tasks.report.views import Views
from tasks.settings.judge import JudgeSettings

MOST_VERDICTS = 20_000
TAGS, CROPS, CROP_SIZE = 12, 12, 88
KEPT, TRUE, FIXED = 1, 2, 4  # bits of ``flags``; fixed: decided by something else than the rule


def cleaning(views: Views) -> dict[str, Any] | None:
    """The last judged round as base64 arrays (little-endian), and crops of some tags.

    For every tag of an image: ``tag`` uint16 (a place in ``names``), ``score`` float32, ``flags`` uint8. For every
    region: ``row`` uint32 (its tag of an image), ``region_score`` and ``typicality`` float32 (NaN: never an outlier).
    ``true_tags``: how many there are for the same images, None where the truth is not known. ``settings`` are those of
    the run. None where there are no verdicts to show.
    """
    number = views.judged
    if not views.has(of_round("regions", number), of_round("clusters", number)):
        return None
    verdicts = _verdicts(views)
    if not verdicts.num_rows:
        return None
    used = JudgeSettings(**views.snapshots[of_round("tag_verdicts", number)].settings)
    regions = _regions(views, verdicts, used.outlier_measure)
    names = views.rows("SELECT tag_id, name FROM label_system ORDER BY tag_id")
    place = {row["tag_id"]: at for at, row in enumerate(names)}
    return {
        "round": number,
        "settings": used.model_dump(include={"outlier_share", "region_threshold", "doubt"}),
        "images": len(verdicts["image_id"].unique()),
        "names": [row["name"] for row in names],
        "tag": _encode(np.array([place[tag_id] for tag_id in verdicts["tag_id"].to_pylist()]), "<u2"),
        "score": _encode(verdicts["score"].to_numpy(), "<f4"),
        "flags": _encode(_flags(verdicts, regions, used), "u1"),
        "row": _encode(regions["row"].to_numpy(), "<u4"),
        "region_score": _encode(regions["tag_score"].to_numpy(), "<f4"),
        "typicality": _encode(regions["typicality"].to_numpy(), "<f4"),
        "true_tags": _true_tags(views, verdicts["image_id"][-1].as_py()),
        "crops": _crops(views, verdicts, regions, place),
    }


def _verdicts(views: Views) -> pa.Table:
    """(image_id, tag_id, score, kept, by_hand, is_true), by id, of images with :data:`MOST_VERDICTS` tags together."""
    return views.database.sql(
        f"""
        WITH numbered AS (
            SELECT *, count(*) OVER (ORDER BY image_id) AS number FROM entries WHERE round = {views.judged}
        )
        SELECT image_id, tag_id, score, kept, suffix(reason, '_by_hand') AS by_hand,
            true_tags.tag_id IS NOT NULL AS is_true
        FROM numbered LEFT JOIN true_tags USING (image_id, tag_id)
        WHERE number <= {MOST_VERDICTS} ORDER BY image_id, tag_id
        """
    )


def _regions(views: Views, verdicts: pa.Table, measure: OutlierMeasure) -> pa.Table:
    """(row, image_id, tag_id, box, tag_score, typicality) of the regions of ``verdicts``, by row, the best first."""
    rows = pa.array(range(verdicts.num_rows), pa.int64())
    numbered = verdicts.select(["image_id", "tag_id"]).append_column("row", rows)
    regions, clusters = (of_round(name, views.judged).replace("-", "_") for name in ("regions", "clusters"))
    views.database.register("judged_tags", numbered)
    found = views.database.sql(f"SELECT * FROM judged_tags JOIN {regions} USING (image_id, tag_id)")
    index = read_clusters(views.database.sql(f"SELECT * FROM {clusters}"))
    typical = pa.array(typicality(found, index, measure), pa.float32())
    shown = found.select(["row", "image_id", "tag_id", "box"]).append_column("typicality", typical)
    shown = shown.append_column("tag_score", pc.fill_null(found["tag_score"], 1))
    return shown.sort_by([("row", "ascending"), ("tag_score", "descending")])


def _flags(verdicts: pa.Table, regions: pa.Table, settings: JudgeSettings) -> NDArray[np.uint8]:
    """What the page shows of a verdict; fixed where the rule, at the run's settings, does not lead to it."""
    kept = verdicts["kept"].to_numpy(zero_copy_only=False)
    row, score, typical = (regions[name].to_numpy() for name in ("row", "tag_score", "typicality"))
    looked, good = np.zeros(len(kept), bool), np.zeros(len(kept), bool)
    looked[row] = True
    good[row[is_good(score, typical, settings.region_threshold, settings.outlier_share)]] = True
    stays = good | (verdicts["score"].to_numpy() >= settings.doubt)
    flags: NDArray[np.uint8] = np.where(kept, KEPT, 0).astype(np.uint8)
    flags |= np.where(verdicts["is_true"].to_numpy(zero_copy_only=False), TRUE, 0).astype(np.uint8)
    by_hand = verdicts["by_hand"].to_numpy(zero_copy_only=False)
    flags |= np.where(~looked | by_hand | (stays != kept), FIXED, 0).astype(np.uint8)
    return flags


def _true_tags(views: Views, last_image: str) -> int | None:
    if not views.knows_truth:
        return None
    query = """
        SELECT count(*) AS count FROM true_tags
        SEMI JOIN (SELECT image_id FROM pictures WHERE image_id <= $last) USING (image_id)
    """
    count: int = views.rows(query, last=last_image)[0]["count"]
    return count


def _encode(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode()


def _crops(views: Views, verdicts: pa.Table, regions: pa.Table, place: dict[int, int]) -> list[dict[str, Any]]:
    """Tags with most to show on either side, with ``items`` (picture, row): some that were kept and some that fell."""
    kept = verdicts["kept"].to_pylist()
    best: dict[int, dict[str, Any]] = {}
    for region in regions.to_pylist():
        best.setdefault(region["row"], region)
    by_tag: dict[int, tuple[list[int], list[int]]] = {}
    for row, region in best.items():
        by_tag.setdefault(region["tag_id"], ([], []))[0 if kept[row] else 1].append(row)
    chosen = sorted(by_tag, key=lambda one: (-min(CROPS, *map(len, by_tag[one])), -len(by_tag[one][1]), one))[:TAGS]
    wanted = {tag_id: [*by_tag[tag_id][0][:CROPS], *by_tag[tag_id][1][:CROPS]] for tag_id in chosen}
    rows = sorted(row for items in wanted.values() for row in items)  # by image: each is decoded once
    pictures = Pictures(views, (best[row]["image_id"] for row in rows))
    crops = {row: pictures.crop(best[row]["image_id"], best[row]["box"], CROP_SIZE) for row in rows}
    return [
        {"tag": place[tag_id], "items": [{"row": row, "picture": crops[row]} for row in items if crops[row]]}
        for tag_id, items in wanted.items()
    ]
