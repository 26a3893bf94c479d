"""What tags pictures before anything is trained: a CLIP where one is wanted, else the ImageNet classifiers.

A CLIP knows far more than ImageNet's classes, and its weights are large: it is offered once, where a person sits at the
terminal and the hub can be reached, and the answer is kept in the user's configuration folder.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from ram_engine.tagger import Tagger
from storage.user_folder import home_folder

CLIP, MEGABYTES = "open_clip:ViT-B-32-256:datacomp_s34b_b86k", 605


def zero_shot(tell: Callable[[str], None]) -> Tagger:
    """The tagger of a store without a model. Nothing is downloaded without a yes; ``tell`` gets the notes."""
    from models.weights import WeightsError, clip_checkpoint, hub_in_reach

    wanted = remembered()
    at_hand = clip_checkpoint(*CLIP.split(":")[1:])[0] is not None
    if wanted is None and not at_hand and sys.stdin.isatty() and sys.stderr.isatty() and hub_in_reach():
        wanted = _ask(tell)
        remember(wanted, tell)
    if wanted is False or not (at_hand or (wanted and hub_in_reach())):
        return Tagger.zero_shot()
    tell(f"{'found' if at_hand else 'loading'} {CLIP}; the first time it reads some hundred words, which takes minutes")
    try:
        return Tagger.zero_shot(CLIP)
    except (WeightsError, RuntimeError) as error:  # open_clip says so where a download breaks off
        tell(f"{CLIP} could not be loaded ({error})")
        return Tagger.zero_shot()


def _ask(tell: Callable[[str], None]) -> bool:
    tell(
        f"A CLIP, {CLIP.removeprefix('open_clip:')}, would know far more than ImageNet's classes: {MEGABYTES} MB from "
        "the hub, once. This is asked only now, and the answer is kept."
    )
    sys.stderr.write("Download it? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def answers() -> Path:
    """The file of answers: in ``XDG_CONFIG_HOME``, else ``~/.config``. Raises ValueError for a user without a home."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or home_folder() / ".config") / "ram-engine" / "answers.json"


def remembered() -> bool | None:
    """Whether the CLIP is wanted; None: nobody was asked."""
    try:
        answer = json.loads(answers().read_text(encoding="utf-8")).get(CLIP)
    except (OSError, ValueError, AttributeError):
        return None
    return answer if isinstance(answer, bool) else None


def remember(wanted: bool, tell: Callable[[str], None]) -> None:
    """Keeps the answer; where that cannot be, says so."""
    try:
        answers().parent.mkdir(parents=True, exist_ok=True)
        answers().write_text(json.dumps({CLIP: wanted}) + "\n", encoding="utf-8")
    except (OSError, ValueError) as error:
        tell(f"the answer could not be kept: {error}")
