"""`ram-engine labels` over a store: out to a spreadsheet, back as a new version, which later runs keep."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from models.config import Label
from ram_engine import labels_cli
from storage.schemas import contract
from storage.store import Snapshot, Store
from tasks.labels.sheet import SheetError
from tasks.labels.tags import Tag, read_tags
from tasks.machine.dag import stage_named
from tasks.machine.inputs import Inputs
from tasks.machine.planning import plan
from tasks.machine.stage_run import Again, StageRun
from tasks.settings.assign_tags import AssignTagsSettings
from tasks.settings.build_labels import BuildLabelsSettings
from tasks.settings.executor import ExecutorSettings
from tasks.stages import assign_tags, build_labels

CAPTIONS = {
    "a car on the beach": ["car", "beach.scene"],
    "a car": ["car"],
    "an automobile": ["automobile"],
    "a zebu on the beach": ["zebu", "beach.scene"],
    "= a caption like a formula, with a dog": ["dog"],
}
SETTINGS = BuildLabelsSettings(wordnet="", min_count=2)


def publish(store: Store, artifact: str, table: pa.Table, **origin: object) -> Snapshot:
    part = store.write_part(artifact, f"{artifact}-1", "p", table)
    return store.publish(Snapshot(artifact, f"{artifact}-1", "test", **{"recipe": "r", "parts": (part,), **origin}))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store after assign-tags, of five captions, each of four pictures."""
    folder = tmp_path_factory.mktemp("store")
    store = Store(folder)
    pairs, phrases = [], []
    for index, (caption, words) in enumerate(list(CAPTIONS.items()) * 4):
        image_id = f"{index:016x}"
        pairs.append({
            "image_id": image_id, "captions": [caption], "split": "train",
            "sources": ["test"], "names": [image_id], "fingerprints": [""], "sha256": "", "width": 1, "height": 1,
            "hash": 0,
        })  # fmt: skip
        found = [word.partition(".") for word in words]
        phrases.append({
            "image_id": image_id, "caption_index": 0, "phrases": [
                {"surface": lemma, "lemma": lemma, "type": type_ or "object", "start": 0, "end": 1}
                for lemma, _, type_ in found
            ],
        })  # fmt: skip
    publish(store, "pairs", pa.Table.from_pylist(pairs, schema=contract("pairs").schema))
    snapshot = publish(store, "phrases", pa.Table.from_pylist(phrases, schema=contract("phrases").schema))
    made = build_labels.reduce(SETTINGS, Inputs(store, {"phrases": snapshot}), ExecutorSettings())
    recipe = plan(StageRun(store, stage_named("build-labels"), SETTINGS)).recipe
    system = publish(store, "label_system", made["label_system"], recipe=recipe, settings=SETTINGS.model_dump())
    work = assign_tags.build(AssignTagsSettings(), Inputs(store, {"label_system": system}), ExecutorSettings())
    publish(store, "caption_tags", work({"phrases": store.table(snapshot)})["caption_tags"])
    return folder


@pytest.fixture
def store(base: Path, tmp_path: Path) -> Store:
    shutil.copytree(base, tmp_path / "store")
    return Store(tmp_path / "store")


def labels(store: Store, *arguments: object) -> str:
    result = CliRunner().invoke(labels_cli.app, [*map(str, arguments), "--store", store.url])
    if result.exception is not None:
        raise result.exception
    return result.output


def exported(store: Store, file: Path) -> list[dict[str, str]]:
    labels(store, "export", file)
    with file.open(encoding="utf-8-sig", newline="") as opened:
        return list(csv.DictReader(opened))


def save(file: Path, rows: list[dict[str, str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def tags_of(store: Store) -> dict[str, Tag]:
    snapshot = store.snapshot("label_system")
    assert snapshot is not None
    return {tag.name: tag for tag in read_tags(store.table(snapshot))}


def test_export_shows_counts_captions_and_evidence(store: Store, tmp_path: Path) -> None:
    rows = {row["name"]: row for row in exported(store, tmp_path / "labels.csv")}
    assert list(rows) == ["car", "beach", "dog", "zebu"]
    assert (rows["car"]["count"], rows["car"]["synonyms"]) == ("12", "automobile")
    assert rows["car"]["evidence"].startswith("automobile (0.9")
    assert rows["car"]["evidence"].endswith("merged")
    assert set(rows["beach"]["examples"].split(" | ")) <= {"a car on the beach", "a zebu on the beach"}
    assert rows["dog"]["examples"].startswith("'= a caption like a formula")


def test_an_unchanged_sheet_makes_no_version(store: Store, tmp_path: Path) -> None:
    save(tmp_path / "labels.csv", exported(store, tmp_path / "labels.csv"))
    assert "nothing changed" in labels(store, "import", tmp_path / "labels.csv")
    assert len(store.snapshots("label_system")) == 1


def test_import_makes_a_version_that_a_run_keeps_and_a_refit_repeats(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    rows = {row["name"]: row for row in exported(store, file)}
    rows["zebu"]["status"] = "off"
    rows["car"]["synonyms"] = ""
    new = {**dict.fromkeys(rows["car"], ""), "name": "automobile", "type": "object"}
    save(file, [*rows.values(), new])
    output = labels(store, "import", file)
    assert "1 added, 1 switched off, 1 synonyms" in output
    tags = tags_of(store)
    assert (tags["car"].count, tags["automobile"].count, tags["zebu"].active) == (8, 4, False)

    stage = stage_named("build-labels")
    assert plan(StageRun(store, stage, SETTINGS)).kept
    refit = plan(StageRun(store, stage, SETTINGS, again=Again(refit=True)))
    assert not refit.kept
    again = build_labels.reduce(SETTINGS, Inputs(store, refit.snapshots), ExecutorSettings())["label_system"]
    assert {tag.name: tag for tag in read_tags(again)} == tags

    first, second = (snapshot.key for snapshot in reversed(store.snapshots("label_system")))
    text = labels(store, "diff", first)
    assert "tag 3 'zebu' is switched off and was active" in text
    assert "tag 4 'automobile' is new (object)" in text
    assert "tag 0 'car' lost the synonyms automobile" in text
    assert labels(store, "diff", second, second) == "nothing changed\n"


def test_a_second_import_adds_to_the_first(store: Store, tmp_path: Path) -> None:
    for name in ("zebu", "dog"):
        rows = exported(store, tmp_path / "labels.csv")
        for row in rows:
            if row["name"] == name:
                row["status"] = "off"
        save(tmp_path / "labels.csv", rows)
        labels(store, "import", tmp_path / "labels.csv")
    refit = plan(StageRun(store, stage_named("build-labels"), SETTINGS, again=Again(refit=True)))
    again = build_labels.reduce(SETTINGS, Inputs(store, refit.snapshots), ExecutorSettings())["label_system"]
    assert [tag.name for tag in read_tags(again) if not tag.active] == ["dog", "zebu"]


def test_a_synonym_without_a_home_is_pointed_out(store: Store, tmp_path: Path) -> None:
    rows = exported(store, tmp_path / "labels.csv")
    save(tmp_path / "labels.csv", [{**row, "synonyms": ""} for row in rows])
    assert "'automobile' left tag 0 'car' and belongs to no tag now" in labels(store, "import", tmp_path / "labels.csv")


def test_rules_say_how_many_rows_they_touched(store: Store, tmp_path: Path) -> None:
    (tmp_path / "rules.csv").write_text("action,type,pattern,value\noff,object,/zebu|dog/,\noff,,x*,\n")
    output = labels(store, "import", "--rules", tmp_path / "rules.csv")
    assert "rule 2: off object /zebu|dog/: 2 rows" in output
    assert "rule 3: off any x*: 0 rows" in output
    assert [tag.name for tag in tags_of(store).values() if not tag.active] == ["dog", "zebu"]


def test_a_tag_that_a_model_of_the_store_knows_is_not_retired(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "labels.json").write_text(json.dumps([asdict(Label("zebu", "object"))]))
    model = store.write_model("ram", "m", folder)
    store.publish(Snapshot("ram", "m", "test", "r", model=model))
    rows = exported(store, tmp_path / "labels.csv")
    save(tmp_path / "labels.csv", [row for row in rows if row["name"] not in ("zebu", "dog")])
    with pytest.raises(SheetError) as error:
        labels(store, "import", tmp_path / "labels.csv")
    [problem] = error.value.problems
    assert "tag 3 'zebu' is removed, but the checkpoint ram knows it" in problem
    assert len(store.snapshots("label_system")) == 1


def test_coverage_of_a_list(store: Store, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("car\nAutomobile\nbeaches\ntrumpet\n")
    output = labels(store, "coverage", tmp_path / "classes.txt")
    assert "car: tag 0 'car' (object)" in output
    assert "Automobile: tag 0 'car' (object) through 'Automobile'" in output
    assert "beaches: tag 1 'beach' (scene) through 'beach' (0.9" in output
    assert "trumpet: missing" in output
    assert "3 of 4 covered, 1 by name and 2 through a synonym; 1 missing" in output


def test_what_cannot_be_found_is_said(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        labels(store, "import", tmp_path / "none.csv")
    with pytest.raises(ValueError, match="name a spreadsheet"):
        labels(store, "import")
    with pytest.raises(RuntimeError, match="'x' names 0 versions of the label system; there are"):
        labels(store, "diff", "x")
    (tmp_path / "labels.csv").write_bytes("tag_id,name\n1,caf\xe9\n".encode("latin-1"))
    with pytest.raises(ValueError, match="not UTF-8"):
        labels(store, "import", tmp_path / "labels.csv")
    with pytest.raises(RuntimeError, match="no label system yet"):
        labels(Store(tmp_path / "empty"), "export", tmp_path / "x.csv")
