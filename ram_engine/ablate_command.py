"""`ram-engine ablate`: what each stage's labels are worth to the tagger, on a store's own data, with several seeds."""

from __future__ import annotations

import html
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ram_engine import configuration
from ram_engine.options import StoreOption, default_store
from storage.sources import list_coco, list_csv
from storage.store import Store
from tasks.planning import gather
from tasks.settings import EngineSettings, PipelineSettings
from tasks.stages import stage_named

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)  # pipes get whole rows
OPERATING = ("CF1", "OF1")
LABELS = ("tags_an_image", "precision", "recall")


def ablate(
    to: Annotated[Path, typer.Option("--to", help="The folder for table, chart and JSON.")] = Path("ablation"),
    store: StoreOption = default_store(),
    preset: Annotated[
        str, typer.Option("--preset", help="Whose trainer: retrain's settings are those of all rows.")
    ] = "laptop",
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
        typer.Option(help="tags=100,300 or images=1500,3000 or a setting, as in retrain.architecture=ram,tag2text."),
    ] = [],  # noqa: B006
    fine_tune: Annotated[
        int, typer.Option(help="Fine-tune rows on so many images with the ceiling's labels; 0: no.")
    ] = 0,
    samples: Annotated[int, typer.Option(min=20, help="Bootstrap samples, for the intervals.")] = 500,
) -> None:
    """Train one trainer on each stage's labels, and compare. The store must have been run up to `judge`."""
    opened = Store(store, create=False)
    told = _captions(captions) if captions else None
    found: dict[str, Any] = {}
    for name, changes in _variations(vary):
        settings, engine = configuration.configure(preset, "", [*sets, *(each for each in changes if "." in each)])
        found[name] = compared(name, opened, settings, engine, to, told, seeds, _narrow(changes), fine_tune, samples)
        show(name, found[name])
        to.mkdir(parents=True, exist_ok=True)
        (to / "ablation.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        (to / "ablation.svg").write_text(chart(found), encoding="utf-8")
    console.print(f"{to / 'ablation.json'}, {to / 'ablation.svg'}", markup=False)


def compared(
    name: str,
    store: Store,
    settings: PipelineSettings,
    engine: EngineSettings,
    to: Path,
    told: dict[str, list[str]] | None,
    seeds: int,
    narrow: dict[str, int],
    fine_tune: int,
    samples: int,
) -> dict[str, Any]:
    """Figures of every row, and how many ``minutes`` the trainings took; scores are kept as ``name``."""
    from tasks.evaluation.ablation import Variation, ablate
    from tasks.evaluation.comparison import compare
    from tasks.inputs import Inputs

    started = time.monotonic()
    measured = ablate(
        Inputs(store, gather(store, stage_named("train-ablation", settings.rounds))),
        settings.retrain,
        engine,
        to / "models",
        range(seeds),
        _progress,
        told,
        Variation(fine_tune=fine_tune, **narrow),
        settings.fine_tune,
    )
    minutes = (time.monotonic() - started) / 60
    measured.save(to / f"{name}.safetensors")
    rows = compare(measured.truth, measured.scores, samples)
    for name, each in rows.items():
        each["operating"] = operating_point(measured, name)
        each["labels"] = measured.targets.get(name, {})
    return {
        "images": len(measured.truth),
        "tags": len(measured.tags.ids),
        "seeds": seeds,
        "minutes": minutes,
        "settings": settings.retrain.model_dump(mode="json"),
        "rows": rows,
    }


def operating_point(measured: Any, row: str) -> dict[str, float]:
    """Precision, recall and F1 at the models' own thresholds, means over the seeds."""
    import numpy as np

    from tasks.metrics import precision_recall

    each = [
        precision_recall(measured.truth, scores >= thresholds)
        for scores, thresholds in zip(measured.scores[row], measured.thresholds[row], strict=True)
    ]
    return {metric: float(np.mean([one[metric] for one in each])) for metric in each[0]}


def _variations(vary: list[str]) -> list[tuple[str, list[str]]]:
    """("", []) first, then a name and its changes for each value of each thing that is varied, one at a time."""
    found: list[tuple[str, list[str]]] = [("all", [])]
    for each in vary:
        name, _, values = each.partition("=")
        if not values or not (name in ("tags", "images") or name.startswith("retrain.")):
            raise ValueError(
                f"--vary {each}: say tags=..., images=... or retrain.SETTING=..., with values after commas"
            )
        found += [(f"{name}={value}", [f"{name}={value}"]) for value in values.split(",")]
    return found[1:] if vary else found


def _narrow(changes: list[str]) -> dict[str, int]:
    return {name: int(value) for name, _, value in (each.partition("=") for each in changes) if "." not in name}


def _captions(source: str) -> dict[str, list[str]]:
    """All captions of each image, by its name."""
    kind, _, path = source.partition(":")
    if kind not in ("csv", "coco"):
        raise ValueError(f"--captions {source}: say csv:FILE or coco:FILE")
    listing = list_csv if kind == "csv" else list_coco
    items = listing(path, str(Path(path).parent))
    return {item.name: list(item.captions) for item in items if item.captions}


def _progress(done: int, total: int, what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{done / max(total, 1):4.0%} {what[:80]:80}", end="" if done < total else "\n", file=sys.stderr)


def show(name: str, found: dict[str, Any]) -> None:
    title = f"{name}: {found['tags']} tags, {found['images']} images, {found['seeds']} seeds"
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
            _interval(each.get("more"), "+.4f"),
            _interval(each.get("gap_closed"), ".0%"),
            *(f"{each['operating'][metric]:.3f}" for metric in OPERATING),
            *(f"{each['labels'][key]:.2f}" if key in each["labels"] else "" for key in LABELS),
        )
    console.print(table)


def _interval(values: list[float] | None, form: str) -> str:
    return "" if values is None else f"{values[0]:{form}} ({values[1]:{form}} to {values[2]:{form}})"


def chart(found: dict[str, Any]) -> str:
    """The rows' mAP as an SVG: a dot a seed, a bar at their mean."""
    rows = [
        (f"{name}: {row}" if len(found) > 1 else row, each)
        for name, one in found.items()
        for row, each in one["rows"].items()
    ]
    values = [value for _, each in rows for value in each["seeds"]]
    low, high = min(values), max(values)
    margin = max(high - low, 1e-6) * 0.1
    low, high = low - margin, high + margin

    def x(value: float) -> float:
        return 260 + 500 * (value - low) / (high - low)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 {40 + 28 * len(rows)}" '
        'font-family="sans-serif" font-size="13">'
    ]
    for place, (name, each) in enumerate(rows):
        y = 30 + 28 * place
        lines.append(f'<text x="250" y="{y + 4}" text-anchor="end">{html.escape(name.replace("_", " "))}</text>')
        lines += [f'<circle cx="{x(value):.1f}" cy="{y}" r="3" fill="#888"/>' for value in each["seeds"]]
        lines.append(f'<rect x="{x(each["mAP"]) - 1.5:.1f}" y="{y - 9}" width="3" height="18" fill="#b33"/>')
        lines.append(f'<text x="775" y="{y + 4}">{each["mAP"]:.4f}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"
