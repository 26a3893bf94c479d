"""Grounding DINO over many tags of many images: our batched texts against groundingdino-py's own functions.

``python benchmarks/grounding.py [--images 20] [--tags 8] [--long-edge 480] [--checkpoint FILE.pth] [--config swin-t]``
compares in one run, on the same pixels: the package's ``predict`` once an image and tag; the same once an image with
all of its tags joined, as its ``predict_with_classes`` does; and our proposer. Without a checkpoint the official Swin-T
model has random weights and its BERT too: the time does not depend on them. Prints a table, and as its last line JSON:
``speedup_per_tag``, ``speedup_joined``, ``largest_difference`` of boxes and scores where the texts are the same, and
``projected_hours`` for 500 and for 4M images on this machine.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from groundingdino.util.inference import predict
from PIL import Image
from rich.console import Console
from rich.table import Table
from torchvision.ops import box_convert

from models.regions import GroundingDinoProposer, grounding_dino
from models.sentence_encoder import minilm_folder
from tasks.machine.allocator import keep_memory

NAMES = (
    "dog", "hot dog", "traffic light", "car", "bench", "man", "woman", "umbrella", "bicycle", "tree", "fire hydrant",
    "boat", "bird", "table", "cup", "laptop", "tennis racket", "skateboard", "backpack", "horse", "sheep", "pizza",
)  # fmt: skip
NO_BOX, EVERY_BOX = 1.1, -1.0  # thresholds; timed without boxes, the package need not spell out their phrases
SIZES = ((480, 360), (360, 480), (480, 320))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--tags", type=int, default=8)
    parser.add_argument("--long-edge", type=int, default=480)
    parser.add_argument("--checkpoint", default="")
    parser.add_argument("--config", default="swin-t")
    parser.add_argument("--text-encoder", default="")
    parser.add_argument("--smoke", action="store_true", help="a small image and few layers: does it run?")
    options = parser.parse_args()
    if options.smoke:
        options.images, options.tags, options.long_edge = 1, 2, 96
    keep_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.checkpoint:
        model = grounding_dino.load(options.checkpoint, options.config, options.text_encoder)
    else:
        model = random_model(options.smoke)
    model = model.to(device)
    chance = random.Random(0)
    prompts = dict(enumerate(NAMES))
    proposer = GroundingDinoProposer(model, prompts, long_edge=options.long_edge)
    pictures = [picture(SIZES[number % len(SIZES)], number) for number in range(options.images)]
    asked = [chance.sample(sorted(prompts), options.tags) for _ in pictures]
    pixels = [proposer.pixels(each) for each in pictures]
    warm_up = pictures[:1], asked[:1]
    proposer.propose(*warm_up)

    started = time.perf_counter()
    for image, tags in zip(pixels, asked, strict=True):
        for tag in tags:
            predict(model, image, prompts[tag], NO_BOX, NO_BOX, device)
    per_tag = time.perf_counter() - started
    started = time.perf_counter()
    for image, tags in zip(pixels, asked, strict=True):
        predict(model, image, ". ".join(prompts[tag] for tag in tags), NO_BOX, NO_BOX, device)
    one_text = time.perf_counter() - started
    started = time.perf_counter()
    proposer.propose(pictures, asked)
    ours = time.perf_counter() - started

    differences = []
    for number in {0, len(pictures) - 1}:
        shape = tuple(pixels[number].shape[-2:])
        texts = [proposer.texts([tag])[0] for tag in asked[number]] + proposer.texts(asked[number])
        theirs = [prompts[tag] for tag in asked[number]] + [". ".join(prompts[tag] for tag in asked[number])]
        for text, caption in zip(texts, theirs, strict=True):
            boxes, scores, _ = predict(model, pixels[number], caption, EVERY_BOX, 0.99, device)
            found, said = proposer.look(shape, [pictures[number]], [text])
            differences.append(float((found[0] - box_convert(boxes, "cxcywh", "xyxy").clamp(0, 1)).abs().max()))
            differences.append(float((said[0].amax(1) - scores).abs().max()))
    table = Table("", "seconds an image", "passes an image", "times as fast", box=None)
    for name, seconds, passes in (
        ("predict, once a tag", per_tag, options.tags),
        ("predict, tags joined", one_text, 1),
        ("our proposer", ours, 1),
    ):
        table.add_row(name, f"{seconds / options.images:.3f}", str(passes), f"{per_tag / seconds:.2f}")
    Console(width=120).print(table)
    hours = {str(count): round(ours / options.images * count / 3600, 3) for count in (500, 4_000_000)}
    figures = {
        "speedup_per_tag": round(per_tag / ours, 3),
        "speedup_joined": round(one_text / ours, 3),
        "largest_difference": float(f"{max(differences):.2g}"),
        "projected_hours": hours,
    }
    print(json.dumps(figures))


def random_model(small: bool) -> Any:
    """The official Swin-T model and a BERT of the usual size, or both with few layers; the weights are random."""
    from groundingdino.util.slconfig import SLConfig
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(0)
    arguments = SLConfig.fromfile(str(files("groundingdino.config").joinpath("GroundingDINO_SwinT_OGC.py")))
    arguments.device = "cpu"
    sizes = BertConfig()
    if small:
        arguments.enc_layers = arguments.dec_layers = 1
        arguments.num_queries = 20  # small images have fewer places than the official 900
        sizes = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    with tempfile.TemporaryDirectory() as folder:
        BertModel(sizes).save_pretrained(folder)
        BertTokenizerFast(str(minilm_folder() / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
        arguments.text_encoder_type = folder
        return grounding_dino.build(arguments)


def picture(size: tuple[int, int], seed: int) -> Image.Image:
    chance = np.random.default_rng(seed)
    return Image.fromarray(chance.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


if __name__ == "__main__":
    main()
