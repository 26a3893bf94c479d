"""The tagger as an ONNX graph. RAM takes its label queries as an input: any list of labels works at run time."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.ram import RAM
from models.tagger import Tagger

LARGEST_FILE = 2**31  # of a protocol buffer: larger weights lie beside it
GRAPH, QUERIES = "model.onnx", "label_queries.npy"


class _Graph(nn.Module):
    def __init__(self, model: Tagger) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, label_queries: Tensor | None = None) -> Tensor:
        return self.model.tag_logits(self.model.encode_image(images), label_queries)


def export(model: Tagger, folder: Path | str) -> Path:
    """Writes ``model.onnx`` into ``folder``: images (B, 3, H, W) -> logits (B, T), any B.

    The graph of a RAM has a second input, label queries (T, D), any T; ``label_queries.npy`` holds those of its own
    labels, :func:`models.label_queries.build` makes others. Needs the extra ``onnx``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    size = model.config.image_size
    inputs: tuple[Tensor, ...] = (torch.zeros(2, 3, size, size),)
    dynamic = {"images": {0: torch.export.Dim("batch")}}
    if isinstance(model, RAM):
        inputs = (*inputs, model.label_queries.detach())
        dynamic["label_queries"] = {0: torch.export.Dim("labels")}
        np.save(folder / QUERIES, model.label_queries.detach().cpu().numpy())
    bytes_ = sum(weights.numel() * weights.element_size() for weights in model.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(
            _Graph(model).eval(),
            inputs,
            str(folder / GRAPH),
            input_names=list(dynamic),
            output_names=["logits"],
            dynamic_shapes=dynamic,
            dynamo=True,
            external_data=bytes_ >= LARGEST_FILE,
            verbose=False,
        )
    return folder / GRAPH
