"""`ram-engine verdicts`: what cleaning decided as a spreadsheet with pictures, and a person's decisions back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.terminal import Terminal
from ram_engine.options import StoreOption, default_store
from storage.store import Store
from tasks.judging import verdict_sheet

app = typer.Typer(help="Overrule what cleaning decided, by hand.", no_args_is_help=True)
console = Terminal()
DEFAULT_STORE = default_store()


@app.command("export")
def export_sheet(
    file: Annotated[Path, typer.Argument(help="The CSV to write; its pictures go into a PNG beside it.")],
    tag: Annotated[str, typer.Option(help="A tag, or a word for it; default: all tags.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many, the doubtful ones first.")] = 200,
    only: Annotated[Literal["", "kept", "removed"], typer.Option(help="Only what was kept, or removed.")] = "",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write verdicts as a spreadsheet, with the pictures they are about."""
    rows, sheet = verdict_sheet.export(Store(store, create=False), tag, limit, only)
    # spreadsheets take a file for UTF-8 only when it begins with this mark
    file.write_text(verdict_sheet.write(rows), encoding="utf-8-sig", newline="")
    sheet.save(file.with_suffix(".png"))
    console.print(
        f"{file}: {len(rows):,} verdicts, their pictures in {file.with_suffix('.png')}; write keep or remove into the "
        f"column 'decision', then: ram-engine verdicts import {file}",
    )


@app.command("import")
def import_sheet(
    file: Annotated[Path, typer.Argument(help="The edited CSV.")], store: StoreOption = DEFAULT_STORE
) -> None:
    """Take a person's decisions over; they win over the engine in every later run."""
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    decided = verdict_sheet.read(file.read_bytes().decode("utf-8-sig"))
    if not decided:
        console.print("no line has a decision: write keep or remove into that column")
        return
    counted = verdict_sheet.import_decisions(Store(store, create=False), decided)
    summary = ", ".join(f"{count:,} {what}" for what, count in counted.items() if count) or "nothing changed"
    console.print(f"{len(decided):,} decisions: {summary}. The next run judges with them.")
