"""Regions from Grounding DINO (Liu et al. 2023, arXiv 2303.05499) through the package groundingdino-py.

All tags of an image are asked for in as few texts as the model reads (256 word pieces): a pass a text, not a tag. What
a box says about a tag is read off the word pieces of that tag, so that "dog" and "hot dog" stay apart.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from PIL import Image
from torch import Tensor
from torchvision.ops import box_convert, nms
from torchvision.transforms import v2

from models.regions.proposer import Box, Proposal

LONGEST_TEXT = 256  # word pieces, the first and last special one included
STRIDE = 32  # sides are multiples of it: fewer shapes, and no padding within the network
SAME_PLACE = 0.7  # boxes of one tag that overlap by more are one
CONFIGURATIONS = {"swin-t": "GroundingDINO_SwinT_OGC.py", "swin-b": "GroundingDINO_SwinB_cfg.py"}


@dataclass(frozen=True)
class Text:
    """What is asked in one pass: ``spans`` are the places of each tag's word pieces among those of ``text``."""

    text: str
    spans: Mapping[int, tuple[int, ...]]


def load(checkpoint: Path | str, configuration: str = "swin-t", text_encoder: str = "") -> Any:
    """The model of an official checkpoint (``.pth``, or ``hub:OWNER/NAME/FILE`` of the hub), read as tensors only.

    ``configuration`` is swin-t, swin-b or the path of a file in the package's format (which is Python, and run).
    ``text_encoder``: a folder with the BERT that the configuration names, where the hub cannot be reached. Raises
    OSError where a file is missing and ValueError where the checkpoint does not fit.
    """
    from groundingdino.util.misc import clean_state_dict
    from groundingdino.util.slconfig import SLConfig

    path = Path(configuration)
    if configuration in CONFIGURATIONS:
        path = Path(str(files("groundingdino.config").joinpath(CONFIGURATIONS[configuration])))
    arguments = SLConfig.fromfile(str(path))
    arguments.device = "cpu"
    if text_encoder:
        arguments.text_encoder_type = text_encoder
    if str(checkpoint).startswith("hub:"):
        owner, name, file = str(checkpoint).removeprefix("hub:").split("/", 2)
        checkpoint = hf_hub_download(f"{owner}/{name}", file)
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    model = build(arguments)
    missing, _ = model.load_state_dict(clean_state_dict(state.get("model", state)), strict=False)
    lacking = [name for name in missing if not name.endswith("position_ids")]
    if lacking:
        raise ValueError(
            f"{checkpoint} does not fit the configuration {configuration}: it lacks {', '.join(lacking[:3])}"
        )
    return model


def build(arguments: Any) -> Any:
    """The package's model of a configuration, with random weights but for its text encoder, in eval mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of timm and torch, about the names that the package imports them by
        from groundingdino.models import build_model

    arguments.use_checkpoint = arguments.use_transformer_ckpt = False  # they save memory in training alone
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the name of its text encoder
        model: Any = build_model(arguments)
    for layer in getattr(model.transformer.encoder, "text_layers", ()):
        layer.self_attn.register_forward_pre_hook(_masks_of_their_own, with_kwargs=True)
    return model.eval().requires_grad_(False)


def _masks_of_their_own(attention: Any, arguments: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The package lays the masks of a batch out by head, torch reads them by text: texts would get each other's."""
    mask = named["attn_mask"].unflatten(0, (attention.num_heads, -1)).transpose(0, 1).flatten(0, 1)
    return arguments, {**named, "attn_mask": mask}


class GroundingDinoProposer:
    """Boxes of the tags that are asked for, at most ``max_regions`` a tag, each with a score of ``threshold`` or more.

    ``prompts`` (tag id -> words) say how a tag is asked for. Pictures are scaled to ``long_edge`` pixels and put
    through in batches of one shape: a picture's boxes do not depend on its batch.
    """

    def __init__(
        self,
        model: Any,
        prompts: Mapping[int, str],
        max_regions: int = 2,
        threshold: float = 0.3,
        long_edge: int = 800,
        batch: int = 4,
        half_precision: bool = False,
    ) -> None:
        self.half_precision = half_precision
        self.model = model
        self.prompts = prompts
        self.max_regions = max_regions
        self.threshold = threshold
        self.long_edge = long_edge
        self.batch = batch
        self.device = next(model.parameters()).device
        normal = v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        self.to_tensor = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), normal])

    @torch.inference_mode()
    def propose(self, images: Sequence[Image.Image], tag_ids: Sequence[Sequence[int]]) -> list[list[Proposal]]:
        """``images`` are RGB pictures."""
        found: list[dict[int, list[Proposal]]] = [{} for _ in images]
        shapes: dict[tuple[int, int], list[tuple[int, Text]]] = defaultdict(list)
        for number, (image, tags) in enumerate(zip(images, tag_ids, strict=True)):
            for text in self.texts(tags):
                shapes[self._shape(image)].append((number, text))
        for shape, asked in shapes.items():
            for start in range(0, len(asked), self.batch):
                part = asked[start : start + self.batch]
                seen = self.look(shape, [images[number] for number, _ in part], [text for _, text in part])
                for (number, text), boxes, scores in zip(part, *seen, strict=True):
                    for tag, span in text.spans.items():
                        found[number][tag] = self._best(tag, boxes, scores[:, list(span)].amax(1))
        return [
            [proposal for tag in tags for proposal in proposals.get(tag, ())]
            for tags, proposals in zip(tag_ids, found, strict=True)
        ]

    def texts(self, tags: Sequence[int]) -> list[Text]:
        """The tags' prompts, each closed by a full stop as the model was trained, in as few texts as hold them."""
        texts: list[Text] = []
        words: list[str] = []
        spans: dict[int, tuple[int, ...]] = {}
        used = 2  # [CLS] and [SEP]
        for tag in dict.fromkeys(tags):
            prompt = self.prompts[tag].lower().strip().rstrip(".")
            pieces = len(self.model.tokenizer(prompt, add_special_tokens=False)["input_ids"])
            if not 0 < pieces <= LONGEST_TEXT - 3:
                continue
            if used + pieces + 1 > LONGEST_TEXT:
                texts.append(Text(" ".join(words), spans))
                words, spans, used = [], {}, 2
            # the place of [CLS] is 0, so that the next piece stands one before the number of pieces so far
            spans[tag] = tuple(range(used - 1, used - 1 + pieces))
            words.append(f"{prompt} .")
            used += pieces + 1
        return [*texts, Text(" ".join(words), spans)] if spans else texts

    def _shape(self, image: Image.Image) -> tuple[int, int]:
        """(height, width) of the picture as the model sees it; larger than asked where it has fewer places than the
        model has queries, which it chooses among them."""
        scale = self.long_edge / max(image.size)
        while True:
            width, height = (max(STRIDE, round(side * scale / STRIDE) * STRIDE) for side in image.size)
            if places(height, width, self.model.num_feature_levels) >= self.model.num_queries:
                return height, width
            scale *= 1.25

    def look(
        self, shape: tuple[int, int], images: Sequence[Image.Image], texts: Sequence[Text]
    ) -> tuple[Tensor, Tensor]:
        """Boxes (B, queries, 4) as x0, y0, x1, y1 in shares, and scores (B, queries, pieces)."""
        pixels = [self.pixels(image, shape) for image in images]
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=self.half_precision)
        with warnings.catch_warnings(), half:
            warnings.simplefilter("ignore")  # of torch and transformers, about calls that the package makes
            output = self.model(torch.stack(pixels).to(self.device), captions=[text.text for text in texts])
        boxes = box_convert(output["pred_boxes"].float(), "cxcywh", "xyxy").clamp(0, 1).cpu()
        return boxes, output["pred_logits"].float().sigmoid().cpu()

    def pixels(self, image: Image.Image, shape: tuple[int, int] | None = None) -> Tensor:
        """A picture as the model takes it, (3, H, W), in its own shape or another (height, width)."""
        return self.to_tensor(v2.functional.resize(image, list(shape or self._shape(image)), antialias=True))

    def _best(self, tag: int, boxes: Tensor, scores: Tensor) -> list[Proposal]:
        likely = (scores >= self.threshold) & (boxes[:, 2:] > boxes[:, :2]).all(1)
        boxes, scores = boxes[likely], scores[likely]
        kept = nms(boxes, scores, SAME_PLACE)[: self.max_regions]
        return [Proposal(tag, _box(boxes[one]), float(scores[one])) for one in kept.tolist()]


def places(height: int, width: int, levels: int) -> int:
    """The image tokens that the model has of a picture of so many pixels: of 8 pixels a side, of 16, and so on."""
    return sum(math.ceil(height / 8 / 2**level) * math.ceil(width / 8 / 2**level) for level in range(levels))


def _box(box: Tensor) -> Box:
    x0, y0, x1, y1 = box.tolist()
    return x0, y0, x1, y1
