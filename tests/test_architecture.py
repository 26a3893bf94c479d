"""The rules of imports that docs/architecture.md states."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
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


def modules_of(package: str) -> dict[str, ast.Module]:
    """Every module of a package by its dotted name; a package's own by the package's."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def run_on_import(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported: none in functions, none for type checkers alone."""
    for statement in statements:
        yield statement
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            yield from run_on_import(statement.orelse)
        elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in ("body", "orelse", "finalbody"):
                yield from run_on_import(getattr(statement, part, []))
            yield from (
                inner for handler in getattr(statement, "handlers", []) for inner in run_on_import(handler.body)
            )


def test_no_modules_import_each_other_in_a_circle() -> None:
    trees = {name: tree for package in PACKAGES for name, tree in modules_of(package).items()}
    needs: dict[str, set[str]] = {}
    for name, tree in trees.items():
        needed = set()
        for statement in run_on_import(tree.body):
            if isinstance(statement, ast.ImportFrom) and statement.module:
                submodules = {f"{statement.module}.{alias.name}" for alias in statement.names}
                whole = {statement.module} if any(module not in trees for module in submodules) else set()
                needed |= whole | submodules
            elif isinstance(statement, ast.Import):
                needed |= {alias.name for alias in statement.names}
        needs[name] = (needed & trees.keys()) - {name}
    try:
        list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


LONGEST, MOST_PARAMETERS = 60, 7


def parameters_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    given = function.args
    stars = [star for star in (given.vararg, given.kwarg) if star is not None]
    names = [parameter.arg for parameter in (*given.posonlyargs, *given.args, *given.kwonlyargs, *stars)]
    return [name for name in names if name not in ("self", "cls")]


def is_a_form(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether its parameters are the options of a command or the fields of a flow's form, and no code's to give."""
    if any(ast.unparse(decorator).startswith(("flow(", "app.command(")) for decorator in function.decorator_list):
        return True
    annotations = [ast.unparse(parameter.annotation) for parameter in function.args.args if parameter.annotation]
    return bool(annotations) and all("typer." in each or each.endswith("Option") for each in annotations)


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_are_short_and_take_few_parameters(package: str) -> None:
    wrong = []
    for module, tree in modules_of(package).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines, parameters = node.end_lineno - node.lineno + 1, parameters_of(node)
                if lines > LONGEST:
                    wrong.append(f"{module}.{node.name} has {lines} lines")
                if len(parameters) > MOST_PARAMETERS and not is_a_form(node):
                    wrong.append(f"{module}.{node.name} has {len(parameters)} parameters")
    assert not wrong


def test_every_module_of_tasks_has_a_room() -> None:
    assert [path.name for path in (ROOT / "tasks").glob("*.py")] == ["__init__.py"]
