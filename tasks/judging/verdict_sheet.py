"""Verdicts as a spreadsheet for a person, and a person's decisions back, which win over the engine in later runs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa
from PIL import Image

from storage.keys import digest
from storage.names import of_round
from storage.schemas import TagSource, contract
from storage.spreadsheets import SheetWriter, text_of
from storage.store import Snapshot, Store, StoreError
from tasks.images.decoding import ImageError, picture
from tasks.images.drawing import boxed, grid
from tasks.machine.inputs import Inputs
from tasks.machine.rounds import last_round

DECISIONS = {"keep": True, "remove": False, "": None, "engine": None}
CELL = 160  # pixels of a picture in the contact sheet


@dataclass(frozen=True)
class Row:
    """A line of the spreadsheet. ``decision`` is a person's: keep, remove, engine (take a decision back), or empty."""

    number: int
    decision: str
    image_id: str
    picture: str  # what the source calls it
    tag: str
    type: str
    verdict: str  # kept or removed
    reason: str
    confidence: float | None
    score: float | None
    region_score: float | None
    typicality: float | None


class SheetError(ValueError):
    """A line of the spreadsheet that cannot be read; the message names it."""


def export(store: Store, tag: str, limit: int, verdict: str = "") -> tuple[list[Row], Image.Image]:
    """The verdicts about ``tag`` (a name or one of its synonyms; empty: every tag), the doubtful ones first, and their
    pictures, numbered, with the best region. ``verdict``: only those that were kept or removed.

    Raises StoreError where there are no verdicts yet, ValueError for an unknown tag.
    """
    number = last_round(store, "tag_verdicts")
    artifact = of_round("tag_verdicts", max(1, number))
    inputs = inputs_of(store, artifact, "pairs", "images", "label_system")
    doubted = _doubted(inputs, artifact.replace("-", "_"), tag_ids(inputs, tag), verdict, limit)
    boxes = _best_boxes(store, of_round("regions", number), doubted)
    rows, cells = [], []
    for place, claim in enumerate(doubted, 1):
        row = Row(
            place,
            "",
            claim["image_id"],
            claim["picture"] or "",
            claim["tag"],
            claim["type"],
            "kept" if claim["kept"] else "removed",
            *(claim[name] for name in ("reason", "confidence", "score", "region_score", "typicality")),
        )
        try:
            image = picture(claim, CELL)
        except ImageError:  # it left since it was read
            image = Image.new("RGB", (CELL, CELL), "grey")
        box = boxes.get((claim["image_id"], claim["tag_id"]))
        cells.append((boxed(image, [(box, "")] if box else [], CELL), f"{place} {row.tag}: {row.verdict}"))
        rows.append(row)
    return rows, grid(cells, CELL)


def _doubted(inputs: Inputs, view: str, ids: Sequence[int], verdict: str, limit: int) -> list[dict[str, Any]]:
    """The verdicts of ``view`` about the tags ``ids``, with their pictures: the likeliest that fell and the least
    likely that stayed first, last what a person has decided."""
    rows: list[dict[str, Any]] = inputs.sql(
        f"""
        WITH claims AS (
            SELECT verdicts.*, source & {TagSource.CAPTION} > 0 AS said, reason LIKE '%by_hand' AS by_hand
            FROM {view} AS verdicts
        ),
        wrong AS (SELECT (1 + count(*) FILTER (NOT kept)) / (2 + count(*)) AS share FROM claims WHERE said),
        frequency AS (
            SELECT tag_id, count(*) FILTER (said) / (SELECT count(DISTINCT image_id) FROM claims) AS share
            FROM claims GROUP BY tag_id
        ),
        judged AS (
            SELECT claims.*,
                -- what a caption says is right unless it is another picture's caption, which says as often as any does
                CASE WHEN NOT said THEN score
                    ELSE (1 - wrong.share) * score / ((1 - wrong.share) * score + wrong.share * frequency.share + 1e-9)
                END AS "right"
            FROM claims JOIN frequency USING (tag_id) CROSS JOIN wrong
        )
        SELECT judged.*, label_system.name AS tag, type, names[1] AS picture, width, height
        FROM judged JOIN label_system USING (tag_id) JOIN pairs USING (image_id)
        WHERE tag_id IN ({", ".join(map(str, ids))}) {"AND kept" if verdict == "kept" else ""}
            {"AND NOT kept" if verdict == "removed" else ""}
        ORDER BY by_hand, row_number() OVER (
            PARTITION BY by_hand, kept ORDER BY CASE WHEN kept THEN "right" ELSE -"right" END, image_id, tag_id
        ), kept, image_id, tag_id
        LIMIT {limit}
        """
    ).to_pylist()
    files = inputs.files([row["image_id"] for row in rows])
    return [{**row, "image": files[row["image_id"]]} for row in rows]


def write(rows: Sequence[Row]) -> str:
    """The spreadsheet as CSV."""
    text = io.StringIO(newline="")
    writer = SheetWriter(text, [field.name for field in fields(Row)])
    for row in rows:
        writer.write({name: _shown(value) for name, value in asdict(row).items()})
    return text.getvalue()


def read(text: str) -> list[dict[str, str]]:
    """The lines of a CSV that carry a decision. Raises SheetError naming the line."""
    reader = csv.DictReader(io.StringIO(text))
    lacking = {"decision", "image_id", "tag", "type"} - set(reader.fieldnames or ())
    if lacking:
        raise SheetError(f"the first line lacks {', '.join(sorted(lacking))}: export the sheet again and edit that")
    decided = []
    for cells in reader:
        row = {name: text_of(cell or "") for name, cell in cells.items() if name is not None}
        decision = row["decision"].strip().lower()
        if decision not in DECISIONS:
            raise SheetError(f"line {reader.line_num}: '{decision}' is none of keep, remove, engine")
        if decision:
            decided.append({**row, "decision": decision, "line": str(reader.line_num)})
    return decided


def import_decisions(store: Store, decided: Iterable[Mapping[str, str]]) -> dict[str, int]:
    """Keeps decisions for every run to come; how many were new, changed and taken back.

    Raises SheetError for an image or a tag that the store does not know.
    """
    inputs = inputs_of(store, "pairs", "label_system")
    known = {(row["name"], row["type"]): row["tag_id"] for row in inputs.table("label_system").to_pylist()}
    images = set(inputs.table("pairs", ["image_id"])["image_id"].to_pylist())
    earlier = store.snapshot("verdict_edits")
    kept = {}
    if earlier is not None:
        kept = {(row["image_id"], row["tag_id"]): row["kept"] for row in store.table(earlier).to_pylist()}
    counted = {"new": 0, "changed": 0, "taken back": 0}
    for row in decided:
        tag_id = known.get((row["tag"], row["type"]))
        if tag_id is None:
            raise SheetError(f"line {row['line']}: there is no tag '{row['tag']}' of type '{row['type']}'")
        if row["image_id"] not in images:
            raise SheetError(f"line {row['line']}: there is no image {row['image_id']}")
        key, decision = (row["image_id"], tag_id), DECISIONS[row["decision"]]
        before = kept.get(key)
        if decision is None:
            counted["taken back"] += kept.pop(key, None) is not None
        else:
            counted["new" if before is None else "changed"] += before != decision
            kept[key] = decision
    rows = [{"image_id": image, "tag_id": tag, "kept": value} for (image, tag), value in sorted(kept.items())]
    table = pa.Table.from_pylist(rows, schema=contract("verdict_edits").schema)
    key_ = digest(["verdict_edits", table.to_pylist()])
    part = store.write_part("verdict_edits", key_, "", table)
    store.publish(Snapshot("verdict_edits", key_, stage="verdicts import", recipe=key_, parts=(part,)))
    return counted


def inputs_of(store: Store, *artifacts: str) -> Inputs:
    """The latest snapshots of ``artifacts``; raises StoreError naming the one that is not there yet."""
    snapshots = {}
    for name in artifacts:
        snapshot = store.snapshot(name)
        if snapshot is None:
            raise StoreError(f"{store.url} has no {name} yet: `ram-engine run --store {store.url}` makes them")
        snapshots[name] = snapshot
    return Inputs(store, snapshots)


def tag_ids(inputs: Inputs, word: str) -> list[int]:
    """The active tags that ``word`` names, all for an empty word; raises ValueError where it names none."""
    rows = [row for row in inputs.table("label_system").to_pylist() if row["active"]]
    named = [row["tag_id"] for row in rows if not word or word == row["name"] or word in row["synonyms"]]
    if not named:
        raise ValueError(f"there is no tag '{word}' in the label system: `ram-engine labels export` lists them")
    return named


def _best_boxes(store: Store, artifact: str, claims: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], list[float]]:
    """The box of the best region of each (image_id, tag_id)."""
    snapshot = store.snapshot(artifact)
    if snapshot is None or not snapshot.rows or not claims:
        return {}
    images = ", ".join(f"'{image_id}'" for image_id in {row["image_id"] for row in claims})
    rows = Inputs(store, {"regions": snapshot}).sql(
        f"""
        SELECT image_id, tag_id, arg_max(box, coalesce(tag_score, detector_score)) AS box
        FROM regions WHERE image_id IN ({images}) GROUP BY ALL
        """
    )
    return {(row["image_id"], row["tag_id"]): row["box"] for row in rows.to_pylist()}


def _shown(value: object) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
