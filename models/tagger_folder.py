"""A model folder: ``model.safetensors``, ``config.json``, ``labels.json``, its card and, with a captioner,
``tokenizer.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from safetensors.torch import load_model, save_file
from torch import nn

from models.config import Label, TaggerConfig
from models.model_card import card
from models.text import CaptionTokenizer

WEIGHTS, CONFIG, LABELS, TOKENIZER = "model.safetensors", "config.json", "labels.json", "tokenizer.json"
CARD = "README.md"


class Described(Protocol):
    """What a folder tells of a tagger."""

    @property
    def config(self) -> TaggerConfig: ...

    @property
    def labels(self) -> Sequence[Label]: ...

    @property
    def tokenizer(self) -> CaptionTokenizer | None: ...


class Saved(Described, Protocol):
    """A tagger with its weights."""

    def state_dict(self, *, keep_vars: bool = ...) -> dict[str, Any]: ...


def save(model: Saved, folder: Path | str, sections: Mapping[str, str] | None = None) -> None:
    """Writes ``model`` into ``folder``, which is made if need be. Shared weights are written once.

    ``sections`` (title -> Markdown) are added to its card.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {id(value): (name, value) for name, value in reversed(model.state_dict(keep_vars=True).items())}
    # the same model makes the same bytes: safetensors' save_model lists shared weights in a random order
    named = {name: value.detach().contiguous() for name, value in reversed(weights.values())}
    save_file(named, str(folder / WEIGHTS), {"format": "pt"})
    describe(model, folder, sections)


def describe(model: Described, folder: Path, sections: Mapping[str, str] | None = None) -> None:
    """Writes all but the weights into ``folder``."""
    (folder / CONFIG).write_text(model.config.to_json(), encoding="utf-8")
    rows = [json.dumps(asdict(label), ensure_ascii=False) for label in model.labels]
    (folder / LABELS).write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")
    (folder / CARD).write_text(card(model.config, model.labels, sections), encoding="utf-8")
    if model.tokenizer is not None:
        model.tokenizer.save(folder / TOKENIZER)


def read(folder: Path | str) -> tuple[TaggerConfig, list[Label], CaptionTokenizer | None]:
    """All but the weights; raises FileNotFoundError saying which file of a model folder is missing."""
    folder = Path(folder)
    _require(folder, WEIGHTS, CONFIG, LABELS)
    config, labels = read_description(folder)
    tokenizer = CaptionTokenizer.load(folder / TOKENIZER) if (folder / TOKENIZER).is_file() else None
    return config, labels, tokenizer


def read_description(folder: Path) -> tuple[TaggerConfig, list[Label]]:
    """The configuration and the labels, which an ONNX graph has beside it as well."""
    _require(folder, CONFIG, LABELS)
    config = TaggerConfig.from_json((folder / CONFIG).read_text(encoding="utf-8"))
    return config, [Label(**row) for row in json.loads((folder / LABELS).read_text(encoding="utf-8"))]


def _require(folder: Path, *names: str) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} is no model folder: {', '.join(missing)} missing")


def load_weights(model: nn.Module, folder: Path | str) -> None:
    """Loads the weights of ``folder`` into ``model``; raises RuntimeError where any is missing or left over."""
    load_model(model, str(Path(folder) / WEIGHTS))
