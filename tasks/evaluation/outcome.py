"""What an ablation found, from a store to figures, a chart and a table: for the command, the flow and benchmarks."""

from __future__ import annotations

import base64
import html
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from storage.store import Store
from tasks.evaluation.request import AblationRequest
from tasks.machine.dag import stage_named
from tasks.machine.planning import gather
from tasks.machine.stage_run import StageRun
from tasks.settings.executor import ExecutorSettings
from tasks.sources.coco import CocoSource
from tasks.sources.csv_file import CsvSource

KEPT = "reports/ablation"  # .json, .svg and .md: where a store keeps what the flow `ablate` found


def compared(
    name: str,
    store: Store,
    request: AblationRequest,
    executor: ExecutorSettings,
    to: Path,
    progress: Callable[[int, int, str], None],
) -> dict[str, Any]:
    """Figures of every row, and how many ``minutes`` the trainings took; models and scores lie in ``to``, the latter
    under ``name``."""
    from tasks.evaluation.ablation import ablate
    from tasks.evaluation.comparison import compare
    from tasks.evaluation.verdict import AGAINST
    from tasks.machine.inputs import Inputs

    started = time.monotonic()
    stage = stage_named("train-ablation", request.settings.rounds)
    measured = ablate(
        Inputs(store, gather(StageRun(store, stage, request.settings.retrain))),
        request,
        executor,
        to / "models",
        progress,
    )
    minutes = (time.monotonic() - started) / 60
    measured.save(to / f"{name}.safetensors")
    rows = compare(measured.truth, measured.scores, request.samples)
    for row, figures in rows.items():
        figures["operating"] = operating_point(measured, row)
        figures["labels"] = measured.targets.get(row, {})
    return {
        "images": len(measured.truth),
        "tags": len(measured.tags.ids),
        "seeds": request.seeds,
        "against": AGAINST[measured.against],
        "minutes": minutes,
        "settings": request.settings.retrain.model_dump(mode="json"),
        "rows": rows,
    }


def operating_point(measured: Any, row: str) -> dict[str, float]:
    """Precision, recall and F1 at the models' own thresholds, means over the seeds."""
    import numpy as np

    from tasks.evaluation.metrics import precision_recall

    by_seed = [
        precision_recall(measured.truth, scores >= thresholds)
        for scores, thresholds in zip(measured.scores[row], measured.thresholds[row], strict=True)
    ]
    return {metric: float(np.mean([figures[metric] for figures in by_seed])) for metric in by_seed[0]}


def all_captions(source: str) -> dict[str, list[str]]:
    """All captions of each image, by its name."""
    kind, _, path = source.partition(":")
    if kind not in ("csv", "coco"):
        raise ValueError(f"captions {source}: say csv:FILE or coco:FILE")
    images = str(Path(path).parent)
    file = CsvSource(path=path, images=images) if kind == "csv" else CocoSource(path=path, images=images)
    items = file.items()
    return {item.name: list(item.captions) for item in items if item.captions}


def chart(variations: Mapping[str, Any]) -> str:
    """The rows' mAP as an SVG: a dot a seed, a bar at their mean."""
    rows = [
        (f"{name}: {row}" if len(variations) > 1 else row, figures)
        for name, variation in variations.items()
        for row, figures in variation["rows"].items()
    ]
    values = [value for _, figures in rows for value in figures["seeds"]]
    low, high = min(values), max(values)
    margin = max(high - low, 1e-6) * 0.1
    low, high = low - margin, high + margin

    def x(value: float) -> float:
        return 260 + 500 * (value - low) / (high - low)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 {40 + 28 * len(rows)}" '
        'font-family="sans-serif" font-size="13">'
    ]
    for place, (name, figures) in enumerate(rows):
        y = 30 + 28 * place
        lines.append(f'<text x="250" y="{y + 4}" text-anchor="end">{html.escape(name.replace("_", " "))}</text>')
        lines += [f'<circle cx="{x(value):.1f}" cy="{y}" r="3" fill="#888"/>' for value in figures["seeds"]]
        lines.append(f'<rect x="{x(figures["mAP"]) - 1.5:.1f}" y="{y - 9}" width="3" height="18" fill="#b33"/>')
        lines.append(f'<text x="775" y="{y + 4}">{figures["mAP"]:.4f}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def markdown(variations: Mapping[str, Any]) -> str:
    """The rows of each variation as Markdown tables, and the chart."""
    parts = []
    for name, variation in variations.items():
        parts.append(
            f"### {name}: {variation['tags']} tags, {variation['images']} images, {variation['seeds']} seeds, "
            f"{variation['minutes']:.1f} minutes\n\nMeasured against {variation['against']}.\n\n"
            "| taught | mAP | spread | more than parsed | gap closed | CF1 | OF1 |\n|---|---|---|---|---|---|---|"
        )
        for row, figures in variation["rows"].items():
            cells = [
                row.replace("_", " "),
                f"{figures['mAP']:.4f}",
                "" if figures["spread"] is None else f"{figures['spread']:.4f}",
                with_interval(figures.get("more"), "+.4f"),
                with_interval(figures.get("gap_closed"), ".0%"),
                *(f"{figures['operating'][metric]:.3f}" for metric in ("CF1", "OF1")),
            ]
            parts.append(f"| {' | '.join(cells)} |")
        parts.append("")
    picture = base64.b64encode(chart(variations).encode()).decode()
    return "\n".join([*parts, f"![mAP of each row](data:image/svg+xml;base64,{picture})", ""])


def with_interval(values: list[float] | None, form: str) -> str:
    """A figure and its interval; "" where there is none."""
    return "" if values is None else f"{values[0]:{form}} ({values[1]:{form}} to {values[2]:{form}})"
