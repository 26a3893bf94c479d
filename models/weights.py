"""Weights that do not lie in a folder of one's own: in the hub's cache on this machine, else in the hub.

Whether the hub can be reached is asked once, and shortly: its own client tries every file many times.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

HUB = "hub:"  # before OWNER/NAME: a path that was mistyped is no question to the hub
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
SECONDS = 3


class WeightsError(ValueError):
    """Weights that are not on this machine and that the hub did not give."""


def model_folder(name: str | Path, **options: Any) -> Path:
    """The folder of a model: ``name`` itself, or of ``hub:OWNER/NAME`` that of the hub's model, downloaded if need be;
    ``options`` go to ``huggingface_hub.snapshot_download``.

    Raises FileNotFoundError for what is neither, :class:`WeightsError` where the hub has or gives no such model.
    """
    text = str(name)
    if not text.startswith(HUB):
        if Path(name).is_dir():
            return Path(name)
        raise FileNotFoundError(f"there is no model folder {text}{_neighbours(Path(text))}")
    text = text.removeprefix(HUB)
    if not HUB_NAME.fullmatch(text):
        raise FileNotFoundError(f"'{text}' is no name of a model of the hub: write {HUB}OWNER/NAME")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        local = options.pop("local_files_only", False) or not hub_in_reach()
        return Path(snapshot_download(text, local_files_only=local, **options))
    except LocalEntryNotFoundError as error:
        why = no_hub()
        raise WeightsError(f"the hub's model {text} is not in the cache; {why}") from error
    except RepositoryNotFoundError as error:
        raise WeightsError(f"the hub shows you no model {text}") from error
    except HfHubHTTPError as error:
        raise WeightsError(f"the hub did not give the model {text}: {error}") from error


def _neighbours(path: Path) -> str:
    """The model folders beside a path that is not there."""
    beside = path.parent
    found = sorted(each.parent.name for each in beside.glob("*/config.json")) if beside.is_dir() else []
    return f" ({beside} has {', '.join(found[:8])})" if found else f"; a model of the hub is named {HUB}OWNER/NAME"


@cache
def hub_in_reach() -> bool:
    """Whether the hub may be asked (``HF_HUB_OFFLINE``) and answers within seconds."""
    import httpx
    import requests
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except (OSError, requests.RequestException, httpx.HTTPError):
        return False
    return True


def try_hub_once() -> None:
    """Lets libraries that would ask an absent hub many times (timm) find at once what the cache has, or nothing."""
    from huggingface_hub import constants
    from huggingface_hub.utils import reset_sessions  # type: ignore[attr-defined]

    if not hub_in_reach():
        constants.HF_HUB_OFFLINE = True
        reset_sessions()


def no_hub() -> str:
    """Why the hub gave nothing, as a part of a sentence."""
    from huggingface_hub import constants

    if os.environ.get("HF_HUB_OFFLINE"):
        return "the hub is not asked while HF_HUB_OFFLINE is set"
    return f"the hub ({constants.ENDPOINT}) cannot be reached"


def clip_checkpoint(model: str, pretrained: str) -> tuple[Path | None, dict[str, Any]]:
    """The file of open_clip's weights on this machine, None where there is none, and their normalisation of images.

    Raises ValueError for weights that open_clip does not know and that are no file.
    """
    import open_clip
    from huggingface_hub import try_to_load_from_cache

    known = open_clip.get_pretrained_cfg(model, pretrained)
    if not known and Path(pretrained).is_file():
        return Path(pretrained), {}
    if not known:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or f"none, and no model {model}"
        raise ValueError(
            f"open_clip has no weights '{pretrained}' of {model}, and there is no such file; it has: {tags}"
        )
    images = {name: known[name] for name in ("mean", "std", "interpolation", "resize_mode") if name in known}
    repository, _, file = known.get("hf_hub", "").rpartition("/")
    if not repository:
        own = Path(os.path.expanduser("~/.cache/clip")) / Path(known.get("url", "")).name  # a user may have no home
        return (own if own.is_file() else None), images
    file = file or "open_clip_pytorch_model.bin"
    safe = "open_clip_model.safetensors" if file == "open_clip_pytorch_model.bin" else f"{file[:-4]}.safetensors"
    for name in (safe, file):
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached), images
    return None, images


def need_hub(what: str, otherwise: str) -> None:
    """Raises :class:`WeightsError` at once where the hub would be asked for ``what`` in vain."""
    if not hub_in_reach():
        raise WeightsError(f"{what} is needed, its weights are not on this machine, and {no_hub()}; {otherwise}")
