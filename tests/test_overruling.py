"""A person looks at verdicts, overrules some, and the next run obeys; `why` tells the whole story."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from PIL import Image

from storage.images import read_files
from storage.store import Store
from tasks.judging import verdict_sheet
from tests.conftest import ram_engine


def judged(store: Path) -> dict[tuple[str, int], dict[str, object]]:
    opened = Store(store)
    rows = opened.table(opened.snapshot("tag_verdicts")).to_pylist()
    return {(row["image_id"], row["tag_id"]): row for row in rows}


def decide(text: str, decisions: list[str]) -> str:
    rows = list(csv.DictReader(io.StringIO(text)))
    for row, decision in zip(rows, decisions, strict=False):
        row["decision"] = decision
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def test_decisions_of_a_person_win_in_the_next_run(copied_store: Path, tmp_path: Path) -> None:
    store, sheet = str(copied_store), tmp_path / "sheet.csv"
    before = judged(copied_store)
    said = ram_engine("verdicts", "export", str(sheet), "--limit", "7", "--only", "kept", "--store", store).stdout
    assert "7 verdicts" in said
    assert Image.open(sheet.with_suffix(".png")).size == (6 * 168, 2 * 184)
    text = sheet.read_text("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert all(row["verdict"] == "kept" for row in rows)
    sheet.write_text(decide(text, ["remove", "keep", ""]), "utf-8")
    assert "2 decisions: 2 new" in ram_engine("verdicts", "import", str(sheet), "--store", store).stdout
    ram_engine("run", "--preset", "tiny", "--store", store, "--until", "judge")
    after = judged(copied_store)
    opened = Store(copied_store)
    names = {
        (row["name"], row["type"]): row["tag_id"] for row in opened.table(opened.snapshot("label_system")).to_pylist()
    }
    first, second = ((row["image_id"], names[row["tag"], row["type"]]) for row in rows[:2])
    assert (after[first]["kept"], after[first]["reason"], after[first]["target"]) == (False, "removed_by_hand", 0)
    assert (after[second]["kept"], after[second]["reason"]) == (True, "kept_by_hand")
    assert {key: row for key, row in after.items() if key not in (first, second)} == {
        key: row for key, row in before.items() if key not in (first, second)
    }
    why = ram_engine("why", rows[0]["picture"], rows[0]["tag"], "--store", store).stdout
    assert f"{rows[0]['tag']} ({rows[0]['type']}): removed" in why
    assert "a person removed it; confidence" in why
    assert "taught as 0.00" in why
    # and a decision can be taken back
    sheet.write_text(decide(text, ["engine"]), "utf-8")
    assert "1 taken back" in ram_engine("verdicts", "import", str(sheet), "--store", store).stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "the first line lacks decision"),
        ("decision,image_id,tag,type\nperhaps,1,dog,object\n", "line 2: 'perhaps' is none of keep, remove, engine"),
        ("decision,image_id,tag,type\n,1,dog,object\nkeep,1,unheard,object\n", "line 3: there is no tag 'unheard'"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(text: str, said: str, finished_store: Path) -> None:
    with pytest.raises(verdict_sheet.SheetError, match=said):
        verdict_sheet.import_decisions(Store(finished_store), verdict_sheet.read(text))


def test_why_tells_of_every_tag_and_draws_them(finished_store: Path, tmp_path: Path) -> None:
    opened = Store(finished_store)
    (image_id, _), row = next(item for item in judged(finished_store).items() if item[1]["region_score"] is not None)
    drawing = tmp_path / "why.png"
    told = ram_engine("why", image_id, "--picture", str(drawing), "--store", str(finished_store)).stdout
    tags = {each["tag_id"]: each["name"] for each in opened.table(opened.snapshot("label_system")).to_pylist()}
    for image, tag_id in judged(finished_store):
        if image == image_id:
            assert f"{tags[tag_id]} (" in told
    assert f"the annotator alone {row['region_score']:.3f}" in told
    assert max(Image.open(drawing).size) == 640
    # the file itself is as good a name as its id
    files = read_files(opened, opened.snapshot("pairs"), opened.snapshot("images"), [image_id])
    (tmp_path / "copy").write_bytes(files[image_id]["bytes"])
    assert image_id in ram_engine("why", str(tmp_path / "copy"), "--store", str(finished_store)).stdout
    failed = ram_engine("why", "it's, nothing", "--store", str(finished_store), check=False)
    assert "is no image of the store" in failed.stdout
    failed = ram_engine("why", "nothing", "--store", str(finished_store), check=False)
    assert failed.returncode == 1
    assert "is no image of the store" in failed.stdout
