"""The console command `ram-engine`."""

from __future__ import annotations

import atexit
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ram_engine import (
    configuration,
    export_command,
    labels_cli,
    model_commands,
    runs,
    tag_commands,
    verdicts_cli,
    why_command,
)
from ram_engine.options import StoreOption, default_store
from storage import garbage
from storage.sources import SourceError
from storage.store import Store, StoreError
from tasks.memory import keep_memory
from tasks.planning import PlanError, StageFailedError
from tasks.settings import EngineSettings, IngestSettings, MixedSource, PipelineSettings
from tasks.stages import stage_named

DEFAULT_STORE = default_store()

app = typer.Typer(
    help="The Recognize-Anything data engine: captions become tags, tags become a tagger.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(tag_commands.tag)
app.command()(tag_commands.caption)
app.command()(model_commands.import_checkpoint)
app.command()(export_command.export)
app.add_typer(labels_cli.app, name="labels")
app.add_typer(verdicts_cli.app, name="verdicts")
app.command()(why_command.why)
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)  # pipes get whole rows

PresetOption = Annotated[str, typer.Option("--preset", help="sample, tiny or laptop.")]
SourceOption = Annotated[
    list[str],
    typer.Option(
        "--source",
        help="csv:FILE, coco:FILE, img2dataset:DIR, huggingface:DIR, datasets:NAME, official:FILE; repeat to mix.",
    ),
]
SetOption = Annotated[list[str], typer.Option("--set", help="A setting, as in clean.outlier_share=0.2; repeatable.")]
UntilOption = Annotated[str, typer.Option("--until", help="The last stage to run.")]
ForceOption = Annotated[str, typer.Option("--force", help="A stage to compute again although it is done.")]
RefitOption = Annotated[bool, typer.Option("--refit", help="Fit labels, baseline and clusters anew.")]


@app.command()
def run(
    store: StoreOption = DEFAULT_STORE,
    preset: PresetOption = "sample",
    source: SourceOption = [],  # noqa: B006
    sets: SetOption = [],  # noqa: B006 - typer reads the default and never changes it
    until: UntilOption = "",
    force: ForceOption = "",
    refit: RefitOption = False,
) -> None:
    """Run the pipeline: whatever is not up to date, from ingest to the report."""
    settings, engine = _configured(store, preset, source, sets)
    for name in filter(None, (until, force)):
        stage_named(name, settings.rounds)
    runs.run(store, settings, engine, until, force, refit, console.print)
    console.print(f"{Path(store) / 'report.html' if '://' not in store else store + '/report.html'}")


@app.command()
def plan(
    store: StoreOption = DEFAULT_STORE,
    preset: PresetOption = "sample",
    source: SourceOption = [],  # noqa: B006
    sets: SetOption = [],  # noqa: B006
    until: UntilOption = "",
    force: ForceOption = "",
    refit: RefitOption = False,
) -> None:
    """Show what a run would compute, with minutes, before it starts."""
    settings, _ = _configured(store, preset, source, sets)
    planned = runs.outlook(Store(store), settings, until, force, refit)
    table = Table("stage", "state", "shards", "rows", "seconds", "", box=None, header_style="bold")
    for one in planned:
        figures = (
            ("", "", "")
            if one.state in ("done", "kept")
            else (str(one.shards or ""), f"{one.rows:,}", f"{one.seconds:,.0f}")
        )
        table.add_row(one.stage.name, one.state, *figures, one.note)
    console.print(table)
    console.print(f"about {sum(one.seconds for one in planned) / 60:.1f} minutes on two cores")


@app.command()
def stage(
    name: Annotated[str, typer.Argument(help="The stage, as `plan` lists it.")],
    store: StoreOption = DEFAULT_STORE,
    preset: PresetOption = "sample",
    source: SourceOption = [],  # noqa: B006
    sets: SetOption = [],  # noqa: B006
    force: Annotated[bool, typer.Option("--force", help="Compute it although it is done.")] = False,
    refit: RefitOption = False,
) -> None:
    """Run one stage on the latest snapshots of its inputs."""
    settings, engine = _configured(store, preset, source, sets)
    chosen = stage_named(name, settings.rounds)
    opened = Store(store)

    def one_stage() -> None:
        from flows.pipeline import run_one

        run_one(opened, chosen, settings, engine, force, refit)

    runs.with_server(opened, one_stage)


@app.command()
def status(store: StoreOption = DEFAULT_STORE) -> None:
    """Show what is in the store, when it was made, and what is stale."""
    opened = Store(store, create=False)
    table = Table("artifact", "rows", "MB", "parts", "made by", "made", "", box=None, header_style="bold")
    for artifact in opened.artifacts():
        snapshot = opened.snapshot(artifact)
        if snapshot is None:
            continue
        stale = [
            alias
            for alias, pinned in snapshot.inputs.items()
            if pinned.split("@")[0] != artifact  # an earlier version of itself
            and (newest := opened.snapshot(pinned.split("@")[0])) is not None
            and newest.key != pinned.split("@")[1]
        ]
        rows, parts = ("model", "") if snapshot.model else (f"{snapshot.rows:,}", str(len(snapshot.parts)))
        table.add_row(
            artifact,
            rows,
            f"{snapshot.bytes / 1e6:,.1f}",
            parts,
            snapshot.stage,
            _time(snapshot.created),
            f"stale: {', '.join(stale)} changed" if stale else "",
        )
    console.print(table)


@app.command()
def show(
    artifact: str,
    store: StoreOption = DEFAULT_STORE,
    rows: Annotated[int, typer.Option(help="Rows to print.")] = 5,
) -> None:
    """Show an artifact: schema, lineage and its first rows."""
    opened = Store(store, create=False)
    snapshot = opened.snapshot(artifact)
    if snapshot is None:
        raise StoreError(f"there is no artifact '{artifact}' in {store}; there are: {', '.join(opened.artifacts())}")
    console.print(f"{artifact} {snapshot.key}, made by {snapshot.stage} at {_time(snapshot.created)}")
    for alias, pinned in snapshot.inputs.items():
        console.print(f"  from {alias}: {pinned}")
    console.print(json.dumps(snapshot.settings, indent=1), markup=False)
    if snapshot.model:
        console.print(f"model folder: {opened.model_folder(snapshot)}")
        return
    first = next((table for table in opened.tables(snapshot) if table.num_rows), None)
    if first is None:
        console.print("no rows")
        return
    console.print(first.schema.to_string(), markup=False)
    for row in first.slice(0, rows).to_pylist():
        console.print(json.dumps(row, default=_shorten)[:1000], markup=False)


@app.command()
def report(store: StoreOption = DEFAULT_STORE) -> None:
    """Write report.html again from what the store holds."""
    from tasks.report.write import write_report

    opened = Store(store, create=False)
    rounds = max(
        (int(name.partition("-")[2] or 1) for name in opened.artifacts() if name.split("-")[0] == "tag_verdicts"),
        default=1,
    )
    console.print(f"{store.rstrip('/')}/{write_report(opened, rounds)}")


@app.command()
def gc(
    store: StoreOption = DEFAULT_STORE,
    keep: Annotated[int, typer.Option(min=1, help="Snapshots of each artifact to keep.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
) -> None:
    """Remove what no recent snapshot needs; refused while a run is working on the store."""
    opened = Store(store, create=False)
    with runs.alone(opened):
        found = garbage.find(opened, keep)
        if dry_run:
            for one in found:
                console.print(f"{one.what:15} {one.bytes / 1e6:10,.2f} MB  {one.path}", markup=False)
        else:
            garbage.remove(opened, found)
    total = sum(one.bytes for one in found) / 1e6
    console.print(f"{len(found):,} files, {total:,.1f} MB {'would be' if dry_run else ''} removed".replace("  ", " "))


@app.command()
def ui(
    store: StoreOption = DEFAULT_STORE,
    preset: PresetOption = "sample",
    port: Annotated[int, typer.Option(help="Where the UI answers.")] = 4200,
) -> None:
    """Serve Prefect's own UI over the store's history, each stage with its Run button; Ctrl-C stops it."""
    settings, engine = configuration.configure(preset)
    runs.serve_ui(Store(store), settings, engine, port, console.print)


def _configured(store: str, preset: str, source: list[str], sets: list[str]) -> tuple[PipelineSettings, EngineSettings]:
    """The settings; a store of one's own data goes on with its source where none is named, not with the sample."""
    settings, engine = configuration.configure(preset, source, sets)
    named = source or any(one.startswith("ingest.source") for one in sets)
    pairs = Store(store).snapshot("pairs")
    if named or pairs is None or settings.ingest.source.kind != "sample" or not pairs.settings:
        return settings, engine
    last = IngestSettings(source=pairs.settings["source"]).source
    if last.kind == "sample":
        return settings, engine
    parts = last.parts if isinstance(last, MixedSource) else (last,)
    called = " and ".join("sample" if one.kind == "sample" else f"{one.kind}:{one.path}" for one in parts)
    console.print(f"the source is the one that the store was made from: {called}", markup=False)
    return settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"source": last})}), engine


def _time(seconds: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def _shorten(value: object) -> str:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)


def say_no_more() -> None:
    """Extension modules list what Prefect's threads kept of them when all is said: that is no one's concern."""
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def main() -> None:
    """The console command; errors for people are one line and exit code 1."""
    atexit.register(say_no_more)  # registered first, called last
    keep_memory()
    if os.environ.get("RAM_ENGINE_EXIT_WITH_PARENT"):
        from tasks.engines import exit_with

        exit_with(os.getppid())
    try:
        app()
    except (PlanError, SourceError, StageFailedError, StoreError, ValueError) as error:
        if os.environ.get("RAM_ENGINE_TRACEBACK"):
            raise
        console.print(f"ram-engine: {error}", style="red", markup=False)
        sys.exit(1)
