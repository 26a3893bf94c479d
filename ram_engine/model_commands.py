"""`ram-engine import-checkpoint`: the authors' checkpoints as model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console(highlight=False, soft_wrap=True)


def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth file of Tag2Text or RAM, as its authors publish it.")],
    to: Annotated[Path, typer.Option("--to", help="The model folder to write.")],
    tags: Annotated[Path, typer.Option("--tags", help="The authors' list of its tags, one a line.")],
    thresholds: Annotated[
        Path | None, typer.Option(help="A threshold a line, beside the tags; else 0.68 for all.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="In pixels; default: what it was trained at.")] = None,
) -> None:
    """Turn an official checkpoint into a model folder. Only tensors are read from the file, no code is run."""
    from models import official

    labels = official.labels_from_files(tags, thresholds)
    model = official.import_checkpoint(checkpoint, to, labels, image_size=image_size)
    size, count = model.config.image_size, len(model.labels)
    console.print(f"{to}: {model.config.architecture} at {size} pixels with {count:,} tags", markup=False)
