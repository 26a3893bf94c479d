"""What generation added: how right that is as estimated, and the tags that grew most, against what is plausible."""

from __future__ import annotations

from typing import Any

from storage.names import of_round
from storage.schemas import TagSource
from tasks.report.pictures import Pictures
from tasks.report.views import Views

TAGS, SHOWN, SIZE = 8, 4, 120  # of the table, pictures of each, and their pixels
CHECK, BARE_CHECK = "added_precision", "bare_precision"  # how right additions are, and those without captions
OFTEN = 10  # what was added less often says little


def growth(views: Views) -> dict[str, Any] | None:
    """The additions of the last round that are not removed; None before there could be any.

    ``added`` tags in the ``images`` training pictures that have captions, ``bare`` the same two of those that have
    none, ``checks`` (rows of ``annotator_checks`` by their names, those of pictures that there are; {}
    where nothing was estimated), and ``tags``: the :data:`TAGS` that stand most above what is plausible, each with
    ``name``, ``type``, ``named``, ``added`` and ``plausible``, ``low``, ``high`` (pictures; None: not estimated), and
    ``ratio``, the pictures that have it now over those that can (else over those whose captions name it).
    """
    number = views.rounds
    if not views.has("label_system", of_round("generated", number)):
        return None
    rows = views.rows(_GROWTH.format(round=number, parsed=TagSource.CAPTION, bars=_bars(views)))
    added = sum(row["added"] for row in rows)
    images, bare_images = (
        views.rows(f"SELECT count(*) AS count FROM {name}")[0]["count"] for name in ("pictures", "bare_pictures")
    )
    checks = _artifact(views, "annotator_checks")
    checked = views.rows(f"SELECT * FROM {checks}") if checks else []
    often = [row for row in rows if row["added"] >= OFTEN] or [row for row in rows if row["added"]]
    for row in often:
        for name in ("plausible", "low", "high"):  # estimated on few pictures: those that are said to show it do count
            row[name] = None if row[name] is None else max(row["named"], row[name] * images)
        likely = row["named"] if row["plausible"] is None else row["plausible"]
        row["ratio"] = (row["named"] + row["added"]) / max(1.0, likely)
    often.sort(key=lambda row: (-row["ratio"], -row["added"], row["name"]))
    return {
        "added": added,
        "images": images,
        "bare": {"added": views.rows(_BARE.format(round=number))[0]["count"], "images": bare_images},
        "checks": {row["check"]: row for row in checked if (bare_images if row["check"] == BARE_CHECK else images)},
        "tags": often[:TAGS],
    }


def with_pictures(found: dict[str, Any] | None, views: Views) -> dict[str, Any] | None:
    """The same with some ``pictures`` by chance to which each tag was added; ``views`` may be of a few parts."""
    if found is None:
        return None
    chosen: dict[int, list[str]] = {row["tag_id"]: [] for row in found["tags"]}
    if chosen:
        picked = views.rows(
            f"""
            SELECT tag_id, image_id FROM entries SEMI JOIN (SELECT unnest($ids) AS tag_id) USING (tag_id)
            WHERE round = {views.rounds} AND kept AND origin != 'parsed'
            QUALIFY row_number() OVER (PARTITION BY tag_id ORDER BY image_id) <= {SHOWN} ORDER BY image_id
            """,
            ids=list(chosen),
        )
        pictures = Pictures(views, (row["image_id"] for row in picked))
        for row in picked:
            if shown := pictures.thumbnail(row["image_id"], SIZE):
                chosen[row["tag_id"]].append(shown)
    return {**found, "tags": [{**row, "pictures": chosen[row["tag_id"]]} for row in found["tags"]]}


def told(found: dict[str, Any] | None) -> list[str]:
    """The additions in sentences: how many, and how right they are as estimated; or why there are none. Those to
    pictures without captions have sentences of their own."""
    if found is None:
        return []
    checks, bare = found["checks"], found["bare"]
    said = []
    if found["images"]:
        nothing = "Nothing was added to the captions' words: no tag cleared the bar."
        said += _of_kind(found, "", nothing, checks.get(CHECK))
    if bare["images"]:
        came = f"{bare['images']:,} pictures came without captions: "
        said += _of_kind(bare, came, f"{came}nothing was added to them.", checks.get(BARE_CHECK))
    return said


def _of_kind(kind: dict[str, Any], came: str, nothing: str, check: dict[str, Any] | None) -> list[str]:
    """What was ``added`` to the ``images`` of a kind, and the ``check`` of how right that is."""
    if not kind["added"]:
        return [nothing] if check is None or check["passed"] or not check["told"] else [nothing, check["told"]]
    to_them = " to them" if came else ""
    said = f"{came}{kind['added']:,} tags were added{to_them}, {kind['added'] / kind['images']:.1f} a picture"
    if check is None or check["value"] != check["value"]:
        return [f"{said}; how many of them are right was not estimated."]
    return [
        f"{said}; {check['value']:.0%} of them are right as estimated (95% interval {check['low']:.0%} to "
        f"{check['high']:.0%})."
    ]


_GROWTH = """
SELECT tag_id, name, type, count(*) FILTER (source & {parsed} > 0 AND kept) AS named,
    count(*) FILTER (origin != 'parsed' AND kept) AS added,
    any_value(plausible) AS plausible, any_value(plausible_low) AS low, any_value(plausible_high) AS high
FROM entries JOIN label_system USING (tag_id) LEFT JOIN ({bars}) USING (tag_id)
WHERE round = {round} GROUP BY tag_id, name, type
"""


_BARE = "SELECT count(*) AS count FROM bare_entries WHERE round = {round} AND origin != 'parsed' AND kept"


def _bars(views: Views) -> str:
    """A query for what is plausible of each tag: of no tag where that was not estimated."""
    columns = ("plausible", "plausible_low", "plausible_high")
    if artifact := _artifact(views, "tag_bars"):
        return f"SELECT tag_id, {', '.join(columns)} FROM {artifact}"
    return f"SELECT NULL::INTEGER AS tag_id, {', '.join(f'NULL::DOUBLE AS {one}' for one in columns)} WHERE false"


def _artifact(views: Views, name: str) -> str:
    """The view of an artifact's last round; "" where the store has none."""
    names = (of_round(name, number) for number in range(views.rounds, 0, -1))
    return next((one.replace("-", "_") for one in names if views.has(one)), "")
