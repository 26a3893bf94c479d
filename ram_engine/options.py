"""Options that several commands share."""

from __future__ import annotations

import os
from typing import Annotated

import typer

StoreOption = Annotated[str, typer.Option("--store", help="The store: a folder, or any fsspec URL.")]


def default_store() -> str:
    """``RAM_ENGINE_STORE`` where it is set, else the sample's."""
    return os.environ.get("RAM_ENGINE_STORE", "runs/sample")
