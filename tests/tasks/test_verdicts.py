"""The sheet of verdicts: what is likeliest to be wrong stands first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.schemas import contract
from storage.store import Store
from tasks.judging import verdict_sheet
from tests.report_store import make_store

RIGHT, WRONG = "right", "wrong"


def test_the_doubtful_ones_come_first_and_those_that_a_person_decided_last(tmp_path: Path) -> None:
    """Captions that are right for all but two pictures, one of whose rare words the annotator hardly sees, and tags
    that the annotator added with middling scores, half of them wrong."""
    store = make_store(str(tmp_path / "store"))
    opened = store.snapshot("tag_verdicts")
    assert opened is not None
    ids = [row["image_id"] for row in store.table(store.snapshot("pairs"), ["image_id"]).to_pylist()]  # type: ignore[arg-type]
    rows: list[dict[str, Any]] = []
    truth: dict[tuple[str, int], str] = {}
    for place, image_id in enumerate(ids):
        frequent, rare = place % 2, 2 + place % 8  # what its caption names: of half and of an eighth of the pictures
        swapped = place in (5, 20)
        for tag_id, score in ((frequent, 0.5), (rare, 0.08)):
            truth[image_id, tag_id] = WRONG if swapped else RIGHT
            rows.append(verdict(image_id, tag_id, 1, 1e-4 if swapped else score, confidence=score))
        truth[image_id, 11] = WRONG if place % 2 else RIGHT
        rows.append(verdict(image_id, 11, 4, 0.6 if place % 2 else 0.7, confidence=0.65))
    rows[0] |= {"reason": "kept_by_hand", "score": 0.0}
    table = pa.Table.from_pylist(rows, contract("tag_verdicts").schema)
    store.publish(replace(opened, key="made", parts=(store.write_part("tag_verdicts", "made", "made", table),)))
    sheet, _ = verdict_sheet.export(store, "", 1000, "kept")
    names = {(row["name"], row["type"]): row["tag_id"] for row in labels(store)}
    told = [truth[row.image_id, names[row.tag, row.type]] for row in sheet]
    mistakes = told.count(WRONG)
    assert told[:mistakes].count(WRONG) == mistakes
    assert sheet[-1].reason == "kept_by_hand"


def labels(store: Store) -> list[dict[str, Any]]:
    return store.table(store.snapshot("label_system")).to_pylist()  # type: ignore[arg-type]


def verdict(image_id: str, tag_id: int, source: int, score: float, confidence: float) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "tag_id": tag_id,
        "source": source,
        "score": score,
        "target": 1.0,
        "region_score": None,
        "typicality": None,
        "confidence": confidence,
        "kept": True,
        "reason": "kept",
    }
