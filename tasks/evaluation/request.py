"""What an ablation is asked for; known before torch is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.settings.pipeline import PipelineSettings


@dataclass(frozen=True)
class Variation:
    """What one run of the ablation looks at: the ``tags`` most frequent labels and the first ``images`` training
    images (0: all), seen by the annotator's further encoder of that image ``size`` (0: by the tagger's own), and on how
    many images with the ceiling's labels rows are fine-tuned (0: none)."""

    tags: int = 0
    images: int = 0
    size: int = 0
    fine_tune: int = 0


@dataclass(frozen=True)
class AblationRequest:
    """One run of the ablation: every row is trained as ``settings.retrain`` says, with so many ``seeds``.

    ``captions`` (name of an image in the source -> all its captions) give the ceiling's labels and the test's truth;
    without them the truth is the sample's, a person's own labels, or what the store's captions of the test images name,
    and there may be no ceiling. Intervals hold 95% of ``samples`` bootstrap samples.
    """

    settings: PipelineSettings
    seeds: int
    variation: Variation = Variation()
    captions: Mapping[str, Sequence[str]] | None = None
    samples: int = 500
