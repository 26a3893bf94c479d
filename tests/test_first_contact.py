"""A first run on 80 photographs with a caption each: so few teach little, and nothing harmful may come of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, shared


@pytest.mark.soak
def test_eighty_photographs_are_done_no_harm(tmp_path: Path) -> None:
    flickr8k = shared("data/flickr8k")
    report = tmp_path / "report.txt"
    report.write_text("\n".join((flickr8k / "dev.txt").read_text("utf-8").split()[:300]), "utf-8")
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "benchmarks" / "first_contact.py"), str(flickr8k), "--images", "80"),
            *("--runs", "1", "--report", str(report), "--folder", str(tmp_path / "runs")),
        ],
        env={**os.environ, "PREFECT_API_URL": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["added_precision"] is None or figures["added_precision"] >= 0.5
    assert figures["worst_tag_excess"] <= 2
    assert figures["right_words_lost"] <= 0.01
    assert figures["verdict"] != "worse"
    assert figures["map_low"] > -0.01
