"""One's own images and captions: bad rows cost nothing else, and a change of the source costs one part."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from flows.refresh import refresh
from ram_engine import configuration
from storage.schemas import TagSource
from storage.store import Snapshot, Store
from tasks.judging import verdict_sheet
from tasks.machine.outlook import Request, outlook
from tasks.sample_world import world
from tasks.sources.sample import SampleSource
from tasks.training.jobs import learnt_bare
from tests.conftest import ram_engine
from tests.tasks.test_ingest import huge_png

MAP_STAGES = {
    "pairs": "ingest",
    "phrases": "parse-captions",
    "caption_tags": "assign-tags",
    "features": "encode",
    "measures": "measure",
    "generated": "generate",
    "regions": "ground",
    "tag_verdicts": "judge",
}


class Folder:
    """A CSV and its images, drawn from the sample world."""

    def __init__(self, folder: Path, count: int) -> None:
        self.path = folder
        (folder / "images").mkdir(parents=True)
        source = SampleSource(train=count)
        self.rows: list[list[str]] = []
        for name, split in world.item_names(source):
            if split == "train":
                item = world.draw(source, name)
                (folder / "images" / f"{name}.jpg").write_bytes(item.image)
                self.rows += [[f"{name}.jpg", caption] for caption in item.captions]

    def write(self) -> None:
        with (self.path / "captions.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["image", "caption"], *self.rows])

    def run(self, store: Path, *more: str) -> str:
        """A run of `tiny` on this folder; what it printed."""
        done = ram_engine(
            "run",
            *("--preset", "tiny", "--store", str(store), "--source", f"csv:{self.path / 'captions.csv'}"),
            *("--set", "ingest.test_share=0.2", "--set", "ingest.calibrate_share=0.2", *more),
        )
        return done.stdout + done.stderr


def test_bad_rows_are_set_apart_and_counted(prefect_api: str, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "data", 8)
    images = folder.path / "images"
    good = (images / folder.rows[0][0]).read_bytes()
    (images / "cut.jpg").write_bytes(good[: len(good) // 2])
    (images / "empty.jpg").write_bytes(b"")
    (images / "huge.png").write_bytes(huge_png())
    for number, caption in enumerate(["\N{DOG FACE}\N{CAT FACE}", "dog " * 5000]):
        (images / f"odd{number}.jpg").write_bytes(good + bytes([number]))
        folder.rows.append([f"odd{number}.jpg", caption])
    (images / "bare.jpg").write_bytes(good + b"bare")
    folder.rows += [["cut.jpg", "a"], ["empty.jpg", "a"], ["huge.png", "a"], ["none.jpg", "a"], ["bare.jpg", ""]]
    folder.rows.append([folder.rows[0][0], ""])  # of an image that has a caption elsewhere: it is none
    folder.write()
    with (folder.path / "captions.csv").open("ab") as file:
        file.write(b"latin.jpg,caf\xe9\n")
    sets = ("--set", "ingest.error_budget=0.9", "--set", "ingest.bare=reject")
    told = folder.run(tmp_path / "store", "--until", "parse-captions", *sets)
    for reason in (
        "image_truncated",
        "image_empty",
        "image_too_large",
        "image_missing",
        "row_without_caption",
        "not_utf8",
        "caption_without_words",
        "caption_too_long",
    ):
        assert f"1 {reason}" in told, reason
    store = Store(tmp_path / "store")
    pairs = store.snapshot("pairs")
    assert pairs is not None
    assert pairs.rows == 10
    # without a source the store's own is meant, not the sample
    again = ram_engine("plan", "--preset", "tiny", "--store", str(tmp_path / "store"), "--until", "ingest").stdout
    assert f"the source is the one that the store was made from: csv:{folder.path / 'captions.csv'}" in again


@pytest.mark.soak
def test_pictures_without_captions_go_through_every_stage(prefect_api: str, tmp_path: Path) -> None:
    folder, store = Folder(tmp_path / "data", 40), tmp_path / "store"
    bare = sorted({row[0] for row in folder.rows})[:8]
    (folder.path / "more" / "below").mkdir(parents=True)
    for at, name in enumerate(bare[:6]):
        (folder.path / "images" / name).rename(folder.path / "more" / ("below" if at % 2 else "") / name)
    folder.rows = [row for row in folder.rows if row[0] not in bare] + [[name, ""] for name in bare[6:]]
    folder.write()
    sets = ("retrain.epochs=1", "train_baseline.epochs=1", "calibrate.target_precision=0.05")
    more = ("--source", f"folder:{folder.path / 'more'}", *(one for each in sets for one in ("--set", each)))
    told = folder.run(store, *more)
    assert "8 of the pictures came without a caption" in told
    assert "8 pictures came without captions: " in told
    opened = Store(store)
    rows = {name: opened.table(snapshot).to_pylist() for name, snapshot in latest(opened).items() if not snapshot.model}
    ids = {row["image_id"] for row in rows["pairs"] if not row["captions"]}
    assert {name for row in rows["pairs"] if row["image_id"] in ids for name in row["names"]} == {
        *bare[:6:2], *(f"below/{name}" for name in bare[1:6:2]), *bare[6:],
    }  # fmt: skip
    assert {row["split"] for row in rows["pairs"] if row["image_id"] in ids} == {"train"}
    for name in ("phrases", "caption_tags"):
        assert not ids & {row["image_id"] for row in rows[name]}
    assert ids < {row["image_id"] for row in rows["generated"]}
    verdicts = [row for row in rows["tag_verdicts"] if row["image_id"] in ids]
    assert {row["source"] & TagSource.CAPTION for row in verdicts} == {0}  # and there are some
    assert all(row["target"] == row["score"] for row in verdicts if row["kept"])
    models = (("baseline", "whole"), ("ram", "whole"), ("ablation", "parsed"), ("ablation", "generation"))
    learnt = [learnt_bare(opened.model_folder(latest(opened)[artifact]) / name) for artifact, name in models]
    assert learnt == [False, True, False, True]
    assert "it came without a caption" in ram_engine("why", min(ids), "--store", str(store)).stdout


def test_too_many_bad_rows_fail_with_a_sentence(prefect_api: str, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "data", 2)
    folder.rows += [[f"none{number}.jpg", "a dog"] for number in range(8)]
    folder.write()
    failed = ram_engine(
        "run",
        "--preset",
        "tiny",
        "--store",
        str(tmp_path / "store"),
        "--source",
        f"csv:{folder.path / 'captions.csv'}",
        check=False,
    )
    assert failed.returncode == 1
    assert "8 image_missing" in failed.stdout + failed.stderr
    assert "error budget of 20%" in failed.stdout + failed.stderr


def test_a_refresh_computes_the_new_part_alone_and_promotes_what_is_good(prefect_api: str, tmp_path: Path) -> None:
    folder, store = Folder(tmp_path / "data", 48), tmp_path / "store"
    bare = sorted({row[0] for row in folder.rows})[-4:]
    folder.rows = [row for row in folder.rows if row[0] not in bare] + [[name, ""] for name in bare]
    folder.write()
    told = folder.run(store, "--set", "evaluate.ablation=false", "--set", "retrain.epochs=1")
    assert "4 of the pictures came without a caption" in told
    assert "4 pictures came without captions: " in told
    opened = Store(store)
    before = latest(opened)
    ids = {row["image_id"] for row in opened.table(before["pairs"]).to_pylist() if not row["captions"]}
    for artifact in ("features", "generated"):
        assert ids < {*opened.table(before[artifact], ["image_id"])["image_id"].to_pylist()}

    new = world.draw(SampleSource(seed=1), "train-000000")
    (folder.path / "images" / "new.jpg").write_bytes(new.image)
    changed, removed = folder.rows[4], folder.rows[9][0]
    changed[1] = "a dog on the beach"
    folder.rows = [["new.jpg", new.captions[0]], *(row for row in folder.rows if row[0] != removed)]
    folder.write()
    sets = ["ingest.test_share=0.2", "ingest.calibrate_share=0.2", "evaluate.ablation=false", "retrain.epochs=1"]
    settings, _ = configuration.configure("tiny", f"csv:{folder.path / 'captions.csv'}", sets)
    planned = {one.stage.name: one for one in outlook(opened, settings, Request())}
    assert {name for name, one in planned.items() if one.state == "kept"} == {
        "build-labels",
        "train-baseline",
        "calibrate",
        "fit-clusters",
        "audit",
    }
    assert {planned[stage].rows for stage in MAP_STAGES.values()} == {2}  # the new one, and the changed one
    assert planned["retrain"].rows == before["pairs"].rows  # one came, one left

    few = refresh(str(store), retrain_share=0.5)
    assert set(few["computed"]) == {*MAP_STAGES.values(), "screen"}
    assert (few["changed_images"], few["relabelled_images"]) == (3, 0)  # one came, one left, one has another caption
    assert "a new one is trained from 50.0%" in few["model"]

    after = latest(opened)
    for artifact, stage in MAP_STAGES.items():
        assert (after[artifact].stage, after[artifact].figures["computed"]) == (stage, 1), artifact
    for artifact in ("label_system", "baseline", "clusters", "ram", "metrics"):
        assert after[artifact].key == before[artifact].key, artifact
    pairs = opened.table(after["pairs"], ["names"])["names"].to_pylist()
    names = {name for row in pairs for name in row}
    assert "new.jpg" in names
    assert removed not in names
    gone = set(opened.table(before["tag_verdicts"], ["image_id"])["image_id"].to_pylist())
    left = set(opened.table(after["tag_verdicts"], ["image_id"])["image_id"].to_pylist())
    assert gone - left  # the removed image is in nothing that a training or an export reads
    for name, snapshot in after.items():  # nor in any count
        assert snapshot.model or name == "candidates" or snapshot.rows == opened.table(snapshot).num_rows, name
    status = {line.split()[0]: line for line in ram_engine("status", "--store", str(store)).stdout.splitlines()}
    for artifact, told in {
        "label_system": "stays as it was fitted, before phrases changed",
        "baseline": "stays as it was fitted, before",
        "ram": "a run renews it, and a refresh that trains",
    }.items():
        assert told in status[artifact]
    assert "stale" not in "".join(status.values())

    sheet = tmp_path / "sheet.csv"
    decided = verdict_sheet.export(opened, "", 1000)[0]
    shown = verdict_sheet.write([replace(one, decision="remove") for one in decided if one.verdict == "kept"][:3])
    sheet.write_text(shown, "utf-8")
    ram_engine("verdicts", "import", str(sheet), "--store", str(store))
    overruled = refresh(str(store), retrain_share=0.5)
    assert overruled["computed"] == ["judge"]
    of_images = {one.image_id for one in decided if one.verdict == "kept" and f",{one.image_id}," in shown}
    assert overruled["relabelled_images"] == len(of_images - changed_ids(opened, before))
    assert "with other tags" in overruled["model"]

    good = refresh(str(store), retrain_share=0.01, tolerance=1.0)
    assert good["computed"] == ["retrain", "evaluate"]
    assert good["promoted"]
    promoted = latest(opened)
    assert promoted["ram"].key != before["ram"].key
    assert promoted["ram"].inputs["ram_previous"] == before["ram"].name  # a warm start
    assert promoted["metrics"].inputs["ram"] == promoted["ram"].name

    # a learning rate that ruins every model: what is trained with it must not take over
    ruinous = {**promoted["ram"].settings, "learning_rate": 30.0}
    opened.publish(replace(promoted["ram"], settings=ruinous))
    folder.rows.pop()
    folder.write()
    bad = refresh(str(store), retrain_share=0.001, tolerance=0.0)
    assert not bad["promoted"]
    assert bad["map_after"] < bad["map_before"]
    assert latest(opened)["ram"].key == promoted["ram"].key
    candidate = opened.snapshots("ram")[0]
    assert candidate.held_back.startswith("mAP")
    assert "is held back: mAP" in ram_engine("status", "--store", str(store)).stdout
    assert refresh(str(store), retrain_share=0.001)["model"] == "kept: nothing is new"
    ram_engine("promote", f"ram@{candidate.key[:8]}", "--store", str(store))
    assert latest(opened)["ram"].key == latest(opened)["ram_log"].key == candidate.key


def changed_ids(store: Store, before: dict[str, Snapshot]) -> set[str]:
    """The images that are new or otherwise captioned since ``before``."""
    rows = [
        {(row["image_id"], *row["captions"]) for row in store.table(one, ["image_id", "captions"]).to_pylist()}
        for one in (before["pairs"], latest(store)["pairs"])
    ]
    return {image_id for image_id, *_ in rows[0] ^ rows[1]}


def latest(store: Store) -> dict[str, Snapshot]:
    return {name: snapshot for name in store.artifacts() if (snapshot := store.snapshot(name)) is not None}


def test_a_store_is_worked_on_by_one_run_at_a_time(tmp_path: Path) -> None:
    home = tmp_path / "store" / ".prefect"
    home.mkdir(parents=True)
    with FileLock(home / "lock"):
        failed = ram_engine("run", "--preset", "tiny", "--store", str(tmp_path / "store"), check=False)
    assert failed.returncode == 1
    assert "another run is working on the store" in failed.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--preset", "smaple"), "did you mean 'sample'?"),
        (("--preset", "tiny", "--set", "judge.outlier_shar=1"), "did you mean 'judge.outlier_share'?"),
        (("--preset", "tiny", "--set", "judge.outlier_share=2"), "less than 1"),
        (("--preset", "tiny", "--source", "cvs:x"), "did you mean 'csv'?"),
        (("--preset", "tiny", "--source", "csv:/nowhere.csv"), "does not exist"),
        (("--preset", "tiny", "--annotator", "pretrained:/nowhere"), "does not exist"),
        (("--preset", "tiny", "--until", "grind"), "there is no stage 'grind'"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    failed = ram_engine("run", "--store", str(tmp_path / "store"), *arguments, check=False)
    assert failed.returncode == 1
    assert sentence in failed.stdout
    assert "Traceback" not in failed.stderr
