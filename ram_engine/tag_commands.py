"""`ram-engine tag` and `ram-engine caption`: a model on pictures from the command line."""

from __future__ import annotations

import glob
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flows.terminal import Terminal
from ram_engine.options import StoreOption, default_store
from storage.json_text import to_json
from storage.printable import on_one_line

if TYPE_CHECKING:
    from ram_engine.tagger import Tagger

console = Terminal()
notes = Terminal(stderr=True)
SECONDS = 20  # between two lines of progress where no bar can be drawn
PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}

Images = Annotated[list[str], typer.Argument(help="Files, folders or globs.")]
ModelOption = Annotated[
    str, typer.Option("--model", help="A model folder or hub:OWNER/NAME; default: the store's best.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def tag(
    images: Images,
    labels: Annotated[str, typer.Option(help='Any labels, as in "forklift, pallet".')] = "",
    threshold: Annotated[float | None, typer.Option(help="Show scores from here on.")] = None,
    model: ModelOption = "",
    store: StoreOption = default_store(),
    as_json: JsonOption = False,
    explain: Annotated[
        Path | None, typer.Option(help="A folder for a drawing of each picture: where each tag was seen.")
    ] = None,
) -> None:
    """Tag pictures; before anything is trained the zero-shot teacher answers."""
    tagger = _tagger(model, store)
    wanted = [label.strip() for label in labels.split(",") if label.strip()] or None
    _say_stand_ins(tagger, wanted or [])

    def show(path: Path) -> None:
        tags = tagger([path], wanted, threshold)[0]
        if as_json:
            console.print(to_json({"image": str(path), "tags": [asdict(one) for one in tags]}, ensure_ascii=True))
        else:
            listed = ", ".join(f"{one.name} {one.score:.2f}" for one in tags) or "no tag reaches its threshold"
            console.print(on_one_line(f"{path}: {listed}"))
        if explain is not None and tags:
            explain.mkdir(parents=True, exist_ok=True)
            drawing = explain / f"{path.stem}.png"
            drawn, untold = tagger.explain(path, tags)
            drawn.save(drawing)
            but = f"; it cannot tell where it saw {', '.join(untold)}" if untold else ""
            notes.print(f"  drawn in {drawing}{but}")

    _each(images, show)


def caption(
    images: Images, model: ModelOption = "", store: StoreOption = default_store(), as_json: JsonOption = False
) -> None:
    """Write a caption for each picture, by the baseline's captioner."""
    tagger = _tagger(model, store, captioner=True)

    def show(path: Path) -> None:
        text = tagger.captions([path])[0]
        as_line = to_json({"image": str(path), "caption": text}, ensure_ascii=True)
        console.print(as_line if as_json else on_one_line(f"{path}: {text}"))

    _each(images, show)


def _tagger(model: str, store: str, captioner: bool = False) -> Tagger:
    from ram_engine.tagger import Tagger

    if model:
        tagger = Tagger.from_pretrained(model)
    elif captioner:
        tagger = Tagger.baseline_of(store)
    else:
        from ram_engine.offer import zero_shot

        trained = _has_model(store)
        tagger = Tagger.from_store(store) if trained else zero_shot(lambda line: notes.print(line))
    notes.print(f"answers from the {tagger.name}")
    return tagger


def _has_model(url: str) -> bool:
    from ram_engine.runs import latest_model
    from storage.store import Store

    return latest_model(Store(url, create=None)) is not None


def _say_stand_ins(tagger: Tagger, labels: Sequence[str]) -> None:
    """For labels that the zero-shot teacher has no classes of, the words that it judges them by."""
    for label in labels:
        if words := tagger.answerer.stand_ins(label):
            judged = f"its score is that of {', '.join(words)}, the words most like it, and means little"
            notes.print(f"no class is called {label}; {judged}")


def _each(images: Sequence[str], show: Callable[[Path], None]) -> None:
    """Calls ``show`` for every picture; reports those that cannot be read and then exits with code 1."""
    from tasks.images.decoding import ImageError

    paths = [path for name in images for path in _expand(name)]
    failed = 0
    for path in _told(paths):
        try:
            show(path)
        except (ImageError, OSError) as error:
            failed += 1
            reason = error.detail if isinstance(error, ImageError) else error.strerror or error
            notes.print(on_one_line(f"{path}: skipped: {reason}"), style="red")
    if not paths:
        notes.print("no picture found", style="red")
    if failed or not paths:
        raise typer.Exit(1)


def _told(paths: Sequence[Path]) -> Iterator[Path]:
    """The paths, with a bar on a terminal, else with a line now and then."""
    if notes.is_terminal and len(paths) > 1:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=notes, transient=True, redirect_stdout=console.is_terminal) as bar:
            yield from bar.track(paths, description="pictures")
        return
    last = time.monotonic()
    for number, path in enumerate(paths):
        if time.monotonic() - last >= SECONDS:
            last = time.monotonic()
            notes.print(f"{number:,} of {len(paths):,} pictures")
        yield path


def _expand(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        return sorted(one for one in path.rglob("*") if one.suffix.lower() in PICTURES)
    if any(character in name for character in "*?[") and not path.exists():
        return sorted(Path(one) for one in glob.glob(name, recursive=True))
    return [path]
