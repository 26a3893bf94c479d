"""Any image classifier as a filter: the probability of the classes that are not wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.transforms_factory import create_transform

from models.weights import try_hub_once

Unwanted = Callable[[Sequence[Image.Image]], list[float]]


def unwanted_probability(classifier: str, classes: Sequence[int], device: torch.device) -> Unwanted:
    """Pictures -> the summed probability (0..1) of ``classes`` (numbers) by ``classifier``.

    ``classifier`` is ``timm:MODEL`` (its own normalisation; weights from the Hub or its cache), or an ONNX file that
    takes (B, 3, H, W) with ImageNet's normalisation and gives logits (B, classes). Raises ValueError where it cannot be
    had, or has no such class.
    """
    logits_of = _onnx(classifier) if classifier.endswith(".onnx") else _timm(classifier, device)

    def probability(pictures: Sequence[Image.Image]) -> list[float]:
        logits = torch.from_numpy(logits_of(pictures)).float()
        if max(classes) >= logits.shape[1]:
            raise ValueError(f"{classifier} has {logits.shape[1]} classes, and measure.unwanted names {max(classes)}")
        found: list[float] = logits.softmax(1)[:, list(classes)].sum(1).tolist()
        return found

    return probability


def _timm(name: str, device: torch.device) -> Callable[[Sequence[Image.Image]], np.ndarray]:
    try:
        try_hub_once()
        model = timm.create_model(name.removeprefix("timm:"), pretrained=True).eval().to(device)
    except Exception as error:  # the library raises what its many parts raise
        raise ValueError(f"the classifier {name} cannot be loaded: {type(error).__name__}: {error}") from error
    prepare = create_transform(**resolve_model_data_config(model), is_training=False)

    @torch.inference_mode()
    def logits(pictures: Sequence[Image.Image]) -> np.ndarray:
        found: np.ndarray = model(torch.stack([prepare(each) for each in pictures]).to(device)).float().cpu().numpy()
        return found

    return logits


def _onnx(file: str) -> Callable[[Sequence[Image.Image]], np.ndarray]:
    try:
        import onnxruntime
    except ImportError:
        raise ValueError("a classifier in ONNX form needs the extra: pip install 'ram-engine[onnx]'") from None
    if not Path(file).is_file():
        raise ValueError(f"the classifier {file} does not exist")
    session = onnxruntime.InferenceSession(file, providers=onnxruntime.get_available_providers())
    asked = session.get_inputs()[0]
    height, width = (one if isinstance(one, int) else 224 for one in asked.shape[2:4])
    mean, std = (np.asarray(one, np.float32) for one in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))

    def logits(pictures: Sequence[Image.Image]) -> np.ndarray:
        images = [np.asarray(each.resize((width, height), Image.Resampling.BICUBIC), np.float32) for each in pictures]
        batch = ((np.stack(images) / 255 - mean) / std).transpose(0, 3, 1, 2)
        if asked.shape[0] == 1:
            return np.concatenate([session.run(None, {asked.name: one[None]})[0] for one in batch])
        found: np.ndarray = session.run(None, {asked.name: batch})[0]
        return found

    return logits
