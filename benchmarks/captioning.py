"""Captions a second: text from given image features, sixteen images at once against one at a time.

``python benchmarks/captioning.py [--model DIR] [--images 64] [--batch 16]``; without a model folder a Tag2Text of the
sample's size with random weights writes (its captions say nothing, but as long). Prints a table, and as its last line
JSON: ``speedup_captions`` (the same captions, text alone), ``speedup_end_to_end`` (the image encoder as well),
``same_captions`` (the share that is equal word for word).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from models import CaptionTokenizer, Label, Tagger, create_tagger, load_tagger, small_captioner, small_config

WORDS = "a the red blue large dog cat bird tree house car boat street runs near"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--smoke", action="store_true", help="four images: does it run?")
    options = parser.parse_args()
    if options.smoke:
        options.images, options.batch = 4, 2
    model = load_tagger(options.model) if options.model else random_model()
    generator = torch.Generator().manual_seed(0)
    size = model.config.image_size
    images = torch.randn(options.images, 3, size, size, generator=generator)
    with torch.inference_mode():
        tokens = torch.cat([model.encode_image(part) for part in images.split(options.batch)])
    text: dict[int, tuple[float, list[str]]] = {}
    whole: dict[int, tuple[float, list[str]]] = {}
    for batch in (1, options.batch):
        model.generate_captions(tokens[:batch])  # warm
        text[batch] = timed(tokens, batch, model.generate_captions)
        whole[batch] = timed(images, batch, lambda part: model.generate_captions(model.encode_image(part)))
    same = [a == b for a, b in zip(text[1][1], text[options.batch][1], strict=True)]
    table = Table("images at once", "text, captions/s", "end to end, captions/s", box=None)
    for batch in text:
        table.add_row(str(batch), f"{options.images / text[batch][0]:.1f}", f"{options.images / whole[batch][0]:.1f}")
    Console(width=120).print(table)
    figures = {
        "speedup_captions": text[1][0] / text[options.batch][0],
        "speedup_end_to_end": whole[1][0] / whole[options.batch][0],
        "same_captions": sum(same) / len(same),
    }
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


@torch.inference_mode()
def timed(values: Tensor, batch: int, write: Callable[[Tensor], Sequence[str]]) -> tuple[float, list[str]]:
    """Seconds for all of ``values``, ``batch`` at once, and what was written."""
    started = time.perf_counter()
    texts = [text for part in values.split(batch) for text in write(part)]
    return time.perf_counter() - started, texts


def random_model() -> Tagger:
    """A Tag2Text of the sample's size whose words differ in likelihood as a trained one's do."""
    torch.manual_seed(0)
    tokenizer = CaptionTokenizer.train([WORDS])
    config = small_config("tag2text", labels=150, hidden=128, captioner=small_captioner(tokenizer, layers=1))
    labels = [Label(f"tag {number}") for number in range(150)]
    model = create_tagger(config, labels, tokenizer, pretrained_encoder=False)
    assert model.captioner is not None
    with torch.no_grad():
        for parameter in model.captioner.parameters():
            parameter.mul_(3)
    return model.eval()


if __name__ == "__main__":
    main()
