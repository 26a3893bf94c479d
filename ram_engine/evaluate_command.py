"""`ram-engine evaluate`: any tagger on any evaluation set."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from flows.terminal import Terminal
from ram_engine.options import StoreOption, default_store
from storage.json_text import to_json
from storage.store import Store

if TYPE_CHECKING:
    from tasks.evaluation.scores import Scores
    from tasks.labels.tags import Tag

console = Terminal(width=None if sys.stdout.isatty() else 240)  # pipes get whole rows
notes = Terminal(stderr=True)
OVERALL = ("CP", "CR", "CF1", "OP", "OR", "OF1")


def evaluate(
    data: Annotated[
        str, typer.Option("--data", help="ram:FILE, coco:FILE or csv:FILE; empty: measure again what is in --scores.")
    ] = "",
    images: Annotated[
        str, typer.Option(help="The folder of images; empty: 'images' beside the file, or its own.")
    ] = "",
    tags: Annotated[str, typer.Option(help="The list of labels, one a line: the authors' lists need it.")] = "",
    models: Annotated[
        list[str],
        typer.Option(
            "--model",
            help="A model folder or hub:OWNER/NAME, store, conse, open_clip:MODEL[:PRETRAINED] or "
            "detector:GRAPH,CLASSES; repeatable: a row each.",
        ),
    ] = ["store"],  # noqa: B006 - typer reads the default and never changes it
    scores: Annotated[Path, typer.Option(help="The folder that keeps the scores.")] = Path("scores"),
    threshold: Annotated[float | None, typer.Option(help="For all labels; default: each model's own.")] = None,
    samples: Annotated[int, typer.Option(min=10, help="Bootstrap samples of the images, for the intervals.")] = 1000,
    store: StoreOption = default_store(),
    as_json: Annotated[bool, typer.Option("--json", help="All figures, each tag's too, as one JSON object.")] = False,
) -> None:
    """Measure taggers on an evaluation set, with confidence intervals; scores are kept, so that thresholds can move."""
    import numpy as np

    from tasks.evaluation.scores import Scores, difference, measure, per_tag

    found = (
        _scored(data, images, tags, models, scores, store) if data else [Scores.load(file) for file in _stored(scores)]
    )
    for one in found:
        _say_what_is_counted(one)
    limits = None if threshold is None else np.full(len(found[0].labels), threshold)
    figures = {one.model: measure(one, limits, samples) for one in found}
    differences = {one.model: difference(one, found[0], samples) for one in found[1:]}
    if as_json:
        listed: dict[str, Any] = {
            name: {"figures": each, "tags": per_tag(one)}
            for (name, each), one in zip(figures.items(), found, strict=True)
        }
        for name, values in differences.items():
            listed[name]["less_the_first"] = values
        console.print(to_json(listed, ensure_ascii=True))
        return
    if found[0].against:
        console.print(f"measured against {found[0].against}")
    _print(figures, differences)


def _scored(data: str, images: str, tags: str, models: list[str], folder: Path, store: str) -> list[Scores]:
    from ram_engine.scorers import evaluate as scores_of
    from ram_engine.scorers import scorer
    from tasks.evaluation.sets import read

    kind, _, path = data.partition(":")
    asked = read(kind, Path(path), images, _vocabulary(store), tags)
    for reason, count in asked.left_out.items():
        notes.print(f"left out: {count:,} x {reason}")
    found = []
    for model in models:
        one = scorer(model, asked.labels, store)
        with Progress(console=notes, transient=True) as bar:
            step = partial(_step, bar, bar.add_task(one.name, total=len(asked.images)))
            result = scores_of(one, asked, step)
        result.save(folder / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', model).strip('-')}.safetensors")
        found.append(result)
    return found


def _step(bar: Progress, task: TaskID, done: int, total: int) -> None:
    bar.update(task, completed=done)


def _vocabulary(store: str) -> list[Tag]:
    """The tags of a store, which captions are searched for; none where there is no store."""
    from tasks.labels.tags import read_tags

    opened = Store(store, create=None)
    snapshot = opened.snapshot("label_system")
    return read_tags(opened.table(snapshot)) if snapshot is not None else []


def _stored(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} keeps no scores yet: name an evaluation set with --data")
    return files


def _say_what_is_counted(one: Scores) -> None:
    absent = int((~one.truth.any(axis=0)).sum())
    unanswered = int((~one.answered).sum())
    new = int((one.answered & ~one.trained).sum())
    notes.print(
        f"{one.model}: {len(one.images):,} images, {len(one.labels):,} labels; not counted: {absent:,} that no image "
        f"has, {unanswered:,} that it does not answer for; {new:,} it was never trained on",
    )


def _print(figures: dict[str, Any], differences: dict[str, Any]) -> None:
    subsets = list(dict.fromkeys(name for each in figures.values() for name, rows in each.items() if "mAP" in rows))
    table = Table("mAP", *(name.replace("_", " ") for name in subsets), "less the first", box=None, header_style="bold")
    for model, each in figures.items():
        cells = [_cell(each.get(subset, {}).get("mAP")) for subset in subsets]
        table.add_row(Text(model), *cells, _cell(differences.get(model), "+.3f"))
    console.print(table)
    table = Table("at", "", *OVERALL, box=None, header_style="bold")
    for model, each in figures.items():
        for subset, name in (("all", "the thresholds"), ("best", "the best thresholds (a bound)")):
            if "OF1" in each.get(subset, {}):
                table.add_row(Text(model), name, *(_cell(each[subset][metric]) for metric in OVERALL))
    console.print(table)


def _cell(values: list[float] | None, form: str = ".3f") -> Text:
    """A figure and its interval."""
    return Text("" if values is None else f"{values[0]:{form}} [{values[1]:{form}}, {values[2]:{form}}]")
