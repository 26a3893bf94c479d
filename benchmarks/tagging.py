"""Images a second of a tagger on a CPU: the straightforward way, and what this project does instead.

``python benchmarks/tagging.py [--encoder swin_base_patch4_window12_384] [--labels 4585] [--rounds 3]`` compares in one
run, in turn: *straightforward*, float32 in eager PyTorch, one image at a time, label queries projected for each image
and attention as matrix products; the same model *in batches*; its exported graph in *float32* (OpenVINO) and in *int8*
(ONNX Runtime). Weights are random: speed does not depend on them. Quality does, so the loss by int8 is measured on a
tagger that a small run of the pipeline trains on the sample world (about two minutes, ``--folder``).

Needs the extras ``sample``, ``onnx`` and ``openvino``. Prints tables, and as its last line JSON: ``speedup_float32``
and ``speedup_int8`` over the straightforward way, ``map_loss_int8`` in points, ``share_of_matrix_rate`` (what the
float32 graph computes a second, as a share of what a large float32 matrix product does), ``peak_memory_gb`` of a
process that tags batches of 32 with the float32 graph, and ``largest_difference`` of its logits from PyTorch's.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models import PRESETS, RAM, TaggerConfig, create_tagger, onnx_export, tagger_folder
from models.onnx_tagger import OnnxTagger
from ram_engine import Tagger, configuration, runs
from storage.images import read_files
from storage.store import Store
from tasks.evaluation.metrics import mean_average_precision
from tasks.images.decoding import decode_image, read_image
from tasks.machine.outlook import Request

BATCH = 8
SMALL_RUN = {"train": 400, "fine_tune": 0, "calibrate": 50, "test": 400}
console = Console(width=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="swin_base_patch4_window12_384")
    parser.add_argument("--image-size", type=int, default=384)
    parser.add_argument("--labels", type=int, default=4585)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default="runs/tagging")
    parser.add_argument("--smoke", action="store_true", help="a small encoder, few labels and pictures: does it run?")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.smoke:
            options.encoder, options.image_size, options.labels = "tf_efficientnet_lite0", 64, 20
            options.rounds, options.folder = 1, f"{scratch}/store"
            SMALL_RUN.update(train=24, calibrate=8, test=8)
        published = replace(
            PRESETS["ram_swin_base_384"],
            image_encoder=options.encoder,
            image_size=options.image_size,
            labels=options.labels,
            captioner=None,
        )
        figures = compare("published size", random_ram(published), Path(scratch) / "published", options.rounds)
        if not options.smoke:
            small = replace(PRESETS["ram_small"], image_size=options.image_size, labels=options.labels, captioner=None)
            compare("sample size", random_ram(small), Path(scratch) / "small", options.rounds)
        figures["peak_memory_gb"] = peak_memory(Path(scratch) / "published" / "float32")
        figures["map_loss_int8"] = map_loss(Path(options.folder), Path(scratch) / "trained")
    print(json.dumps({name: float(f"{value:.3g}") for name, value in figures.items()}))


def random_ram(config: TaggerConfig) -> RAM:
    torch.manual_seed(0)
    queries = F.normalize(torch.randn(config.labels, config.query_width), dim=-1)
    model = create_tagger(config, queries=queries, pretrained_encoder=False)
    assert isinstance(model, RAM)
    return model.eval().requires_grad_(False)


def compare(title: str, model: RAM, folder: Path, rounds: int) -> dict[str, float]:
    """Prints the table of ``model``; its figures."""
    for kind in ("float32", "int8"):
        onnx_export.export(model, folder / kind, int8=kind == "int8")
        tagger_folder.describe(model, folder / kind)
    exact, rounded = OnnxTagger(folder / "float32"), OnnxTagger(folder / "int8")
    ways: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
        "straightforward": (lambda images: straightforward(model, images), 1),
        f"PyTorch, {BATCH} at once": (lambda images: model.tag_logits(model.encode_image(images)), BATCH),
        f"float32 graph ({exact.runtime})": (exact.tag_logits, BATCH),
        f"int8 graph ({rounded.runtime})": (rounded.tag_logits, BATCH),
    }
    size = model.config.image_size
    images = torch.randn(BATCH, 3, size, size, generator=torch.Generator().manual_seed(0))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    logits: dict[str, Tensor] = {}
    rates = []
    with torch.inference_mode():
        for turn in range(1 + rounds):
            rate = matrix_rate()
            for name, (tag, at_once) in ways.items():
                started = time.perf_counter()
                logits[name] = torch.cat([tag(part) for part in images.split(at_once)])
                if turn:  # the first is to warm up
                    seconds[name].append((time.perf_counter() - started) / BATCH)
            rates.append(rate)
        with FlopCounterMode(display=False) as counter:
            model.tag_logits(model.encode_image(images))
    first, batched, float32, int8 = ways
    table = Table(f"{title}: {len(model.labels):,} labels", "images/s", "times as many", "largest difference", box=None)
    speedup = {
        name: statistics.median(a / b for a, b in zip(seconds[first], seconds[name], strict=True)) for name in ways
    }
    for name in ways:
        difference = float((logits[name] - logits[first]).abs().max())
        rate = 1 / statistics.median(seconds[name])
        table.add_row(name, f"{rate:.2f}", f"{speedup[name]:.2f}", f"{difference:.1e}")
    console.print(table)
    flops = counter.get_total_flops() / BATCH
    matrix = statistics.median(rates)
    share = flops / statistics.median(seconds[float32]) / matrix
    console.print(f"{flops / 1e9:.0f} GFLOP an image; a matrix product does {matrix / 1e9:.0f} GFLOP/s\n")
    return {
        "speedup_float32": speedup[float32],
        "speedup_batched": speedup[batched],
        "speedup_int8": speedup[int8],
        "share_of_matrix_rate": share,
        "largest_difference": float((logits[float32] - logits[batched]).abs().max()),
    }


def straightforward(model: RAM, images: Tensor) -> Tensor:
    """Every image's labels are projected anew, and attention weights are written out."""
    with sdpa_kernel(SDPBackend.MATH):
        return torch.cat(
            [model.tag_logits(model.encode_image(image), model.label_queries) for image in images.split(1)]
        )


def matrix_rate() -> float:
    """FLOP a second of a product of two square float32 matrices, the best of three."""
    left = torch.randn(4096, 4096)
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        left @ left
        best = min(best, time.perf_counter() - started)
    return 2 * 4096**3 / best


def peak_memory(folder: Path) -> float:
    """GB that a process of its own takes at most."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_tag_batches, str(folder)).result()


def _tag_batches(folder: str) -> float:
    tagger = OnnxTagger(folder)
    size = tagger.config.image_size
    for _ in range(2):
        tagger.tag_logits(torch.randn(32, 3, size, size))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def map_loss(store: Path, scratch: Path) -> float:
    """Points of mAP, over the test pictures of the sample world, that int8 costs a tagger trained there."""
    source = [f"ingest.source.{name}={value}" for name, value in SMALL_RUN.items()]
    training = ["retrain.epochs=30", "retrain.width=256", "retrain.decoder_layers=2", "fine_tune.epochs=1"]
    settings, executor = configuration.configure("tiny", sets=[*source, *training, "evaluate.ablation=false"])
    runs.run(str(store), settings, executor, Request())
    model = Tagger.from_store(str(store)).answerer.module()
    assert isinstance(model, RAM)
    onnx_export.export(model, scratch, int8=True)
    tagger_folder.describe(model, scratch)
    images, truth = test_pictures(Store(str(store), create=False), model)
    rounded = OnnxTagger(scratch)
    with torch.inference_mode():
        ways = [lambda part: model.tag_logits(model.encode_image(part)), rounded.tag_logits]
        before, after = (
            100 * mean_average_precision(truth, torch.cat([tag(part) for part in images.split(32)]).numpy())
            for tag in ways
        )
    console.print(f"mAP on {len(images)} test pictures: float32 {before:.2f}, int8 {after:.2f}")
    return before - after


def test_pictures(store: Store, model: RAM) -> tuple[Tensor, np.ndarray]:
    """Normalised test pictures, and which of the model's labels their full descriptions name."""
    pairs, tags, system = (store.table(store.snapshot(name)) for name in ("pairs", "caption_tags", "label_system"))
    column = {(label.name, label.type): at for at, label in enumerate(model.labels)}
    names = {row["tag_id"]: column.get((row["name"], row["type"])) for row in system.to_pylist()}
    rows = [row for row in pairs.to_pylist() if row["split"] == "test"]
    place = {row["image_id"]: at for at, row in enumerate(rows)}
    truth = np.zeros((len(rows), len(model.labels)), bool)
    for row in tags.to_pylist():
        for tag in row["tag_ids"]:
            if row["image_id"] in place and names[tag] is not None:
                truth[place[row["image_id"]], names[tag]] = True
    prepare = model.preprocessing.transform()
    files = read_files(store, *(store.snapshot(name) for name in ("pairs", "images")), place)
    return torch.stack([prepare(decode_image(read_image(files[image_id]))) for image_id in place]), truth


if __name__ == "__main__":
    main()
