"""The authors' checkpoints: ``{"model": state_dict}`` with the parameter names of MS-Swin and BERT, as ``.pth`` files.

Only tensors are read from such a file, never code. Sizes come from the tensors' shapes; what no shape tells (heads of
the text side, picture size) is as published, or given.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from timm.models.swin_transformer import checkpoint_filter_fn
from torch import Tensor

from models import tagger_folder
from models.config import CaptionerConfig, Label, TaggerConfig
from models.ram import RAM
from models.tag2text import Tag2Text
from models.tagger import Tagger
from models.text import CAPTION, END, PAD, TAGS, CaptionTokenizer

# The released names of parts, and ours.
PARTS = {
    "tagging_head.": "recognition_decoder.",
    "vision_multi.": "recognition_decoder.",  # legacy
    "tag_encoder.": "captioner.tag_encoder.",
    "text_decoder.": "captioner.text_decoder.",
    "image_proj.": "image_projection.",
    "wordvec_proj.": "label_projection.",
    "fc.": "classifier.",
}
BUFFERS = ("relative_position_index", "attn_mask", "position_ids")
BERT_VOCABULARY = 30524
PUBLISHED_PROMPT = "a picture of"


class CheckpointError(ValueError):
    """A file that is no checkpoint of Tag2Text or RAM."""


def read(path: Path | str) -> dict[str, Tensor]:
    """The state dict of an official checkpoint; raises :class:`CheckpointError` saying what the file is instead."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file")
    with path.open("rb") as file:
        start = file.read(64)
    # an archive or a pickle; other bytes can do harm to no one, but the unpickler would not say what they are
    if not start.startswith((b"PK", b"\x80")):
        raise CheckpointError(f"{path}: {_kind_of_file(start)}; expected a PyTorch checkpoint (.pth)")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds more than tensors and is not read, since loading it would run its code; "
            "expected a checkpoint of Tag2Text or RAM as its authors publish it"
        ) from error
    except (RuntimeError, EOFError, zipfile.BadZipFile, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path}: a truncated or damaged file ({error}); expected a PyTorch checkpoint (.pth), download it again"
        ) from error
    state = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: holds {_describe(content)}, not the state dict of a model")
    _check_kind(path, state)
    return state


def _kind_of_file(start: bytes) -> str:
    if not start:
        return "the file is empty"
    if start.startswith((b"<", b"version https://git-lfs")):
        return "this is a web page or a link to a file, not the file itself: download it again"
    if start[8:9] == b"{":
        return "this looks like a safetensors file, which is not the authors' format"
    return "no file that PyTorch wrote"


def _describe(content: Any) -> str:
    if isinstance(content, dict):
        return f"a dictionary with the keys {sorted(map(str, content))[:5]}"
    return f"a {type(content).__name__}"


def _check_kind(path: Path, state: Mapping[str, Tensor]) -> None:
    names = list(state)
    if "reweight_scale" in state:
        raise CheckpointError(f"{path}: this is RAM++, whose tags have many descriptions; expected Tag2Text or RAM")
    if not any(name.startswith(("tagging_head.", "vision_multi.")) for name in names):
        what = "an image encoder alone" if any("patch_embed" in name for name in names) else "another model"
        raise CheckpointError(
            f"{path}: this is {what} (its first tensors: {', '.join(names[:3]) or 'none'}); expected a checkpoint of "
            "Tag2Text or RAM with the parts visual_encoder, tagging_head, tag_encoder and text_decoder"
        )


def configuration(
    state: Mapping[str, Tensor],
    image_size: int | None = None,
    window: int | None = None,
    heads: int | None = None,
    decoder_heads: int = 4,
    special_ids: Mapping[str, int] | None = None,
    threshold: float = 0.68,
) -> TaggerConfig:
    """The configuration that a state dict's shapes tell.

    ``image_size`` in pixels; None: 32 times the attention window (224 for 7, 384 for 12). ``window``; None: the
    checkpoint's, where it divides the picture's grid, else as many as make 7 at 224 and 12 at 384, for which the
    position tables are resized. ``heads`` of the captioner; None: one for 64 channels, as BERT. ``special_ids``
    (pad_id, end_id, caption_id, tags_id) where the vocabulary is not the published one.
    """
    image_size, swin = _swin(_image_encoder(state), image_size, window)
    words = state["tag_encoder.embeddings.word_embeddings.weight"]
    layers = 1 + max(int(match[1]) for match in _matches(r"tag_encoder\.encoder\.layer\.(\d+)\.", state))
    decoder_layers = 1 + max(
        int(match[1]) for match in _matches(r"(?:tagging_head|vision_multi)\.encoder\.layer\.(\d+)\.", state)
    )
    ram = "wordvec_proj.weight" in state
    labels = state["label_embed"] if ram else state["label_embed.weight"]
    if special_ids is None and words.shape[0] != BERT_VOCABULARY:
        raise CheckpointError(
            f"the vocabulary has {words.shape[0]} words where the published one has {BERT_VOCABULARY}: "
            "say its special ids (pad_id, end_id, caption_id, tags_id)"
        )
    return TaggerConfig(
        architecture="ram" if ram else "tag2text",
        image_encoder="swin_base_patch4_window7_224",
        image_encoder_options=swin,
        image_size=image_size,
        hidden=words.shape[1],
        feed_forward=state["tag_encoder.encoder.layer.0.intermediate.dense.weight"].shape[0],
        decoder_layers=decoder_layers,
        decoder_heads=decoder_heads,
        labels=labels.shape[0],
        query_width=labels.shape[1],
        captioner=CaptionerConfig(
            layers=layers,
            heads=heads or max(1, words.shape[1] // 64),
            vocabulary=words.shape[0],
            positions=state["tag_encoder.embeddings.position_embeddings.weight"].shape[0],
            prompt=PUBLISHED_PROMPT if special_ids is None else "",
            **(special_ids or {}),
        ),
        threshold=threshold,
    )


def _swin(encoder: Mapping[str, Tensor], image_size: int | None, window: int | None) -> tuple[int, dict[str, Any]]:
    """The image size in pixels, and the options of timm's Swin, as :func:`configuration` says."""
    stages = 1 + max(int(match[1]) for match in _matches(r"layers\.(\d+)\.", encoder))
    depths, heads, trained_window = [], [], 0
    for stage in range(stages):
        blocks = _matches(rf"layers\.{stage}\.blocks\.(\d+)\.", encoder)
        depths.append(1 + max(int(match[1]) for match in blocks))
        table = encoder[f"layers.{stage}.blocks.0.attn.relative_position_bias_table"]
        heads.append(table.shape[1])
        trained_window = max(trained_window, (int(table.shape[0] ** 0.5) + 1) // 2)
    patch = encoder["patch_embed.proj.weight"]
    reduction = patch.shape[-1] * 2 ** (stages - 1)
    trained_size = trained_window * reduction
    image_size = image_size or trained_size
    if window is None:
        window = trained_window if image_size % trained_size == 0 else image_size // reduction
    return image_size, {
        "window_size": window,
        "patch_size": patch.shape[-1],
        "embed_dim": patch.shape[0],
        "mlp_ratio": encoder["layers.0.blocks.0.mlp.fc1.weight"].shape[0] / patch.shape[0],
        "depths": depths,
        "num_heads": heads,
    }


def _image_encoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = "visual_encoder."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _matches(pattern: str, names: Mapping[str, Tensor]) -> list[re.Match[str]]:
    found = [match for match in (re.match(pattern, name) for name in names) if match]
    if not found:
        raise CheckpointError(f"the checkpoint has no tensor like '{pattern}': expected one of Tag2Text or RAM")
    return found


def convert(state: Mapping[str, Tensor], model: Tagger) -> dict[str, Tensor]:
    """The state dict under our names, position tables resized to the model's windows where they differ."""
    backbone = checkpoint_filter_fn(_image_encoder(state), model.image_encoder.backbone)
    converted = {f"image_encoder.backbone.{name}": value for name, value in backbone.items()}
    for name, value in state.items():
        if name.startswith("visual_encoder.") or name.endswith(BUFFERS):
            continue
        for theirs, ours in PARTS.items():
            if name.startswith(theirs):
                name = ours + name.removeprefix(theirs)
                break
        converted[name.replace("label_embed", "label_queries", 1)] = value
    return converted


def load(
    state: Mapping[str, Tensor],
    config: TaggerConfig,
    labels: Sequence[Label] | None = None,
    tokenizer: CaptionTokenizer | None = None,
) -> Tagger:
    """The model of a state dict, in eval mode; raises :class:`CheckpointError` listing tensors missing or left over."""
    model: Tagger = (RAM if config.architecture == "ram" else Tag2Text)(config, labels, tokenizer)
    try:
        model.load_state_dict(convert(state, model))
    except RuntimeError as error:
        raise CheckpointError(f"the checkpoint does not fit {config.architecture}: {error}") from error
    return model.eval()


def labels_from_files(tags: Path | str, thresholds: Path | str | None = None) -> list[Label]:
    """Labels from the authors' lists: a tag a line and, beside it, a threshold a line."""
    names = [line.strip() for line in _text(tags).splitlines() if line.strip()]
    if thresholds is None:
        return [Label(name) for name in names]
    try:
        values = [float(line) for line in _text(thresholds).split()]
    except ValueError as error:
        raise CheckpointError(f"{thresholds}: {error}; expected a threshold a line") from error
    if len(values) != len(names):
        raise CheckpointError(f"{thresholds} has {len(values)} thresholds for the {len(names)} tags of {tags}")
    return [Label(name, threshold=value) for name, value in zip(names, values, strict=True)]


def _text(path: Path | str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: no text in UTF-8 ({error.reason} at byte {error.start})") from error


def import_checkpoint(
    checkpoint: Path | str,
    folder: Path | str,
    labels: Sequence[Label],
    tokenizer: CaptionTokenizer | None = None,
    **sizes: Any,
) -> Tagger:
    """Writes the model folder of an official checkpoint and returns the model.

    ``labels`` are the names behind the logits, see :func:`labels_from_files`; ``sizes`` as in :func:`configuration`.
    The published vocabulary is taken where no ``tokenizer`` is given. Raises :class:`CheckpointError`.
    """
    state = read(checkpoint)
    if tokenizer is not None:
        sizes["special_ids"] = {
            "pad_id": tokenizer.id(PAD),
            "end_id": tokenizer.id(END),
            "caption_id": tokenizer.id(CAPTION),
            "tags_id": tokenizer.id(TAGS),
        }
    try:
        config = configuration(state, **sizes)
    except (KeyError, IndexError, ZeroDivisionError) as error:  # tensors that are missing, or of another number of axes
        raise CheckpointError(f"{checkpoint}: is no checkpoint of Tag2Text or RAM as published ({error!r})") from error
    if len(labels) != config.labels:
        raise CheckpointError(f"{checkpoint} knows {config.labels} tags, but {len(labels)} names are given")
    tokenizer = tokenizer or CaptionTokenizer.bert()
    vocabulary = config.captioner.vocabulary if config.captioner else len(tokenizer)
    if len(tokenizer) != vocabulary:
        raise CheckpointError(f"{checkpoint} has {vocabulary} word pieces, the tokenizer {len(tokenizer)}")
    model = load(state, config, labels, tokenizer)
    tagger_folder.save(model, folder)
    return model
