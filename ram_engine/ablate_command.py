"""`ram-engine ablate`: what each stage's labels are worth to the tagger, on a store's own data, with several seeds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from flows.terminal import Terminal
from ram_engine.options import StoreOption, default_store
from ram_engine.store_settings import settle
from storage.json_text import to_json
from storage.printable import printable
from storage.store import Store
from tasks.evaluation.outcome import KEPT, all_captions, chart, compared, with_interval
from tasks.evaluation.request import AblationRequest, Variation

console = Terminal(width=None if sys.stdout.isatty() else 200)  # pipes get whole rows
OPERATING = ("CF1", "OF1")
LABELS = ("tags_an_image", "precision", "recall")


def ablate(
    to: Annotated[Path, typer.Option("--to", help="The folder for table, chart and JSON.")] = Path("ablation"),
    store: StoreOption = default_store(),
    preset: Annotated[
        str,
        typer.Option("--preset", help="Whose trainer: all rows have its retrain settings. By default the store's."),
    ] = "",
    sets: Annotated[list[str], typer.Option("--set", help="A setting of it, as in retrain.epochs=4.")] = [],  # noqa: B006
    captions: Annotated[
        str,
        typer.Option(
            help="csv:FILE or coco:FILE with all captions of the images: the ceiling's labels, and the test's."
        ),
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each row.")] = 3,
    vary: Annotated[
        list[str],
        typer.Option(
            help="tags=100,300 or images=1500,3000, size=240 (an annotator's further encoder, as the tagger's), or a "
            "setting, as in retrain.architecture=ram,tag2text."
        ),
    ] = [],  # noqa: B006
    fine_tune: Annotated[
        int, typer.Option(help="Fine-tune rows on so many images with the ceiling's labels; 0: no.")
    ] = 0,
    samples: Annotated[int, typer.Option(min=20, help="Bootstrap samples, for the intervals.")] = 500,
) -> None:
    """Train one trainer on each stage's labels, and compare. The store must have been run up to `judge`."""
    from tasks.report.write import write_report

    opened = Store(store, create=False)
    told = all_captions(captions) if captions else None
    found: dict[str, Any] = {}
    for number, (name, changes) in enumerate(_variations(vary)):
        changed = [*sets, *(each for each in changes if "." in each)]
        settings, executor = settle(store, preset, [], changed, tell if number == 0 else lambda line: None)
        variation = Variation(fine_tune=fine_tune, **_narrow(changes))
        request = AblationRequest(settings, seeds, variation, told, samples)
        found[name] = compared(name, opened, request, executor, to, progress)
        show(name, found[name])
        to.mkdir(parents=True, exist_ok=True)
        (to / "ablation.json").write_text(to_json(found, indent=1), encoding="utf-8")
        (to / "ablation.svg").write_text(chart(found), encoding="utf-8")
    if not vary:  # the report shows what the data at hand gave, no experiment
        opened.write_json(f"{KEPT}.json", found)
        write_report(opened, settings.rounds)
    console.print(f"{to / 'ablation.json'}, {to / 'ablation.svg'}")


def tell(line: str) -> None:
    console.print(line)


def _variations(vary: list[str]) -> list[tuple[str, list[str]]]:
    """("", []) first, then a name and its changes for each value of each thing that is varied, one at a time."""
    found: list[tuple[str, list[str]]] = [("all", [])]
    for each in vary:
        name, _, values = each.partition("=")
        if not values or not (name in ("tags", "images", "size") or name.startswith("retrain.")):
            raise ValueError(
                f"--vary {each}: say tags=..., images=..., size=... or retrain.SETTING=..., with values after commas"
            )
        found += [(f"{name}={value}", [f"{name}={value}"]) for value in values.split(",")]
    return found[1:] if vary else found


def _narrow(changes: list[str]) -> dict[str, int]:
    return {name: int(value) for name, _, value in (each.partition("=") for each in changes) if "." not in name}


def progress(done: int, total: int, what: str) -> None:
    if sys.stderr.isatty():
        print(
            f"\r{done / max(total, 1):4.0%} {printable(what)[:80]:80}",
            end="" if done < total else "\n",
            file=sys.stderr,
        )


def show(name: str, found: dict[str, Any]) -> None:
    title = (
        f"{name}: {found['tags']} tags, {found['images']} images, {found['seeds']} seeds, measured against "
        f"{found['against']}"
    )
    columns = (
        "mAP",
        "spread",
        "more than parsed",
        "gap closed",
        *OPERATING,
        *(key.replace("_", " ") for key in LABELS),
    )
    table = Table(title, *columns, box=None, header_style="bold")
    for row, each in found["rows"].items():
        table.add_row(
            row.replace("_", " "),
            f"{each['mAP']:.4f}",
            "" if each["spread"] is None else f"{each['spread']:.4f}",
            with_interval(each.get("more"), "+.4f"),
            with_interval(each.get("gap_closed"), ".0%"),
            *(f"{each['operating'][metric]:.3f}" for metric in OPERATING),
            *(f"{each['labels'][key]:.2f}" if key in each["labels"] else "" for key in LABELS),
        )
    console.print(table)
