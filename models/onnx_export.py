"""The tagger as an ONNX graph. RAM takes its label queries as an input: any list of labels works at run time."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.ram import RAM
from models.tagger import Tagger

LARGEST_FILE = 2**31  # of a protocol buffer: larger weights lie beside it
GRAPH, GRAPH_INT8, QUERIES = "model.onnx", "model.int8.onnx", "label_queries.npy"


class _Graph(nn.Module):
    def __init__(self, model: Tagger) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, label_queries: Tensor | None = None) -> Tensor:
        return self.model.tag_logits(self.model.encode_image(images), label_queries)


def export(model: Tagger, folder: Path | str, int8: bool = False) -> Path:
    """Writes ``model.onnx`` into ``folder``: images (B, 3, H, W) -> logits (B, T), any B.

    The graph of a RAM has a second input, label queries (T, D), any T; ``label_queries.npy`` holds those of its own
    labels, :func:`models.label_queries.build` makes others. With ``int8`` it is ``model.int8.onnx``, whose linear
    layers have weights of 8 bits, a scale a channel, and round their inputs by their range. Needs the extra ``onnx``.
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
    return _to_int8(folder) if int8 else folder / GRAPH


def _to_int8(folder: Path) -> Path:
    path = list(sys.path)
    from onnxruntime.quantization import QuantType, quantize_dynamic

    sys.path[:] = path  # it adds a folder that has a package 'models' too, which processes started later would find
    logging.disable(logging.WARNING)  # that the graph might be simplified before
    try:
        quantize_dynamic(
            folder / GRAPH,
            folder / GRAPH_INT8,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.disable(logging.NOTSET)
    for file in folder.glob(f"{GRAPH}*"):  # its weights may lie beside it
        file.unlink()
    return folder / GRAPH_INT8
