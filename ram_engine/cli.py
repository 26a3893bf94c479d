"""The console command `ram-engine`."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.table import Table

from flows.terminal import Terminal
from ram_engine import (
    ablate_command,
    deploy_command,
    evaluate_command,
    export_command,
    labels_cli,
    model_commands,
    runs,
    server_command,
    tag_commands,
    verdicts_cli,
    why_command,
)
from ram_engine.configuration import as_sets, kinds_in_words
from ram_engine.options import StoreOption, default_store
from ram_engine.store_settings import settle
from storage import full_disk, garbage, leases
from storage.addresses import without_credentials
from storage.json_text import to_json
from storage.names import SnapshotName
from storage.store import Store, StoreError
from tasks.annotators.room import ANNOTATORS
from tasks.caption_judges.room import CAPTION_JUDGES
from tasks.exports.room import EXPORTS
from tasks.machine import planning, refreshing
from tasks.machine.allocator import keep_memory
from tasks.machine.dag import left_out_stages, stage_named
from tasks.machine.outlook import Request, cost, outlook
from tasks.machine.planning import PlanError, StageFailedError
from tasks.machine.stage_run import Again, StageRun
from tasks.proposers.room import PROPOSERS
from tasks.settings.rooms import Room
from tasks.sources.item import SourceError
from tasks.sources.room import SOURCES

DEFAULT_STORE = default_store()
ROOMS: tuple[Room[Any], ...] = (SOURCES, ANNOTATORS, PROPOSERS, CAPTION_JUDGES, EXPORTS)

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
app.command()(evaluate_command.evaluate)
app.command()(ablate_command.ablate)
app.command()(deploy_command.deploy)
app.add_typer(labels_cli.app, name="labels")
app.add_typer(verdicts_cli.app, name="verdicts")
app.command()(why_command.why)
app.add_typer(server_command.app, name="server")
console = Terminal(width=None if sys.stdout.isatty() else 200)  # pipes get whole rows

PresetOption = Annotated[
    str,
    typer.Option(
        "--preset",
        help="auto, sample, tiny, or a YAML file. By default what the store's settings.yaml has; else auto where there "
        "are pictures of your own, and the sample where there are none.",
    ),
]
SourceOption = Annotated[
    list[str],
    typer.Option(
        "--source",
        help=f"Where images and captions come from, as KIND:PATH; repeat to mix. {kinds_in_words(SOURCES)}",
    ),
]
AnnotatorOption = Annotated[
    str,
    typer.Option("--annotator", help="Who annotates: KIND[:VALUE], as in pretrained:models/ram; by default trained."),
]
ProposerOption = Annotated[
    str,
    typer.Option(
        "--proposer",
        help="Who finds regions: KIND[:VALUE], as in grounding_dino:FILE; by default the annotator's cross_attention.",
    ),
]
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        help="A setting, as in judge.outlier_share=0.2; repeatable. effort=quick, normal, thorough: the dial of auto.",
    ),
]
UntilOption = Annotated[str, typer.Option("--until", help="The last stage to run.")]
ForceOption = Annotated[str, typer.Option("--force", help="A stage to compute again although it is done.")]
RefitOption = Annotated[bool, typer.Option("--refit", help="Fit labels, baseline and clusters anew.")]
StartOption = Annotated[str, typer.Option("--start", help="The first stage to look at; those before it stay.")]
RetryOption = Annotated[bool, typer.Option("--retry-rejected", help="Try rows again that were set apart as unfit.")]


@app.command()
def run(
    store: StoreOption = DEFAULT_STORE,
    preset: PresetOption = "",
    source: SourceOption = [],  # noqa: B006
    annotator: AnnotatorOption = "",
    proposer: ProposerOption = "",
    sets: SetOption = [],  # noqa: B006 - typer reads the default and never changes it
    start: StartOption = "",
    until: UntilOption = "",
    force: ForceOption = "",
    retry_rejected: RetryOption = False,
    refit: RefitOption = False,
) -> None:
    """Run the pipeline: whatever is not up to date, from ingest to the report."""
    sets = [*as_sets(annotator, proposer), *sets]
    settings, executor = settle(store, preset, source, sets, _tell, keep=True)
    request = Request(settings.rounds, start, until, force, retry_rejected, refit)
    runs.run(store, settings, executor, request, console.print)
    opened = Store(store)
    for line in runs.verdict_lines(opened):
        console.print(line)
    console.print(str(Path(opened.root) / "report.html") if opened.is_local else f"{opened.url}/report.html")


@app.command()
def plan(
    store: StoreOption = DEFAULT_STORE,
    preset: PresetOption = "",
    source: SourceOption = [],  # noqa: B006
    annotator: AnnotatorOption = "",
    proposer: ProposerOption = "",
    sets: SetOption = [],  # noqa: B006
    start: StartOption = "",
    until: UntilOption = "",
    force: ForceOption = "",
    retry_rejected: RetryOption = False,
    refit: RefitOption = False,
) -> None:
    """Show what a run would compute, with minutes and disk, before it starts, and what is unfit of its source."""
    settings, _ = settle(store, preset, source, [*as_sets(annotator, proposer), *sets], _tell)
    request = Request(settings.rounds, start, until, force, retry_rejected, refit)
    opened = Store(store, create=None)
    planned = outlook(opened, settings, request)
    table = Table("stage", "state", "shards", "rows", "seconds", "MB", "", box=None, header_style="bold")
    for one in planned:
        figures = (
            ("", "", "", "")
            if one.state in ("done", "kept")
            else (str(one.shards or ""), f"{one.rows:,}", f"{one.seconds:,.0f}", f"{one.bytes / 1e6:,.1f}")
        )
        table.add_row(one.stage.name, one.state, *figures, one.note)
    console.print(table)
    seconds, stored = cost(planned)
    free = f" of the {opened.free_bytes / 1e9:,.1f} GB that are free" if opened.is_local else ""
    console.print(f"about {seconds / 60:.1f} minutes, and {stored / 1e9:.2f} GB{free}")


@app.command()
def stage(
    name: Annotated[str, typer.Argument(help="The stage, as `plan` lists it.")],
    store: StoreOption = DEFAULT_STORE,
    preset: PresetOption = "",
    source: SourceOption = [],  # noqa: B006
    sets: SetOption = [],  # noqa: B006
    force: Annotated[bool, typer.Option("--force", help="Compute it although it is done.")] = False,
    retry_rejected: RetryOption = False,
    refit: RefitOption = False,
    inputs: Annotated[
        list[str], typer.Option("--input", help="A snapshot to read in place of the latest, as in regions@3f2a.")
    ] = [],  # noqa: B006
    warm_start: Annotated[bool, typer.Option("--warm-start", help="A training goes on from the latest model.")] = False,
    candidate: Annotated[
        bool, typer.Option("--candidate", help="What is made becomes the latest only by `ram-engine promote`.")
    ] = False,
) -> None:
    """Run one stage on the latest snapshots of its inputs, or on others."""
    settings, executor = settle(store, preset, source, sets, _tell, keep=True)
    chosen = stage_named(name, settings.rounds)
    opened = Store(store)

    def one_stage() -> None:
        from flows.pipeline import run_flow

        again = Again(force, refit, retry_rejected, tuple(inputs), warm_start)
        run_flow(StageRun(opened, chosen, chosen.settings_of(settings), executor, again, candidate))

    runs.with_server(opened, one_stage)


@app.command()
def refresh(
    store: StoreOption = DEFAULT_STORE,
    retrain_share: Annotated[
        float, typer.Option(min=0, max=1, help="The share of images that are new from which a model is trained.")
    ] = 0.05,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="How much lower the new model's mAP may be for it to take over.")
    ] = 0.005,
) -> None:
    """Bring a store up to date with its source, as it was made; a new model takes over only if it is good enough."""
    opened = Store(store, create=False)

    def compute() -> None:
        from flows.refresh import refresh as flow

        flow(opened.url, retrain_share, tolerance)

    runs.with_server(opened, compute)


@app.command()
def join(store: StoreOption = DEFAULT_STORE) -> None:
    """Lend this machine to trainings of runs with executor.training_nodes above 1, until Ctrl-C stops it."""
    from tasks.machine import training_process

    opened = Store(store, create=False)
    joined: set[str] = set()
    console.print(f"waiting for trainings of {opened.url}")
    while True:
        training_process.join(opened, joined, console.print)
        time.sleep(1)


@app.command()
def status(store: StoreOption = DEFAULT_STORE) -> None:
    """Show what is in the store, when it was made, what is stale, and what stays although its inputs changed."""
    opened = Store(store, create=False)
    table = Table("artifact", "rows", "MB", "parts", "made by", "made", "", box=None, header_style="bold")
    latest = {name: one for name in opened.artifacts() if (one := opened.snapshot(name)) is not None}
    standing = planning.standing(latest)
    for artifact, snapshot in latest.items():
        notes = [standing[artifact]] if artifact in standing else []
        waiting = [one for one in opened.snapshots(artifact) if one.held_back and one.created > snapshot.created]
        notes += [f"{one.name} is held back: {one.held_back}" for one in waiting[:1]]
        rows, parts = ("model", "") if snapshot.model else (f"{snapshot.rows:,}", str(len(snapshot.parts)))
        table.add_row(
            artifact,
            rows,
            f"{snapshot.bytes / 1e6:,.1f}",
            parts,
            snapshot.stage,
            _time(snapshot.created),
            "; ".join(notes),
        )
    console.print(table)


@app.command()
def show(
    artifact: str,
    store: StoreOption = DEFAULT_STORE,
    rows: Annotated[int, typer.Option(help="Rows to print.")] = 5,
    versions: Annotated[bool, typer.Option("--versions", help="List its snapshots instead, the newest first.")] = False,
) -> None:
    """Show an artifact: schema, lineage and its first rows; or its versions."""
    opened = Store(store, create=False)
    snapshot = opened.snapshot(artifact)
    if snapshot is None:
        raise StoreError(
            f"there is no artifact '{artifact}' in {opened.url}; there are: {', '.join(opened.artifacts())}"
        )
    if versions:
        for one in opened.snapshots(artifact):
            told = "the latest" if one.key == snapshot.key else one.held_back
            console.print(f"{one.name}  {_time(one.created)}  {one.rows:,} rows  {told}")
        return
    console.print(f"{artifact} {snapshot.key}, made by {snapshot.stage} at {_time(snapshot.created)}")
    for alias, pinned in snapshot.inputs.items():
        console.print(f"  from {alias}: {pinned}")
    console.print(to_json(snapshot.settings, indent=1, ensure_ascii=True))
    if snapshot.model:
        console.print(f"model folder: {opened.model_folder(snapshot)}")
        return
    first = next((table for table in opened.tables(snapshot) if table.num_rows), None)
    if first is None:
        console.print("no rows")
        return
    console.print(first.schema.to_string())
    for row in first.slice(0, rows).to_pylist():
        console.print(to_json(row, default=_shorten, ensure_ascii=True)[:1000])


@app.command()
def promote(
    snapshot: Annotated[str, typer.Argument(help="A candidate, as in ram@3f2a; `status` names it.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Make a model that was held back the latest, with its log."""
    opened = Store(store, create=False)
    candidate = planning.snapshot_named(opened, SnapshotName.parse(snapshot))
    same_key = [opened.snapshot(artifact, candidate.key) for artifact in opened.artifacts()]
    together = [other for other in same_key if other is not None and other.stage == candidate.stage]
    refreshing.promote(opened, together or [candidate])
    console.print(f"{candidate.name} is the latest now")


@app.command()
def report(store: StoreOption = DEFAULT_STORE) -> None:
    """Write report.html again from what the store holds."""
    from tasks.machine.rounds import rounds_of
    from tasks.report.write import write_report

    opened = Store(store, create=False)
    console.print(f"{opened.url.rstrip('/')}/{write_report(opened, rounds_of(opened))}")


@app.command()
def gc(
    store: StoreOption = DEFAULT_STORE,
    keep: Annotated[int, typer.Option(min=1, help="Snapshots of each artifact to keep.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
) -> None:
    """Remove what neither a recent snapshot nor a run under way needs."""
    opened = Store(store, create=False)
    with leases.collecting(opened) as collection:
        found = garbage.find(opened, keep, collection.others)
        for lease in collection.others:
            console.print(f"spared: what a running {lease.who} counts on")
        if dry_run:
            for one in found:
                console.print(f"{one.what:15} {one.bytes / 1e6:10,.2f} MB  {one.path}")
        else:
            garbage.remove(opened, found, collection.check)
    total = sum(one.bytes for one in found) / 1e6
    console.print(f"{len(found):,} files, {total:,.1f} MB {'would be' if dry_run else ''} removed".replace("  ", " "))


@app.command()
def ui(
    store: StoreOption = DEFAULT_STORE,
    preset: PresetOption = "",
    port: Annotated[int, typer.Option(help="Where the UI answers.")] = 4200,
) -> None:
    """Serve Prefect's own UI over the store's history, each stage with its Run button; Ctrl-C stops it."""
    settings, executor = settle(store, preset, [], [], _tell)
    runs.serve_ui(Store(store), settings, executor, port, print)


def _tell(line: str) -> None:
    console.print(line)


def _time(seconds: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def _shorten(value: object) -> str:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)


def main() -> None:
    """The console command; errors for people are one line and exit code 1."""
    keep_memory()
    logging.raiseExceptions = False  # a line of a log that Prefect's server does not take is no news for a person
    left_out = [*left_out_stages().values(), *(sentence for room in ROOMS for sentence in room.left_out.values())]
    for sentence in left_out:
        Terminal(stderr=True).print(f"ram-engine: {sentence}", style="yellow")
    try:
        app()
    except Exception as error:
        if os.environ.get("RAM_ENGINE_TRACEBACK") or not (sentence := _in_a_sentence(error)):
            raise
        _fail(sentence)


def _in_a_sentence(error: Exception) -> str:
    """What a person is told of an error; "" for a mistake of the program, which its traceback tells best."""
    full = full_disk.of(error)
    if isinstance(error, sqlite3.Error):
        folder = os.environ.get("TMPDIR") or "/var/tmp"  # SQLite's, which need not be Python's
        what = "the disk is full" if full else str(error)
        return f"{what}: a source is listed in a file in {folder}; name a folder with more room in TMPDIR"
    if full and not isinstance(error, StageFailedError):  # which tells more
        return str(full)
    known = isinstance(error, (PlanError, SourceError, StageFailedError, StoreError, ValueError, OSError))
    return str(error) if known else ""


def _fail(message: str) -> NoReturn:
    """Tells a person what is wrong, and ends."""
    console.print(f"ram-engine: {without_credentials(message)}", style="red")
    sys.exit(1)
