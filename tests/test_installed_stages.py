"""Stages that an installed package brings and that do not fit: they are left out, and commands say so and work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.package import lay

MODULE = """
from storage.schemas import CONTRACTS, Contract
from tasks.machine.declaration import Declaration, whole
from tasks.settings.base import Settings

WORDS = {name: CONTRACTS["phrases"] for name in ("first_words", "last_words", "words")}


def stage(name, reads, writes, **more):
    contracts = {artifact: WORDS[artifact] for artifact in writes if artifact in WORDS}
    about = "counts words"
    return Declaration(name, "reduce", 1, about, Settings(), whole(*reads), writes, contracts=contracts, **more)


LAST = stage("last-words", ["pairs"], ("last_words",))
FIRST = stage("first-words", ["last_words"], ("first_words",))
NOTHING = "words"
TAKEN = stage("ingest", ["pairs"], ("words",))
ROUNDS = stage("rounds", ["pairs"], ("words",))
NUMBERED = stage("words-2", ["pairs"], ("words",))
UNKNOWN = stage("unknown", ["no_such_thing"], ("words",))
EARLY = stage("early", ["regions"], ("words",))
SECOND = stage("second", ["pairs"], ("phrases",))
UNCLEAR = stage("unclear", ["pairs"], ("unclear_words",))
IDLE = stage("idle", ["pairs"], ())
HOMELESS = stage("homeless", ["pairs"], ("words",), section="no_such_section")
"""
REASONS = {
    "broken": "No module named 'no_such_library'",
    "nothing": "it is no Declaration",
    "taken": "its name 'ingest' is not of letters",
    "rounds": "its name 'rounds' is not of letters",
    "numbered": "its name 'words-2' is not of letters",
    "unknown": "it reads 'no_such_thing', which no stage makes",
    "early": "it reads 'regions', which is made after it",
    "second": "it makes what another stage makes",
    "unclear": "there is no contract of 'unclear_words'",
    "idle": "it makes nothing",
    "homeless": "there is no section 'no_such_section'",
}


def test_what_does_not_fit_is_left_out_with_its_reason_and_commands_work(tmp_path: Path) -> None:
    entries = {name: f"words:{name.upper()}" for name in REASONS} | {"broken": "words_that_break:ANY"}
    entries |= {"first": "words:FIRST", "last": "words:LAST"}
    listed = "\n".join(f'{name} = "{place}"' for name, place in entries.items())
    project = f'[project]\nname = "words"\nversion = "3"\n[project.entry-points."ram_engine.stages"]\n{listed}\n'
    lay(tmp_path, {"pyproject.toml": project, "words.py": MODULE, "words_that_break.py": "import no_such_library"})
    done = subprocess.run(
        [sys.executable, "-m", "ram_engine", "plan", "--store", str(tmp_path / "store")],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name, reason in REASONS.items():
        assert f"the stage '{name}' of words 3 is left out: {reason}" in done.stderr
    assert done.stderr.count("left out") == len(REASONS)
    stages = [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
    assert stages.index("ingest") < stages.index("last-words") < stages.index("first-words")
