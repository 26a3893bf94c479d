"""Models in, from their authors' checkpoints (`ram-engine import-checkpoint`), and out, with a card (`export`)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.terminal import Terminal
from storage.store import Store

console = Terminal()


def export_model(to: Path, format_: Literal["folder", "onnx"], model: str, int8: bool, store: str) -> None:
    """Writes a model out: weights or ONNX, labels with thresholds, and a card with what was measured.

    ``model`` is a model folder; empty: the best model of ``store``.
    """
    if int8 and format_ != "onnx":
        raise ValueError("--int8 is for ONNX graphs: add --format onnx")
    if format_ == "onnx" and importlib.util.find_spec("onnxscript") is None:
        raise ValueError("--format onnx needs the extra: pip install 'ram-engine[onnx]'")
    from models import onnx_export, tagger_folder
    from ram_engine.model_card import sections_of
    from ram_engine.tagger import Tagger

    tagger = Tagger.from_pretrained(model) if model else Tagger.from_store(store)
    module = tagger.answerer.module().cpu()
    sections = {} if model else sections_of(Store(store, create=False))
    if format_ == "onnx":
        onnx_export.export(module, to, int8)
        tagger_folder.describe(module, to, sections)
    else:
        tagger_folder.save(module, to, sections)
    console.print(f"{to}: the {tagger.name}, {', '.join(sorted(file.name for file in to.iterdir()))}")


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
    console.print(f"{to}: {model.config.architecture} at {size} pixels with {count:,} tags")
