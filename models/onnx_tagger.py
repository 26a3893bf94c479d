"""An exported tagger, run on a CPU without its torch modules: by OpenVINO where it is installed, else ONNX Runtime."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import tagger_folder
from models.config import label_thresholds
from models.image_encoder import Preprocessing
from models.onnx_export import GRAPH, GRAPH_INT8, QUERIES

AT_ONCE = 2  # images: more are no faster, and with thousands of labels each takes over half a gigabyte
Run = Callable[[Mapping[str, NDArray[np.float32]]], NDArray[np.float32]]


class OnnxTagger:
    """The folder that :func:`models.onnx_export.export` and :func:`models.tagger_folder.describe` wrote.

    Float32 graphs are run in float32, whatever the processor would rather do. ``threads`` 0: as many as torch uses.
    """

    def __init__(self, folder: Path | str, threads: int = 0) -> None:
        """Raises FileNotFoundError where ``folder`` is none, ModuleNotFoundError without the extra ``onnx``."""
        folder = Path(folder)
        self.config, self.labels = tagger_folder.read_description(folder)
        graph = next((folder / name for name in (GRAPH_INT8, GRAPH) if (folder / name).is_file()), None)
        if graph is None:
            raise FileNotFoundError(f"{folder} is no ONNX folder: {GRAPH} missing")
        self.label_queries: NDArray[np.float32] | None = None
        if self.config.architecture == "ram":
            with tagger_folder.naming(folder / QUERIES, "holds no label queries"):
                self.label_queries = np.load(folder / QUERIES).astype(np.float32)
                if (len(self.label_queries), self.label_queries.shape[-1]) != (
                    len(self.labels),
                    self.config.query_width,
                ):
                    raise ValueError(f"of shape {self.label_queries.shape}")
        threads = threads or torch.get_num_threads()
        # OpenVINO would turn the rounded layers back into float
        by_openvino = graph.name == GRAPH and importlib.util.find_spec("openvino") is not None
        self._graph = graph
        self.runtime = "OpenVINO" if by_openvino else "ONNX Runtime"
        with tagger_folder.naming(graph, "is no graph of a tagger"):
            self._run = _openvino(graph, threads) if by_openvino else _onnx_runtime(graph, threads)

    @property
    def preprocessing(self) -> Preprocessing:
        """What the graph expects of its images."""
        return Preprocessing(self.config.image_size, self.config.image_mean, self.config.image_std)

    def thresholds(self) -> Tensor:
        """Every label's threshold, a probability: (T,)."""
        return torch.tensor(label_thresholds(self.config, self.labels))

    def tag_logits(self, images: Tensor, label_queries: Tensor | None = None) -> Tensor:
        """Logits (B, T) of normalised images (B, 3, H, W), for the model's own labels or ``label_queries`` (T, D)."""
        labels = {}
        if self.label_queries is not None:
            labels["label_queries"] = self.label_queries if label_queries is None else label_queries.numpy()
        elif label_queries is not None:
            raise ValueError("Tag2Text knows only the labels it was trained with; for other labels take a RAM")
        parts = [self._run({"images": part.numpy(), **labels}) for part in images.split(AT_ONCE)]
        logits = torch.from_numpy(np.concatenate(parts))
        wanted = len(labels.get("label_queries", self.labels))
        if logits.shape != (len(images), wanted):
            raise tagger_folder.ModelFolderError(
                f"{self._graph} gives logits of shape {tuple(logits.shape)}, not {(len(images), wanted)}: it is of "
                "another model than the files beside it"
            )
        return logits


def is_onnx_folder(folder: Path) -> bool:
    """Whether ``folder`` holds a graph, and no weights for torch."""
    graph = any((folder / name).is_file() for name in (GRAPH, GRAPH_INT8))
    return graph and not (folder / tagger_folder.WEIGHTS).is_file()


def _onnx_runtime(graph: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session: Any = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda feed: session.run(None, dict(feed))[0]


def _openvino(graph: Path, threads: int) -> Run:
    import openvino

    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled: Any = openvino.Core().compile_model(graph, "CPU", exact)
    request = compiled.create_infer_request()
    return lambda feed: request.infer(dict(feed))[0].copy()
