"""The examples of docs/extend.md, installed as packages into a folder of their own: a run of `tiny` uses them all."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError

from storage.store import Store
from tasks.sample_world import world
from tasks.sources.sample import SampleSource
from tests.conftest import ROOT, ram_engine
from tests.package import lay

BLOCK = re.compile(r"^```\w+ (?P<package>[\w-]+)/(?P<file>\S+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
PICTURES = 60
SEVERAL = """
import json, sys
from ram_engine.cli import main

if __name__ == "__main__":
    for arguments in json.loads(sys.argv[1]):
        sys.argv = ["ram-engine", *arguments]
        print(">", arguments[0], flush=True)
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise
"""


@dataclass(frozen=True)
class Extended:
    """A store that was made with the packages' members, what the commands printed, by command, and where files are."""

    store: Store
    told: dict[str, str]
    folder: Path
    photos: Path
    packages: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": f"{self.packages}{os.pathsep}{ROOT}"}


def draw(folder: Path) -> None:
    """Pictures of the sample world with their captions beside them; one has none."""
    source = SampleSource(train=PICTURES - 1, fine_tune=0, calibrate=0, test=1)
    for number, item in enumerate(source.items()):
        drawn = world.draw(source, item.name)
        image = folder / f"part-{number % 2}" / f"{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(drawn.image)
        image.with_suffix(".txt").write_text("\n".join(drawn.captions if number else ()))


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Extended:
    folder = tmp_path_factory.mktemp("extended")
    packages: dict[str, dict[str, str]] = {}
    for block in BLOCK.finditer((ROOT / "docs/extend.md").read_text("utf-8")):
        packages.setdefault(block["package"], {})[block["file"]] = block["text"]
    for files in packages.values():
        lay(folder / "site-packages", files)
    draw(folder / "photos")
    store = ("--store", str(folder / "store"))
    run = (
        *("run", "--preset", "tiny", *store, "--source", f"sidecar:{folder / 'photos'}"),
        *("--annotator", "colours:7", "--proposer", "middle:0.4", "--set", "measure.caption_judge=light"),
        *("--set", "ingest.source.suffixes=[.png]", "--set", "build_labels.min_count=2", "--until", "judge"),
    )
    commands = [
        run,
        ("export", str(folder / "out"), "--format", "jsonl", *store),
        ("status", *store),
        ("plan", *run[1:], "--set", "count_words.least_count=3"),
        ("deploy", *store, "--no-register"),
    ]
    script = folder / "several.py"
    script.write_text(SEVERAL)
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(commands)],
        env={**os.environ, "PYTHONPATH": f"{folder / 'site-packages'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = {part.partition("\n")[0]: part.partition("\n")[2] for part in done.stdout.split("> ")}
    return Extended(Store(folder / "store"), told, folder, folder / "photos", folder / "site-packages")


def rows(extended: Extended, artifact: str) -> list[dict[str, object]]:
    snapshot = extended.store.snapshot(artifact)
    assert snapshot is not None, artifact
    listed: list[dict[str, object]] = extended.store.table(snapshot).to_pylist()
    return listed


def test_a_source_lists_and_says_what_is_unfit(extended: Extended) -> None:
    assert len(rows(extended, "pairs")) == PICTURES - 1
    assert [row["reason"] for row in rows(extended, "pairs_rejected")] == ["row_without_caption"]


def test_an_annotator_and_a_proposer_make_the_verdicts(extended: Extended) -> None:
    folder = extended.store.model_folder(extended.store.snapshot("baseline"))  # type: ignore[arg-type]
    said = json.loads((folder / "annotator.json").read_text("utf-8"))
    assert said == {"package": "ram-engine-colours 0.1.0", "settings": {"kind": "colours", "sharpness": 7.0}}
    regions = rows(extended, "regions")
    assert {tuple(round(side, 3) for side in row["box"]) for row in regions} == {(0.3, 0.3, 0.7, 0.7)}  # type: ignore
    assert {row["tag_score"] for row in regions} == {None}  # it cannot look at a region
    assert len(rows(extended, "generated")) == PICTURES - 1
    assert not rows(extended, "generated_rejected")
    assert rows(extended, "tag_verdicts")


def test_a_caption_judge_is_asked(extended: Extended) -> None:
    fits = [fit for row in rows(extended, "measures") for fit in row["caption_fits"]]  # type: ignore[attr-defined]
    assert fits
    assert all(-1 <= fit <= 1 for fit in fits)


def test_an_export_writes_what_the_store_holds(extended: Extended) -> None:
    lines = [json.loads(line) for line in (extended.folder / "out" / "data.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == PICTURES - 1
    assert all((extended.folder / "out" / "images" / line["image"]).is_file() for line in lines)


def test_a_stage_is_planned_run_shown_and_deployed(extended: Extended) -> None:
    counts = {row["word"]: row["count"] for row in rows(extended, "word_counts")}
    assert min(counts.values()) == 2  # type: ignore[type-var]
    assert "a" in counts
    assert any(line.split()[:1] == ["word_counts"] for line in extended.told["status"].splitlines())
    states = {line.split()[0]: line.split()[1] for line in extended.told["plan"].splitlines() if len(line.split()) > 1}
    assert states["count-words"] == "to"  # do; of all others nothing
    assert {states[name] for name in ("ingest", "encode", "generate", "judge")} <= {"done", "kept"}
    file = yaml.safe_load((extended.folder / "store" / "prefect.yaml").read_text("utf-8"))
    deployed = {entry["entrypoint"]: entry["parameters"] for entry in file["deployments"]}
    assert deployed["flows.stages.count_words"] == {"store": str(extended.folder / "store"), "settings": {}}
    source = {"kind": "sidecar", "path": str(extended.photos), "suffixes": [".png"]}
    assert deployed["flows.stages.ingest"]["settings"]["source"] == source
    assert deployed["flows.stages.ground"]["settings"]["proposer"] == {"kind": "middle", "share": 0.4}


def test_without_its_package_a_member_is_missed_in_words(extended: Extended) -> None:
    done = ram_engine("plan", "--preset", "tiny", "--store", str(extended.folder / "store"), check=False)
    assert done.returncode == 1
    assert "setting ingest.source: there is no kind 'sidecar'" in done.stdout


@pytest.mark.soak  # registers every deployment, and runs three in processes of their own
def test_forms_of_deployments_take_what_packages_bring(extended: Extended, prefect_api: str) -> None:
    def called(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command], env=extended.environment, cwd=extended.folder, capture_output=True, text=True
        )

    done = called("-m", "ram_engine", "deploy", "--store", extended.store.url)
    assert done.returncode == 0, done.stdout + done.stderr
    with get_client(sync_client=True) as client:
        for name, settings in {
            "ingest": {"source": {"kind": "sidecar", "path": str(extended.photos), "suffixes": [".png"]}},
            "ground": {"proposer": {"kind": "middle", "share": 0.2}},
            "count-words": {"least_count": 5},
        }.items():
            deployment = client.read_deployment_by_name(f"{name}/store")
            with pytest.raises(PrefectHTTPStatusError, match=r"422|409"):  # the form knows the members' own bounds
                client.create_flow_run_from_deployment(deployment.id, parameters={"settings": {"proposer": 1, "x": 2}})
            given = {**deployment.parameters, "settings": settings}
            run = client.create_flow_run_from_deployment(deployment.id, parameters=given)
            executed = called("-m", "prefect", "flow-run", "execute", str(run.id))
            assert client.read_flow_run(run.id).state_name == "Completed", executed.stdout + executed.stderr
    boxes = {tuple(round(side, 3) for side in row["box"]) for row in rows(extended, "regions")}  # type: ignore
    assert boxes == {(0.4, 0.4, 0.6, 0.6)}
    assert min(row["count"] for row in rows(extended, "word_counts")) >= 5  # type: ignore[operator, type-var]
