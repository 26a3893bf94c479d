"""The model card of a model folder: what it knows, how it is used, what it is bad at (Mitchell et al. 2019)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from models.config import Label, TaggerConfig, label_thresholds

METADATA = """\
---
library_name: ram-engine
pipeline_tag: image-classification
tags: [image-tagging, recognize-anything]
---
"""
WEAKNESSES = """\
* Counting, spatial relations and text in the picture: tags say what is there, not how often or where.
* Fine kinds (a breed, a model of car) that captions rarely name.
* What people who write captions find not worth a word, and the bias in whom and what they name: tags repeat both.
* Pictures of another sort than those it learnt from.
"""


def card(config: TaggerConfig, labels: Sequence[Label], sections: Mapping[str, str] | None = None) -> str:
    """Markdown with the metadata that a hub reads; ``sections`` (title -> text) come between figures and weaknesses,
    the one without a title opens the card."""
    sections = dict(sections or {})
    opening = sections.pop("", "")
    captions = ", and writes a caption" if config.captioner is not None else ""
    any_label = ", or scores any labels that it is given" if config.architecture == "ram" else ""
    types: dict[str, list[float]] = defaultdict(list)
    for label, threshold in zip(labels, label_thresholds(config, labels), strict=True):
        types[re.sub(r"\W+", " ", label.type)].append(threshold)  # a word, whoever wrote the labels
    rows = [
        (name, f"{len(values):,}", f"{min(values):.2f}", f"{median(values):.2f}", f"{max(values):.2f}")
        for name, values in sorted(types.items())
    ]
    parts = [
        METADATA,
        f"# {'RAM' if config.architecture == 'ram' else 'Tag2Text'} with {len(labels):,} tags",
        *([opening] if opening else []),
        f"Tags a picture with words of everyday language{any_label}{captions}. Image encoder {config.image_encoder} at "
        f"{config.image_size} pixels, recognition decoder {config.decoder_layers} x {config.hidden}.",
        '```python\nfrom ram_engine import Tagger\n\ntagger = Tagger.from_pretrained("FOLDER or hub:OWNER/NAME")\n'
        'tagger(["photo.jpg"])\n```',
        "## Tags and thresholds",
        table(("type", "tags", "lowest threshold", "median", "highest"), rows),
        *(f"## {title}\n\n{text}" for title, text in sections.items()),
        f"## What it is bad at\n\n{WEAKNESSES}",
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])
