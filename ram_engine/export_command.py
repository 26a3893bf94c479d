"""`ram-engine export`: a model, or the data set that the engine made, as a folder that others read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.terminal import Terminal
from ram_engine import model_commands
from ram_engine.configuration import kinds_in_words
from ram_engine.options import StoreOption, default_store
from storage.store import Store
from tasks.exports.room import EXPORTS

console = Terminal()

MODELS: tuple[Literal["folder", "onnx"], ...] = ("folder", "onnx")


def export(
    to: Annotated[Path, typer.Argument(help="The folder to write.")],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="KIND",
            help=f"A model: {' or '.join(MODELS)}. Data: one of these. {kinds_in_words(EXPORTS)}",
        ),
    ] = "folder",
    model: Annotated[str, typer.Option("--model", help="A model folder; default: the store's best model.")] = "",
    int8: Annotated[bool, typer.Option("--int8", help="ONNX: linear layers of 8 bits, for speed on a CPU.")] = False,
    split: Annotated[
        str, typer.Option("--split", help="Data: only this split (train, fine_tune, calibrate, test).")
    ] = "",
    min_score: Annotated[float, typer.Option("--min-score", min=0, max=1, help="Data: only tags this probable.")] = 0.0,
    source: Annotated[
        list[str],
        typer.Option("--source", help="Data: only tags that this said: caption, generated or predicted; repeatable."),
    ] = [],  # noqa: B006 - typer reads the default and never changes it
    images: Annotated[bool, typer.Option(help="Data: with the images themselves.")] = True,
    strip_exif: Annotated[
        bool, typer.Option("--strip-exif", help="Data: image files without metadata, such as the place and the camera.")
    ] = False,
    push: Annotated[
        str, typer.Option("--push-to-hub", help="Upload the folder too, as OWNER/NAME, which is private.")
    ] = "",
    public: Annotated[bool, typer.Option("--public", help="What is uploaded may be seen by anyone.")] = False,
    store: StoreOption = default_store(),
) -> None:
    """Write out a model (weights or ONNX, with its card), or data: images, captions and tags by the last verdicts."""
    if public and not push:
        raise ValueError("--public is for uploads: add --push-to-hub OWNER/NAME")
    of_model = next((kind for kind in MODELS if kind == format_), None)
    if of_model is not None:
        if split or min_score or source or strip_exif or not images:
            raise ValueError(
                "--split, --min-score, --source, --strip-exif and --no-images are for data, not for --format " + format_
            )
        model_commands.export_model(to, of_model, model, int8, store)
    else:
        EXPORTS.named(format_, MODELS)
        if model or int8:
            raise ValueError(f"--model and --int8 are for models: leave them out with --format {format_}")
        from ram_engine.data_export import export_data
        from tasks.exports.writing.exported_rows import Selection

        started = time.monotonic()
        chosen = Selection(split, min_score, tuple(source), images, strip_exif)
        written = export_data(Store(store, create=False), format_, to, chosen)
        counted = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in written.items()) or "no change"
        console.print(f"{to}: {counted}, in {time.monotonic() - started:.1f} s")
    if push:
        from ram_engine.hub import push_folder

        console.print(push_folder(to, push, "model" if of_model else "dataset", public))
