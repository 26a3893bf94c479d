"""What a corpus costs, from ingest to evaluate: bytes read and written, memory, seconds, and how they grow with it.

    python benchmarks/corpus.py --photos 1500 [--pixels 6] [--from FOLDER] [--folder FOLDER]
    python benchmarks/corpus.py --rows 400000 [--source parquet|csv] [--from FOLDER] [--folder FOLDER]
    python benchmarks/corpus.py --rows 400000 --resume
    python benchmarks/corpus.py --smoke

Pictures are made on the spot from those of the folder ``--from`` (by default Flickr8k where ``RAM_ENGINE_SHARED`` has
it, else drawn ones): with ``captions.csv`` and ``images/`` in it, or any folder of pictures. Everything lies in a
temporary folder that goes at the end; with ``--folder`` it stays, and photographs that are there are not made again.

Each run is a whole ``ram-engine run`` on a fresh store, watched from outside. Bytes read are ``rchar`` of all of its
processes, ended ones included, so also what imports and models' weights take; a file of the store or a temporary one
that a process maps counts as read once. What is read before, between and after the stages (the start, plans, reports)
has rows of its own. Memory is that of the largest process; ``private`` is what of it no file backs.

``--photos``: large JPEGs of 3 : 2. The last line is JSON:

* ``read_ratio``: bytes read by the whole run over the bytes of the photographs; ``text_stage_share``: what the stages
  that need no pixel read, likewise; ``between_share``: what was read before, between and after all stages, likewise;
* ``peak_gb``: the largest process above an idle one that has loaded torch, which itself takes ``idle_gb`` and reads
  ``idle_read_gb``; nothing is subtracted elsewhere;
* ``seconds_a_photo`` of the whole run; ``run_overhead_s``: what it takes on the clock beyond its stages' seconds;
* ``speed_against_loop``: a plain loop's seconds over those of ingest, encode, measure and screen together. The loop has
  a DataLoader with a worker a core, PIL at full size, timm's transform, the same encoder in batches of 32, and stores
  nothing. Both clocks begin when libraries are loaded and models are not. ``cpu_against_loop``: the same of processor
  seconds, which other work on the machine disturbs less.

``--rows``: small pictures, and an encoder for them with random weights. A quarter of the rows runs, then all of them:

* ``bytes_a_row``: by how much the peak is larger, over the rows between, in the worst stage (``worst_stage``);
* ``time_growth`` and ``read_growth``: the whole run of all rows over that of a quarter;
* ``projected_gb`` (the peak), ``projected_disk_gb`` (the store and scratch files in it) and ``projected_hours`` of 14
  million rows, if they go on growing as they did.

``--rows`` with ``--resume``: a run is killed in the middle of `encode`, then planned. ``resume_plan_s`` is the time of
that command, ``resume_read_gb`` what it reads. Growth means little below some 10,000 rows.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import yaml
from drawn_photographs import draw
from made_pictures import SIDE, Pictures, make_photographs, make_rows, read_pictures
from process_tree import Span, Watched, watch

from storage.store import Store
from tasks.machine.dag import stages

TEXT_STAGES = ("parse-captions", "build-labels", "assign-tags", "fit-clusters", "judge")
PICTURE_STAGES = ("ingest", "encode", "measure", "screen")
ELSEWHERE = ("start", "between", "end")  # rows of what no stage took
PROJECTED = 14_000_000  # rows
LINEAR = {"architecture": "tag2text", "decoder_layers": 0, "evidence": "mean"}
SETTINGS: Mapping[str, Mapping[str, Any]] = {  # such as `auto` chooses for thousands of photographs, with one encoder
    "build_labels": {"min_count": 5, "total": 1000},
    "encode": {"image_encoder": "tf_efficientnet_lite0", "image_size": 224, "views": 1, "fine_tune_size": 0},
    "train_baseline": {**LINEAR, "solver": "ridge"},
    "generate": {"captions": 0, "keep_below": 300},
    "retrain": {
        **LINEAR,
        **{"batch_size": 64, "epochs": 10, "learning_rate": 0.001, "weight_decay": 6},
        **{"thresholds": "precision", "target_precision": 0.7},
    },
}
SMALL_ENCODER = "test_efficientnet"  # of timm
OF_ROWS = {**SETTINGS, "encode": {**SETTINGS["encode"], "image_encoder": "local-dir:../encoder", "image_size": SIDE}}
ENVIRONMENT = {**os.environ, "PREFECT_API_URL": "", "RAM_ENGINE_EXIT_WITH_PARENT": "1"}  # a server of its own
Figures = dict[str, float | str]


@dataclass(frozen=True)
class Run:
    """A run that ended well: the whole of it, what each stage took and what was taken elsewhere, by name in order."""

    whole: Span
    spans: Mapping[str, Span]
    disk: int  # bytes that its store and the scratch files in it took at most

    @property
    def stage_seconds(self) -> float:
        return sum(span.seconds for name, span in self.spans.items() if name not in ELSEWHERE)

    def read(self, names: Sequence[str]) -> float:
        """Bytes that these read."""
        return sum(span.read for name, span in self.spans.items() if name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=0)
    parser.add_argument("--pixels", type=float, default=6, help="megapixels of a photograph")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--source", choices=("parquet", "csv"), default="parquet", help="what the rows lie in")
    parser.add_argument("--resume", action="store_true", help="kill a run of the rows, and plan it")
    parser.add_argument("--from", type=Path, dest="pictures", help="a folder of pictures to make others from")
    parser.add_argument("--folder", type=Path, help="everything is made in corpus/ in here, and stays")
    parser.add_argument("--smoke", action="store_true", help="a few small pictures through some stages: does it run?")
    options = parser.parse_args()
    if options.smoke:
        options.photos, options.pixels, options.rows = 24, 0.02, 2_048
    elif not options.photos and not options.rows:
        parser.error("say how many --photos or --rows")
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="corpus-") as temporary:
        folder = (options.folder or Path(temporary)).resolve() / "corpus"  # what is made anew is removed first
        pictures = read_pictures(options.pictures or pictures_at_hand(folder, options.smoke))
        captions = [caption for captions in pictures.captions for caption in captions]
        if options.photos:
            figures |= photographs(pictures, options.photos, options.pixels, folder, "screen" if options.smoke else "")
        if options.rows:
            in_process(make_encoder, folder / "encoder")
        if options.rows and (options.smoke or not options.resume):
            figures |= growth(captions, options.rows, options.source, folder, "ingest" if options.smoke else "")
        if options.rows and (options.smoke or options.resume):
            figures |= resumption(captions, options.rows, options.source, folder)
    print(json.dumps({name: value if isinstance(value, str) else round(value, 4) for name, value in figures.items()}))


def pictures_at_hand(folder: Path, drawn: bool) -> Path:
    """Flickr8k where the shared data are named, else drawn pictures."""
    shared = Path(os.environ.get("RAM_ENGINE_SHARED", "")) / "data" / "flickr8k"
    if shared.is_dir() and not drawn:
        return shared
    return draw(new_folder(folder / "drawn"), 24)


def photographs(pictures: Pictures, count: int, megapixels: float, folder: Path, until: str) -> Figures:
    """Runs the engine on large photographs, then the loop on the same files."""
    started = time.monotonic()
    made = folder / f"photographs-{megapixels:g}"
    files = make_photographs(pictures, made, count, megapixels)
    size = sum(file.stat().st_size for file in files)
    told = f"{count:,} photographs of {megapixels:g} megapixels, {size / 1e9:.2f} GB"
    print(f"{told}, made in {time.monotonic() - started:.0f} s", flush=True)
    run = run_engine(folder / "run", f"csv:{made / 'captions.csv'}", SETTINGS, until)
    idle = watch([sys.executable, "-c", "import torch"], new_folder(folder / "idle"), os.environ).whole
    looped, looped_cpu = in_process(loop, files)
    ours = [span for name, span in run.spans.items() if name in PICTURE_STAGES]
    seconds, cpu = sum(span.seconds for span in ours), sum(span.cpu for span in ours)
    print(f"ingest, encode, measure and screen take {seconds:.1f} s ({cpu:.1f} s of processors)", end="")
    print(f", the plain loop {looped:.1f} s ({looped_cpu:.1f} s)\n", flush=True)
    return {
        "read_ratio": run.whole.read / size,
        "text_stage_share": run.read(TEXT_STAGES) / size,
        "between_share": run.read(ELSEWHERE) / size,
        "peak_gb": (run.whole.peak - idle.peak) / 1e9,
        "idle_gb": idle.peak / 1e9,
        "idle_read_gb": idle.read / 1e9,
        "seconds_a_photo": run.whole.seconds / count,
        "speed_against_loop": looped / seconds,
        "cpu_against_loop": looped_cpu / cpu,
        "run_overhead_s": run.whole.seconds - run.stage_seconds,
    }


def growth(captions: Sequence[str], count: int, kind: str, folder: Path, until: str) -> Figures:
    """Runs the engine on a quarter of the rows, then on all of them."""
    quarter, all_ = (run_rows(captions, rows, kind, folder, until) for rows in (count // 4, count))
    rows = count - count // 4
    a_row = {name: (span.peak - quarter.spans[name].peak) / rows for name, span in all_.spans.items()}
    worst = max(a_row, key=lambda name: a_row[name])

    def projected(of_run: Callable[[Run], float]) -> float:
        return of_run(all_) + (PROJECTED - count) * (of_run(all_) - of_run(quarter)) / rows

    return {
        "bytes_a_row": a_row[worst],
        "worst_stage": worst,
        "time_growth": all_.whole.seconds / quarter.whole.seconds,
        "read_growth": all_.whole.read / quarter.whole.read,
        "projected_gb": projected(lambda run: run.whole.peak) / 1e9,
        "projected_disk_gb": projected(lambda run: run.disk) / 1e9,
        "projected_hours": projected(lambda run: run.whole.seconds) / 3600,
    }


def run_rows(captions: Sequence[str], count: int, kind: str, folder: Path, until: str) -> Run:
    """A run on so many small pictures."""
    started = time.monotonic()
    source = make_rows(captions, new_folder(folder / "rows"), count, kind)
    print(f"{count:,} rows as {kind}, made in {time.monotonic() - started:.0f} s", flush=True)
    return run_engine(folder / "run", source, OF_ROWS, until)


def resumption(captions: Sequence[str], count: int, kind: str, folder: Path) -> Figures:
    """Kills a run of the rows when half of its features are there, and plans it."""
    source = make_rows(captions, new_folder(folder / "rows"), count, kind)
    place = new_folder(folder / "run")
    pairs, features = (place / "store" / name / "parts" for name in ("pairs", "features"))
    command = engine("run", place, source, OF_ROWS)
    killed = watch(command, place, ENVIRONMENT, lambda: 2 * parts_in(features) > parts_in(pairs) > 0)
    if killed.code >= 0:
        raise SystemExit(f"the run ended before it was killed: take more rows\n{(place / 'log.txt').read_text()}")
    print(f"killed when {parts_in(features):,} of {parts_in(pairs):,} parts had features", flush=True)
    planned = watch(engine("plan", place, source, OF_ROWS), place, ENVIRONMENT)
    print(output_of(planned, place), flush=True)
    return {"resume_plan_s": planned.whole.seconds, "resume_read_gb": planned.whole.read / 1e9}


def parts_in(folder: Path) -> int:
    """How many parts a folder of a store has."""
    return sum(name.endswith(".parquet") for name in os.listdir(folder)) if folder.is_dir() else 0


def run_engine(place: Path, source: str, settings: Mapping[str, Any], until: str) -> Run:
    """A whole run into a fresh store in ``place``, which is made anew; prints a row a stage."""
    command = engine("run", new_folder(place), source, settings)
    watched = watch([*command, "--until", until], place, ENVIRONMENT)
    output_of(watched, place)
    run = Run(watched.whole, spans_of(watched, Store(place / "store", create=False)), watched.disk)
    show(run)
    return run


def engine(action: str, place: Path, source: str, settings: Mapping[str, Any]) -> list[str]:
    """The command for a store in ``place``."""
    preset = place / "preset.yaml"
    preset.write_text(yaml.safe_dump(dict(settings)), encoding="utf-8")
    return [
        *(sys.executable, "-m", "ram_engine", action, "--store", str(place / "store")),
        *("--preset", str(preset), "--source", source),
    ]


def output_of(watched: Watched, place: Path) -> str:
    """What the command said. Raises SystemExit with it where the command failed."""
    said = (place / "log.txt").read_text("utf-8", errors="replace")
    if watched.code:
        raise SystemExit(f"the command failed with {watched.code}:\n{said}")
    return said


def spans_of(watched: Watched, store: Store) -> dict[str, Span]:
    """What each stage that ran took, by the moments that the store knows, and what was taken elsewhere."""
    moments = {}
    for stage in stages(1):
        made = [snapshot for artifact in stage.outputs if (snapshot := store.snapshot(artifact))]
        if made:
            ended = min(snapshot.created for snapshot in made)
            moments[stage.name] = ended - made[0].figures["seconds"], ended
    spans = {name: watched.span(*moment) for name, moment in moments.items()}
    order = sorted(moments.values())
    gaps = [watched.span(one[1], other[0]) for one, other in pairwise(order)]
    start, end = watched.span(watched.began, order[0][0]), watched.span(order[-1][1], watched.ended)
    return {"start": start, **spans, "between": sum(gaps, Span()), "end": end}


def show(run: Run) -> None:
    """A row a stage."""
    print(f"{'':<16} {'seconds':>8} {'cpu s':>8} {'GB read':>8} {'written':>8} {'peak GB':>8} {'private':>8}")
    for name, span in {**run.spans, "whole run": run.whole}.items():
        print(
            f"{name:<16} {span.seconds:>8.1f} {span.cpu:>8.1f} {span.read / 1e9:>8.3f} {span.written / 1e9:>8.3f} "
            f"{span.peak / 1e9:>8.2f} {span.private / 1e9:>8.2f}"
        )
    print(f"the store and scratch files in it take {run.disk / 1e9:.2f} GB at most\n", flush=True)


def loop(files: Sequence[Path]) -> tuple[float, float]:
    """Seconds, and those of processors, in which a plain loop brings the files to the tokens that `encode` makes."""
    import timm
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    from models.image_encoder import ImageEncoder

    class Files(Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, number: int) -> torch.Tensor:
            with Image.open(files[number]) as image:
                return transform(image.convert("RGB"))

    started, before = time.perf_counter(), os.times()
    encoder = ImageEncoder(SETTINGS["encode"]["image_encoder"]).load_pretrained().eval()
    transform: Any = timm.data.create_transform(**timm.data.resolve_model_data_config(encoder.backbone))
    with torch.inference_mode():
        for images in DataLoader(Files(), batch_size=32, num_workers=os.cpu_count() or 1):
            encoder(images)
    # the loader waits for its workers when it ends
    return time.perf_counter() - started, sum(os.times()[:4]) - sum(before[:4])


def make_encoder(folder: Path) -> None:
    """An encoder of small pictures as timm reads it from a folder: random weights, but normalised for such pictures,
    so that its features differ from one to the next."""
    import timm
    import torch

    torch.manual_seed(0)
    encoder = timm.create_model(SMALL_ENCODER, num_classes=1000).train()
    with torch.inference_mode():
        for _ in range(20):
            encoder(torch.randn(64, 3, SIDE, SIDE))
    timm.models.save_for_hf(encoder, new_folder(folder))


def in_process(make: Callable[[Any], Any], value: Any) -> Any:
    """``make(value)`` in a process of its own: this one, whose processes are watched, stays small."""
    with ProcessPoolExecutor(1) as process:
        return process.submit(make, value).result()


def new_folder(folder: Path) -> Path:
    """The folder, with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    main()
