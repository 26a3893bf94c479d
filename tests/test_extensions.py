"""The examples of docs/extend.md, installed as packages into a folder of their own, and used from the command line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from PIL import Image

from tests.conftest import ROOT, ram_engine
from tests.package import lay

BLOCK = re.compile(r"^```\w+ (?P<package>[\w-]+)/(?P<file>\S+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
Command = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="session")
def extended(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Command:
    """The console command where the packages of docs/extend.md are installed."""
    packages: dict[str, dict[str, str]] = {}
    for block in BLOCK.finditer((ROOT / "docs/extend.md").read_text("utf-8")):
        packages.setdefault(block["package"], {})[block["file"]] = block["text"]
    folder = tmp_path_factory.mktemp("site-packages")
    for files in packages.values():
        lay(folder, files)

    def run(*arguments: str, check: bool = True) -> CompletedProcess[str]:
        return ram_engine(*arguments, check=check, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(folder)})

    return run


def test_a_packages_source_and_export_work_from_the_command_line(extended: Command, tmp_path: Path) -> None:
    photos, store = tmp_path / "photos", str(tmp_path / "store")
    (photos / "farm").mkdir(parents=True)
    said = {"farm/a.png": ["a red barn", "a barn"], "b.png": ["a grey sky"], "c.png": []}
    for shade, (name, captions) in enumerate(said.items()):
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(photos / name)
        (photos / name).with_suffix(".txt").write_text("\n".join(captions))
    run = (
        *("run", "--preset", "tiny", "--until", "ingest", "--store", store, "--source", f"sidecar:{photos}"),
        *("--set", "ingest.source.suffixes=[.png]", "--set", "ingest.error_budget=0.5"),
    )
    extended(*run)
    assert "everything is up to date" in extended(*run).stdout
    assert "row_without_caption" in ram_engine("show", "pairs_rejected", "--store", store).stdout

    folder = tmp_path / "out"
    extended("export", str(folder), "--format", "jsonl", "--store", store)
    rows = [json.loads(line) for line in (folder / "data.jsonl").read_text("utf-8").splitlines()]
    assert {row["image"]: row["captions"] for row in rows} == {name: texts for name, texts in said.items() if texts}
    assert all((folder / "images" / row["image"]).is_file() for row in rows)

    without = ram_engine("plan", "--preset", "tiny", "--store", store, check=False)  # its package is not installed here
    assert "setting ingest.source: there is no kind 'sidecar'" in without.stdout
