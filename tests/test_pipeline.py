"""The whole engine on the preset `tiny`: what it leaves, and what a second run does."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.numpy import load_file

from ram_engine import configuration
from storage.store import Store
from tasks.evaluation.verdict import NOT_SHOWN, headline, verdicts_of
from tasks.machine.dag import stages
from tasks.machine.outlook import Request, outlook
from tasks.settings.pipeline import PipelineSettings
from tasks.training.ridge import image_numbers
from tests.conftest import ROOT, ram_engine


def states(store: Path, *sets: str, refit: bool = False) -> dict[str, str]:
    settings, _ = configuration.configure("tiny", sets=sets)
    return {one.stage.name: one.state for one in outlook(Store(store), settings, Request(refit=refit))}


def test_every_stage_leaves_its_artifacts(finished_store: Path) -> None:
    store = Store(finished_store, create=False)
    settings, _ = configuration.configure("tiny")
    for stage in stages(settings.rounds):
        for artifact in stage.outputs:
            snapshot = store.snapshot(artifact)
            assert snapshot is not None, artifact
            assert snapshot.stage == stage.name
            assert snapshot.model or snapshot.parts
    assert (finished_store / "report.html").stat().st_size > 10_000


def test_every_row_of_the_ablation_is_measured(finished_store: Path) -> None:
    store = Store(finished_store, create=False)
    metrics = store.table(store.snapshot("metrics")).to_pylist()
    measured = {row["model"] for row in metrics if row["metric"] == "mAP" and row["subset"] == "all"}
    assert measured >= {"zero_shot", "parsed", "generation", "cleaning", "fine_tuned", "truth"}
    assert all(0 <= row["value"] <= 1 for row in metrics if row["metric"] == "mAP")


def test_the_verdict_is_that_of_the_stored_predictions(finished_store: Path) -> None:
    store = Store(finished_store, create=False)
    found, tuned = verdicts_of(store.table(store.snapshot("verdict")).sort_by("model").to_pylist())
    assert (found.model, found.compared_with, tuned.model, tuned.compared_with) == (
        "cleaning", "parsed", "fine_tuned", "parsed_fine_tuned",
    )  # fmt: skip
    rows = store.table(store.snapshot("metrics")).to_pylist()
    reached = {row["model"]: row["value"] for row in rows if row["metric"] == "mAP" and row["subset"] == "all"}
    assert (found.after, found.before) == pytest.approx((reached["cleaning"], reached["parsed"]))
    assert found.against == "truth"
    assert found.pictures == 24
    assert found.word == NOT_SHOWN  # of so few pictures none would be
    told = (finished_store / "reports" / "ram-data-engine.md").read_text("utf-8")
    assert told.startswith(headline(found))
    assert "measured against the known truth" in told


def test_a_second_run_computes_nothing_and_starts_no_server(finished_store: Path) -> None:
    assert set(states(finished_store).values()) == {"done"}
    done = ram_engine("run", "--preset", "tiny", "--store", str(finished_store))
    assert "nothing to compute" in done.stdout
    assert "No difference shown" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("report.html")


@pytest.mark.parametrize(
    ("setting", "first"),
    [
        ("judge.outlier_share=0.2", "audit"),
        ("calibrate.target_precision=0.7", "calibrate"),
        ("fine_tune.learning_rate=0.0001", "fine-tune"),
    ],
)
def test_a_changed_setting_recomputes_its_stage_and_what_follows(
    finished_store: Path, setting: str, first: str
) -> None:
    changed = states(finished_store, setting)
    names = list(changed)
    assert all(changed[name] == "done" for name in names[: names.index(first)])
    assert changed[first] == "to do"
    assert changed["evaluate"] == "waiting"


def test_another_outlier_share_runs_neither_detector_nor_annotator(copied_store: Path) -> None:
    store = Store(copied_store)
    before = {name: store.snapshot(name) for name in store.artifacts()}
    parts = {name: store.parts_present(name) for name in store.artifacts()}
    ram_engine(
        "run", "--preset", "tiny", "--store", str(copied_store), "--set", "judge.outlier_share=0.4", "--until", "judge"
    )
    changed = {name for name in store.artifacts() if store.snapshot(name) != before[name]}
    assert {name for name in store.artifacts() if store.parts_present(name) != parts[name]} == changed
    assert changed == {"judge_checks", "tag_verdicts"}
    ram_engine("run", "--preset", "tiny", "--store", str(copied_store), "--until", "judge")
    assert {name for name in store.artifacts() if store.snapshot(name) != before[name]} == set()


@pytest.mark.parametrize("preset", [*configuration.preset_names(), *map(str, (ROOT / "benchmarks").glob("*.yaml"))])
def test_every_preset_is_one(preset: str) -> None:
    settings, _ = configuration.configure(preset)
    assert settings != PipelineSettings()


def test_a_ridge_regression_annotates_without_folds(copied_store: Path) -> None:
    settings = ["solver=ridge", "evidence=mean", "decoder_layers=0", "caption=false"]
    sets = [part for one in settings for part in ("--set", f"train_baseline.{one}")]
    ram_engine("run", "--preset", "tiny", "--store", str(copied_store), *sets, "--until", "judge")
    store = Store(copied_store)
    annotator = store.snapshot("baseline")
    assert annotator is not None
    folder = store.model_folder(annotator)
    assert [each.name for each in folder.iterdir()] == ["whole"]
    seen = set(load_file(folder / "whole" / "ridge.safetensors")["seen"].tolist())
    pairs = store.table(store.snapshot("pairs"), ["image_id", "split"]).to_pylist()
    assert seen == set(image_numbers([row["image_id"] for row in pairs if row["split"] == "train"]).tolist())
    generated = store.table(store.snapshot("generated")).to_pylist()
    assert all(0 <= each["score"] <= 1 for row in generated for each in row["scores"])
    assert store.table(store.snapshot("regions")).num_rows > 0


@pytest.mark.parametrize("artifact", ["caption_tags", "pairs"])
def test_a_damaged_part_is_computed_again(artifact: str, copied_store: Path) -> None:
    store = Store(copied_store)
    snapshot = store.snapshot(artifact)
    assert snapshot is not None
    file = Path(store.part_file(artifact, snapshot.parts[0]))
    data = bytearray(file.read_bytes())
    data[100] ^= 4
    file.write_bytes(data)
    run = ram_engine("run", "--preset", "tiny", "--store", str(copied_store), "--until", "ground", "--force", "ground")
    assert f"{snapshot.parts[0].key}.parquet is damaged" in run.stderr
    repaired = store.snapshot(artifact)
    assert repaired is not None
    assert repaired.digest == snapshot.digest
    assert store.table(repaired).num_rows == snapshot.rows


def test_one_stage_runs_by_itself_and_status_tells_what_is_stale(copied_store: Path) -> None:
    fewer = ("--set", "build_labels.min_count=4")
    ram_engine("stage", "build-labels", "--preset", "tiny", "--store", str(copied_store), *fewer)
    status = ram_engine("status", "--store", str(copied_store)).stdout
    line = next(line for line in status.splitlines() if line.strip().startswith("caption_tags"))
    assert "label_system changed" in line


@pytest.mark.parametrize("kind", ["processes", pytest.param("ray", marks=pytest.mark.soak)])
def test_which_executor_ran_never_changes_a_result(kind: str, finished_store: Path, tmp_path: Path) -> None:
    arguments = ("run", "--preset", "tiny", "--store", str(tmp_path / "store"), "--until", "assign-tags")
    ram_engine(*arguments, "--set", f"executor.kind={kind}")
    store, threads = Store(tmp_path / "store"), Store(finished_store)
    for artifact in store.artifacts():
        assert store.snapshot(artifact).digest == threads.snapshot(artifact).digest, artifact  # type: ignore[union-attr]
