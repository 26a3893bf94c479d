"""prefect.yaml on a real server with real workers: deployments run, refuse, are cancelled, and leave their pages."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from ram_engine.configuration import configure
from storage.store import Store
from tests.conftest import ROOT, ram_engine
from tests.flows.conftest import Deployed


def fields(schema: dict[str, Any], definitions: dict[str, Any], path: str = "") -> dict[str, dict[str, Any]]:
    """All fields of a parameter schema by their path, those of nested models and of unions too."""
    found: dict[str, dict[str, Any]] = {}
    for name, field in schema["properties"].items():
        here = f"{path}.{name}".lstrip(".")
        found[here] = field
        for inner in [field, *field.get("anyOf", []), *field.get("allOf", [])]:
            if reference := inner.get("$ref"):
                found |= fields(definitions[reference.rsplit("/", 1)[-1]], definitions, here)
    return found


def test_every_field_of_every_form_says_what_it_is(deployed: Deployed) -> None:
    listed = deployed.prefect("deployment", "ls").stdout
    assert listed.count("/default") == len(yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"])
    lacking = []
    for flow in ("ram-data-engine", "refresh", "ablate", "clean-tags", "ingest", "retrain", "train-baseline", "ground"):
        deployment = deployed.deployment(f"{flow}/default")
        assert deployment["description"], flow
        schema = deployment["parameter_openapi_schema"]
        for name, field in fields(schema, schema["definitions"]).items():
            words = "description" in field or "$ref" in field or "allOf" in field or "const" in field
            if not words or field.get("additionalProperties"):  # a free mapping would be a box of raw JSON
                lacking.append(f"{flow}: {name}")
    assert not lacking


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("judge/default", {"settings": {"outlier_share": 1.5}}),
        ("judge/default", {"settings": {"outlier_shar": 0.5}}),
        ("ground/default", {"settings": {"proposer": {"kind": "grounding_dino", "checkpoint": ""}}}),
        ("retrain/default", {"settings": {"distillation": "clip"}}),
        ("generate/default", {"settings": {"caption_judge": {"kind": "me"}}}),
        ("ram-data-engine/default", {"until": "grind"}),
        ("ram-data-engine/default", {"store": ""}),
        ("refresh/default", {"tolerance": 2}),
    ],
)
def test_bad_values_are_refused_before_a_run_exists(deployed: Deployed, name: str, parameters: dict[str, Any]) -> None:
    refused = deployed.create_run(name, **parameters)
    assert refused.status_code in (409, 422), refused.text
    assert "validat" in refused.text.lower() or "schema" in refused.text.lower()


def test_a_stage_on_an_empty_store_says_which_must_run_before(deployed: Deployed, tmp_path: Path) -> None:
    created = deployed.create_run("judge/default", store=str(tmp_path / "new")).json()
    state = deployed.ended(created["id"])["state"]
    assert state["type"] == "FAILED"
    assert "run the stage ingest before it, or the whole pipeline" in state["message"]


@pytest.mark.soak  # takes minutes where two cores are busy
def test_a_stage_runs_again_with_another_setting(deployed: Deployed, copied_store: Path) -> None:
    store = Store(copied_store)
    old = {name: store.snapshot(name).key for name in store.artifacts()}  # type: ignore[union-attr]
    done = deployed.prefect(
        *("deployment", "run", "judge/default", "--watch", "-p", f"store={copied_store}"),
        *("-p", 'settings={"region_threshold": 0.9, "no_box": "drop"}'),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    changed = {name for name, key in old.items() if store.snapshot(name).key != key}  # type: ignore[union-attr]
    assert changed == {"tag_verdicts"}
    status = ram_engine("status", "--store", str(copied_store)).stdout
    lines = {line.split()[0]: line for line in status.splitlines() if line.strip()}
    assert "from before tag_verdicts changed" in lines["ram"]
    assert "stale after" in lines["ram_fine_tuned"]
    assert "stale" not in lines["tag_verdicts"] + lines["regions"]
    plan = ram_engine("plan", "--preset", "tiny", "--store", str(copied_store), "--start", "retrain").stdout
    states = {line.split()[0]: line.split()[1] for line in plan.splitlines() if len(line.split()) > 3}
    assert set(states) == {"stage", "retrain", "train-ablation", "fine-tune", "evaluate", "about"}

    run_id = next(word for word in done.stdout.split() if "flow-run/" in word).rsplit("/", 1)[-1]
    assert deployed.run(run_id)["name"] == "judge on tiny"
    pages = deployed.artifacts(run_id)
    page = pages["judge"]["data"]
    assert "| rows read | 160" in page
    assert "| `region_threshold` | `0.9` |" in page
    assert "data:image/jpeg;base64," in page
    assert len(page) < 300_000
    assert page == (copied_store / "reports" / "judge.md").read_text()
    counts = json.loads(pages["tag-counts"]["data"])
    assert counts[0].keys() == {"tag", "type", "pictures", "parsed", "added", "removed"}
    assert pages["report"]["data"] == f"[report.html]({(copied_store / 'report.html').as_uri()})"


@pytest.mark.soak  # takes minutes where two cores are busy
def test_the_ablation_lands_in_the_store_and_the_report(deployed: Deployed, copied_store: Path) -> None:
    quick = {
        "epochs": 1, "architecture": "tag2text", "decoder_layers": 0, "evidence": "mean", "distillation": "none"
    }  # fmt: skip
    run_id = deployed.completed("ablate/default", store=str(copied_store), seeds=2, samples=20, settings=quick)
    rows = json.loads((copied_store / "reports" / "ablation.json").read_text())["all"]["rows"]
    assert list(rows) == ["parsed", "generation", "cleaning", "ceiling"]
    assert len(set(rows["cleaning"]["seeds"])) == 2
    assert (copied_store / "reports" / "ablation.svg").read_text().count("<circle") == 8
    page = deployed.artifacts(run_id)["ablation"]["data"]
    assert f"| cleaning | {rows['cleaning']['mAP']:.4f} |" in page
    assert "data:image/svg+xml;base64," in page
    assert page == (copied_store / "reports" / "ablation.md").read_text()
    report = (copied_store / "report.html").read_text()
    assert '"ablation":{"all":{' in report
    assert f'"mAP":{round(rows["cleaning"]["mAP"], 4)}' in report


@pytest.mark.soak  # registers every deployment again
def test_a_store_is_deployed_with_the_settings_that_it_was_made_with(deployed: Deployed, copied_store: Path) -> None:
    done = ram_engine("deploy", "--store", str(copied_store), env=deployed.environment)
    assert "registered: ram-data-engine/tiny" in done.stdout
    offered = deployed.deployment("train-baseline/tiny")["parameters"]
    assert offered == {"store": str(copied_store), "settings": configure("tiny")[0].train_baseline.chosen()}
    deployed.completed("ingest/tiny", **deployed.deployment("ingest/tiny")["parameters"])
    assert deployed.deployment("ingest/default")["parameters"]["store"] == "runs/sample"


def test_a_refresh_with_nothing_new_says_so(deployed: Deployed, finished_store: Path) -> None:
    run_id = deployed.completed("refresh/default", store=str(finished_store))
    assert "nothing is new" in deployed.artifacts(run_id)["refresh"]["data"]


def test_new_data_starts_a_refresh(deployed: Deployed) -> None:
    before = len(deployed.runs("refresh/default"))
    emitted = deployed.prefect("event", "emit", "ram-engine.data.landed", "--resource-id", "ram-engine.source.mine")
    assert emitted.returncode == 0, emitted.stdout + emitted.stderr
    deadline = time.monotonic() + 60
    while len(started := deployed.runs("refresh/default")) == before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len(started) == before + 1


@pytest.mark.soak  # takes minutes where two cores are busy
@pytest.mark.parametrize(("kind", "moment"), [("processes", "phrases/parts/*"), ("threads", ".work/train-baseline-*")])
def test_a_cancelled_run_leaves_no_process(deployed: Deployed, tmp_path: Path, kind: str, moment: str) -> None:
    few = "ingest.source={kind: sample, train: 24, fine_tune: 8, calibrate: 8, test: 8}"
    settings, _ = configure("tiny", sets=[few, "ingest.shard_size=4", "train_baseline.epochs=1000"])
    store = tmp_path / "store"
    created = deployed.create_run(
        "ram-data-engine/default", store=str(store), settings=settings.model_dump(mode="json"), executor={"kind": kind}
    ).json()
    deadline = time.monotonic() + 120
    while not list(store.glob(moment)) and time.monotonic() < deadline:
        time.sleep(0.05)
    worker = psutil.Process(deployed.workers["ram-engine-training"].pid)
    children = worker.children(recursive=True)
    assert children
    state = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    assert deployed.client.post(f"/flow_runs/{created['id']}/set_state", json=state).json()["status"] == "ACCEPT"
    assert deployed.ended(created["id"])["state_type"] == "CANCELLED"
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


@pytest.mark.soak  # takes minutes where two cores are busy
def test_a_killed_worker_costs_nothing_that_was_done(deployed: Deployed, copied_store: Path) -> None:
    store, settings = Store(copied_store), configure("tiny")[0].model_dump(mode="json")
    verdicts = store.snapshot("tag_verdicts")
    asked = {"store": str(copied_store), "settings": settings, "start": "ground", "until": "judge"}
    begun = time.time()
    run_id = deployed.create_run("ram-data-engine/default", force="ground", **asked).json()["id"]
    deadline = time.monotonic() + 120
    regions = copied_store / "regions" / "parts"
    while not any(part.stat().st_mtime > begun for part in regions.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    worker = deployed.workers["ram-engine-training"]
    of_run = psutil.Process(worker.pid).children(recursive=True)
    worker.kill()
    worker.wait()
    deployed.start_worker("ram-engine-training")
    _, alive = psutil.wait_procs(of_run, timeout=90)  # the run itself goes on without its worker
    assert not alive
    again = deployed.create_run("ram-data-engine/default", **asked).json()["id"]
    assert deployed.ended(again)["state_type"] == "COMPLETED"
    after = store.snapshot("tag_verdicts")
    assert after is not None
    assert verdicts is not None
    assert after.digest == verdicts.digest
    assert deployed.run(run_id)["state_type"] in ("COMPLETED", "CRASHED", "RUNNING")
