"""The worked examples of docs/extend_annotators.md, installed beside the engine as a package that it does not know."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from storage.store import Store
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "extend_annotators.md"
FORMS_THEN_RUN = """
import json, sys
from flows.stages import stage_flows
from ram_engine.cli import main
if __name__ == "__main__":
    schemas = [json.dumps(stage_flows()[name].parameters.model_dump()) for name in ("train-baseline", "ground")]
    print("forms:", ["colours" in schemas[0] and "sharpness" in schemas[0], "middle" in schemas[1]])
    main()
"""


def install(folder: Path, page: str) -> None:
    """Lays the page's Python code into ``folder``, each block in the file that is named before it, and its entry points
    beside it, as an installer would."""
    files = re.findall(r"`(\w+/\w+\.py)`[^`]*```python\n(.*?)```", page, re.DOTALL)
    for name, code in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(code, encoding="utf-8")
        (folder / name).with_name("__init__.py").touch()
    points = re.findall(r'\[project\.entry-points\."([\w.]+)"\]\n(\w+) = "([\w.:]+)"', page)
    about = folder / "colours-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: colours\nVersion: 1.0\n", encoding="utf-8")
    lines = [f"[{group}]\n{name} = {value}\n" for group, name, value in points]
    (about / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    assert len(files) == len(points) == 2


def test_an_installed_package_brings_an_annotator_and_a_proposer(copied_store: Path, tmp_path: Path) -> None:
    install(tmp_path, PAGE.read_text(encoding="utf-8"))
    script = tmp_path / "run.py"
    script.write_text(FORMS_THEN_RUN, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    arguments = ["run", "--preset", "tiny", "--store", str(copied_store), "--until", "judge"]
    done = subprocess.run(
        [sys.executable, str(script), *arguments, "--annotator", "colours:7", "--proposer", "middle:0.4"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "forms: [True, True]" in done.stdout
    store = Store(copied_store)
    said = json.loads((store.model_folder(store.snapshot("baseline")) / "annotator.json").read_text("utf-8"))
    assert said == {"package": "colours 1.0", "settings": {"kind": "colours", "sharpness": 7.0}}
    regions = store.table(store.snapshot("regions"))
    assert {tuple(round(side, 3) for side in box) for box in regions["box"].to_pylist()} == {(0.3, 0.3, 0.7, 0.7)}
    assert set(regions["tag_score"].to_pylist()) == {None}
    generated = store.table(store.snapshot("generated"))
    assert generated.num_rows == store.snapshot("pairs").rows
    assert store.snapshot("generated_rejected").rows == 0
    active = [row["tag_id"] for row in store.table(store.snapshot("label_system")).to_pylist() if row["active"]]
    assert store.table(store.snapshot("tag_bars"))["tag_id"].to_pylist() == active
    verdicts = store.table(store.snapshot("tag_verdicts")).to_pylist()
    assert {row["reason"] for row in verdicts} <= {"kept", "cluster_outlier", "caption_disagrees", "no_box"}
