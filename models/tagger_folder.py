"""A model folder: ``model.safetensors``, ``config.json``, ``labels.json``, its card and, with a captioner,
``tokenizer.json``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import safe_open
from safetensors.torch import load_model, save_file
from torch import nn

from models import image_encoder, label_queries
from models.config import Label, TaggerConfig
from models.model_card import card
from models.text import CaptionTokenizer

WEIGHTS, CONFIG, LABELS, TOKENIZER = "model.safetensors", "config.json", "labels.json", "tokenizer.json"
CARD = "README.md"
Made = TypeVar("Made", bound=nn.Module)


class ModelFolderError(ValueError):
    """A file of a model folder is not what it should be; the message says which, and what to do."""


@contextmanager
def naming(file: Path, what: str) -> Iterator[None]:
    """Says of which file it is that it cannot be read, whatever a library says of it."""
    try:
        yield
    except ModelFolderError:
        raise
    except Exception as error:  # those of JSON, pydantic, tokenizers, safetensors and torch have nothing in common
        raise ModelFolderError(f"{file} {what} ({_reason(error)}): copy the model folder again") from error


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        return ": ".join(filter(None, (".".join(map(str, problem["loc"])), problem["msg"])))
    return next(iter(str(error).splitlines()), type(error).__name__)


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


def read(folder: Path | str, own_encoders: bool = False) -> tuple[TaggerConfig, list[Label], CaptionTokenizer | None]:
    """All but the weights, see :func:`read_description`."""
    folder = Path(folder)
    _require(folder, WEIGHTS, CONFIG, LABELS)
    config, labels = read_description(folder, own_encoders)
    if not (folder / TOKENIZER).is_file():
        return config, labels, None
    with naming(folder / TOKENIZER, "is no tokenizer"):
        tokenizer = CaptionTokenizer.load(folder / TOKENIZER)
    if config.captioner is not None and len(tokenizer) > config.captioner.vocabulary:
        raise ModelFolderError(
            f"{folder / TOKENIZER} has {len(tokenizer)} word pieces, and {CONFIG} beside it says "
            f"{config.captioner.vocabulary}: copy the model folder again"
        )
    return config, labels, tokenizer


def read_description(folder: Path, own_encoders: bool = False) -> tuple[TaggerConfig, list[Label]]:
    """The configuration and the labels, which an ONNX graph has beside it as well.

    Raises FileNotFoundError saying which file of a model folder is missing, :class:`ModelFolderError` where one is not
    what it should be, or names encoders that are not known: these could read any file, or ask the hub. Only a store's
    may be ``own_encoders``, which its settings name.
    """
    _require(folder, CONFIG, LABELS)
    with naming(folder / CONFIG, "is no configuration of a tagger"):
        config = TaggerConfig.from_json((folder / CONFIG).read_text(encoding="utf-8"))
    with naming(folder / LABELS, "is no list of labels"):
        labels = TypeAdapter(list[Label]).validate_json((folder / LABELS).read_bytes(), strict=True)
    if len(labels) != config.labels:
        raise ModelFolderError(
            f"{folder / LABELS} has {len(labels)} labels, and {CONFIG} beside it says {config.labels}: "
            "copy the model folder again"
        )
    if not own_encoders:
        _refuse_own_encoders(folder / CONFIG, config)
    return config, labels


def _refuse_own_encoders(file: Path, config: TaggerConfig) -> None:
    if not image_encoder.is_known(config.image_encoder, config.image_encoder_options):
        options = f" with {config.image_encoder_options}" if config.image_encoder_options else ""
        raise ModelFolderError(
            f"{file} names the image encoder '{config.image_encoder}'{options}: a model folder may name timm's own "
            f"alone, with {', '.join(image_encoder.SIZES)}; another is read from the store that it was trained in"
        )
    if not label_queries.is_known(config.text_encoder):
        raise ModelFolderError(
            f"{file} names the text encoder '{config.text_encoder}': a model folder may name "
            f"{label_queries.MINILM} and {label_queries.OPEN_CLIP}MODEL[:PRETRAINED] alone; another is read from the "
            "store that it was trained in"
        )


def _require(folder: Path, *names: str) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} is no model folder: {', '.join(missing)} missing")


def make(folder: Path, config: TaggerConfig, create: Callable[[], Made]) -> Made:
    """What ``create`` makes of the configuration in ``folder``, if the weights there are of such a model: sizes that
    they do not have may ask for any memory. Raises :class:`ModelFolderError`."""
    with naming(folder / WEIGHTS, "holds no weights"), safe_open(folder / WEIGHTS, "pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    with naming(folder / CONFIG, "describes no model that can be made"):
        layers = [config.decoder_layers, config.captioner.layers if config.captioner else 0]
        if sum(layers + list(config.image_encoder_options.get("depths", []))) > len(shapes):
            raise ValueError(f"more layers than the {len(shapes)} tensors that {WEIGHTS} has")
        with torch.device("meta"):  # which takes no memory
            state = create().state_dict(keep_vars=True)
    saved = {id(value) for name, value in state.items() if name in shapes}  # what is shared is saved once
    wrong = [f"has no '{name}'" for name, value in state.items() if id(value) not in saved]
    wrong += [f"has '{name}', which its model does not have" for name in shapes.keys() - state.keys()]
    for name in shapes.keys() & state.keys():
        if shapes[name] != tuple(state[name].shape):
            wrong.append(f"has '{name}' of shape {shapes[name]}, not {tuple(state[name].shape)}")
    if wrong:
        raise ModelFolderError(
            f"{folder / WEIGHTS} {min(wrong)}, as {CONFIG} beside it says: they are of two models, copy the model "
            "folder again"
        )
    with naming(folder / CONFIG, "describes no model that can be made"):
        return create()


def load_weights(model: nn.Module, folder: Path | str) -> None:
    """Loads the weights of ``folder`` into ``model``; raises :class:`ModelFolderError` where any is missing or left
    over."""
    with naming(Path(folder) / WEIGHTS, "does not hold the weights of its model"):
        load_model(model, str(Path(folder) / WEIGHTS))
