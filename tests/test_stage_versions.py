"""A stage's version moves with its code: a stale version would serve stale parts.

``python -m tests.test_stage_versions`` writes the digests anew, after the versions in tasks/machine/dag.py were raised
where results change.
"""

from __future__ import annotations

import ast
import json
from functools import cache
from pathlib import Path

from storage.keys import digest
from tasks.machine.dag import stages
from tasks.machine.declaration import Stage
from tasks.settings.base import defaults

ROOT = Path(__file__).parents[1]
KEPT = Path(__file__).with_name("stage_digests.json")
# What runs stages or names them, and decides nothing about what they compute.
APART = ("tasks.machine.", "tasks.executors", "tasks.settings.executor", "tasks.settings.base", "tasks.settings.rooms")


def module_file(name: str) -> Path | None:
    base = ROOT / Path(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.exists()), None)


@cache
def imported(name: str) -> frozenset[str]:
    """The project's modules that a module imports, by name."""
    path = module_file(name)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if path else ():
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return frozenset(one for one in found if one.split(".")[0] in {"tasks", "models", "storage"} and module_file(one))


def code_of(stage: Stage) -> str:
    """A digest of the syntax trees of a stage's module and of all that it imports; comments and docstrings are free."""
    seen: set[str] = set()
    todo = [stage.entry]
    while todo:
        name = todo.pop()
        if name in seen or name.startswith((*APART, "storage")):
            continue
        seen.add(name)
        todo += imported(name)
    trees = {}
    for name in sorted(seen):
        path = module_file(name)
        if path:
            trees[name] = ast.dump(_without_words(ast.parse(path.read_text(encoding="utf-8"))))
    return digest(trees)


def _without_words(tree: ast.Module) -> ast.Module:
    """Without docstrings, and without the words that a form shows beside a setting."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != "description"]
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0] = ast.Pass()
    return tree


def current() -> dict[str, dict[str, object]]:
    return {
        stage.name: {
            "version": stage.version,
            "code": code_of(stage),
            "defaults": defaults(type(stage.declared.usual)),  # keys leave out what stands at them
        }
        for stage in stages(1)
    }


def test_versions_move_with_the_code() -> None:
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    now = json.loads(json.dumps(current()))
    stale = [name for name, value in now.items() if kept.get(name) != value]
    assert not stale, (
        f"the code or a default of {', '.join(stale)} moved: raise its version in tasks/machine/dag.py where "
        "results change, then run `python -m tests.test_stage_versions`"
    )


if __name__ == "__main__":
    KEPT.write_text(json.dumps(current(), indent=1) + "\n", encoding="utf-8")
