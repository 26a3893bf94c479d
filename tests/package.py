"""Packages as pip leaves them in a folder: modules, and what an installer makes of their ``pyproject.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path


def lay(folder: Path, files: Mapping[str, str]) -> None:
    """Puts a package's ``files`` (texts by name, ``pyproject.toml`` among them) into ``folder``, installed."""
    project = tomllib.loads(files["pyproject.toml"])["project"]
    name, version = project["name"].replace("-", "_"), project["version"]
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{entry} = {place}" for entry, place in entries.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for file, text in files.items():
        if file != "pyproject.toml":
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
