"""``python -m tests.parity DIR``: our models beside outputs of the authors' code.

DIR holds ``checkpoint.pth`` in the official layout, ``config.json`` with its sizes and ``io.safetensors`` with inputs
and expected outputs. One row a tensor with its largest difference; exit code 1 where one is beyond 1e-4.
"""

from __future__ import annotations

import json
import sys
from itertools import zip_longest
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from models import RAM, Tagger, losses, official
from models.config import Decoding

TOLERANCE = 1e-4


def load(folder: Path) -> Tagger:
    """The model of a fixture folder, from its checkpoint and its sizes."""
    sizes = json.loads((folder / "config.json").read_text())
    state = official.read(folder / "checkpoint.pth")
    config = official.configuration(
        state,
        image_size=sizes["image_size"],
        window=sizes["vision"]["window_size"],
        heads=sizes["num_heads"],
        decoder_heads=sizes["tagging_heads"],
        special_ids={
            "pad_id": sizes["pad"],
            "end_id": sizes["sep"],
            "caption_id": sizes["bos"],
            "tags_id": sizes["enc"],
        },
    )
    if config.architecture != sizes["kind"]:
        raise official.CheckpointError(
            f"{folder}: the checkpoint is a {config.architecture}, config.json says {sizes['kind']}"
        )
    return official.load(state, config)


@torch.inference_mode()
def outputs(model: Tagger, io: dict[str, Tensor], prompt_length: int) -> dict[str, Tensor]:
    """Our value for every tensor that a fixture may expect."""
    captioner = model.captioner
    assert captioner is not None
    tokens = model.encode_image(io["image"])
    context = model.context(tokens)
    encoded = captioner.encode_tags(io["tag_input_ids"], context, io["tag_attention_mask"])
    logits = captioner.logits(io["caption_ids"], encoded, io["caption_attention_mask"])
    tag_logits = model.tag_logits(tokens)
    found = {
        "visual_tokens": tokens,
        "tag_logits": tag_logits,
        "tag_encoder_out": encoded,
        "caption_logits": logits,
        "loss_lm": losses.caption_loss(logits, io["caption_ids"], captioner.config.pad_id, prompt_length),
        "loss_tag": losses.asymmetric_loss(tag_logits, io["image_tag"].float()),
    }
    if isinstance(model, RAM):
        found["image_embeds"] = context
        found["loss_distill"] = losses.distillation_loss(model.distillation_embedding(tokens), io["clip_feature"])
    return found


def differences(folder: Path) -> dict[str, float]:
    """The largest absolute difference of every expected tensor; of the greedy captions, how many ids differ."""
    sizes = json.loads((folder / "config.json").read_text())
    model = load(folder)
    io = load_file(folder / "io.safetensors")
    found = outputs(model, io, sizes["prompt_length"])
    rows = {}
    for name, expected in io.items():
        if name.startswith("expected."):
            ours = found[name.removeprefix("expected.")]
            same_size = ours.numel() == expected.numel()
            rows[name] = (ours.reshape(expected.shape) - expected).abs().max().item() if same_size else float("inf")
    greedy = sizes.get("greedy")
    if greedy:
        assert model.captioner is not None
        ids = model.captioner.generate(
            found["tag_encoder_out"],
            greedy["prompt"][1:],
            Decoding(beams=1, min_length=greedy["min_length"], max_length=greedy["max_length"]),
        ).tolist()
        pairs = [zip_longest(*each, fillvalue=sizes["pad"]) for each in zip(ids, greedy["ids"], strict=True)]
        rows["greedy"] = float(sum(ours != theirs for pair in pairs for ours, theirs in pair))
    return rows


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m tests.parity DIR", file=sys.stderr)
        return 2
    rows = differences(Path(arguments[0]))
    for name, difference in rows.items():
        print(f"{name:28} {difference:10.2e}  {'ok' if difference <= TOLERANCE else 'DIFFERS'}")
    # "not <=" so that a NaN fails as well
    return int(not all(difference <= TOLERANCE for difference in rows.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
