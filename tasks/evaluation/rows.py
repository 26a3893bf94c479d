"""The rows of the ablation: models that are trained alike and differ in their labels, and what stands beside them.

The stages train, measure and compare them, the command ``ablate`` trains some of them with many seeds, and the report
shows them.
"""

from __future__ import annotations

from enum import StrEnum

TUNED = ", fine-tuned"


class Row(StrEnum):
    """A row's name. ``heading`` is what people read of the model; ``taught`` says which labels it learnt from."""

    heading: str
    taught: str

    def __new__(cls, name: str, heading: str = "", taught: str = "") -> Row:
        row = str.__new__(cls, name)
        row._value_ = name
        row.heading = heading
        row.taught = taught
        return row

    CHANCE = "chance", "by chance"
    ZERO_SHOT = "zero_shot", "zero-shot teacher"
    PARSED = "parsed", "trained on parsed tags", "parsed captions"
    GENERATION = "generation", "+ generation", "+ generation"
    CLEANING = "cleaning", "+ cleaning", "+ cleaning"  # the retrained model
    FINE_TUNED = "fine_tuned", "+ fine-tuning", f"+ cleaning{TUNED}"
    TRUTH = "truth", "trained on the truth", "the known truth"
    CEILING = "ceiling", "trained on all that is known", "all captions"  # of ``ablate``: the truth, or all captions
    PARSED_FINE_TUNED = "parsed_fine_tuned", "parsed tags, then fine-tuning", f"parsed captions{TUNED}"
    CLEANING_FINE_TUNED = "cleaning_fine_tuned", "+ cleaning, then fine-tuning", f"+ cleaning{TUNED}"
    TRUTH_FINE_TUNED = "truth_fine_tuned", "truth, then fine-tuning", f"the known truth{TUNED}"
    CEILING_FINE_TUNED = "ceiling_fine_tuned", "all that is known, then fine-tuning", f"all captions{TUNED}"

    @property
    def fine_tuned(self) -> Row:
        """The same row after it went on from fully described images."""
        return Row(f"{self}_fine_tuned")


STEPS = (Row.ZERO_SHOT, Row.PARSED, Row.GENERATION, Row.CLEANING, Row.FINE_TUNED)
"""What the engine makes, each better than the one before it if all went well."""

FINAL = (Row.FINE_TUNED, Row.CLEANING)
"""The model that a store's users get: the first that is there."""

TRAINED_ALIKE = {Row.CLEANING: Row.PARSED, Row.FINE_TUNED: Row.PARSED_FINE_TUNED}
"""What each of the engine's models is compared with."""

OF_STAGES = (Row.PARSED, Row.GENERATION, Row.TRUTH)
"""What `train-ablation` trains, the last where the source knows the truth."""

OF_COMMAND = (Row.PARSED, Row.GENERATION, Row.CLEANING, Row.CEILING)
"""What ``ablate`` trains."""
