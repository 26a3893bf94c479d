"""The rules of imports that docs/architecture.md states."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("ram_engine", "flows", "tasks", "models", "storage")
MAY_IMPORT = {
    "ram_engine": {"ram_engine", "flows", "tasks", "models", "storage"},
    "flows": {"flows", "tasks", "storage"},
    "tasks": {"tasks", "models", "storage"},
    "models": {"models"},
    "storage": {"storage"},
}


def imports_of(package: str) -> Iterator[tuple[Path, str]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                yield path, node.module
            elif isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path, module in imports_of(package)
        if module.split(".")[0] in PACKAGES and module.split(".")[0] not in MAY_IMPORT[package]
    ]
    assert not wrong


@pytest.mark.parametrize(("package", "foreign"), [("models", {"pyarrow", "duckdb"}), ("storage", {"torch", "timm"})])
def test_models_know_no_parquet_and_storage_no_torch(package: str, foreign: set[str]) -> None:
    assert not [f"{path}: {module}" for path, module in imports_of(package) if module.split(".")[0] in foreign]


def test_planning_and_deploying_need_no_torch() -> None:
    code = (
        "import sys, flows.deployments, ram_engine.cli; "
        "print([name for name in ('torch', 'transformers', 'timm', 'spacy') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert printed.stdout.strip() == "[]"


def test_workers_import_no_prefect() -> None:
    code = (
        "import sys, importlib, tasks.machine.worker, tasks.executors.executor, tasks.machine.training_process\n"
        "from tasks.machine.dag import stages\n"
        "for stage in stages(2): importlib.import_module(stage.entry)\n"
        "print('prefect' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert printed.stdout.strip() == "False"


def test_only_evaluation_and_the_report_read_the_truth() -> None:
    from tasks.machine.dag import stages

    readers = {stage.name for stage in stages(2) if "truth" in stage.inputs.values()}
    assert readers == {"train-ablation", "evaluate"}
