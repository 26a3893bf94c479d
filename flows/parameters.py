"""The parameters that flows share, with what Prefect's form says of each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.settings import MOST_ROUNDS
from tasks.stages import stages

DEFAULT_STORE = "runs/sample"
STAGE_NAMES = [stage.name for stage in stages(MOST_ROUNDS)]

Store = Annotated[
    str,
    Field(
        title="Store",
        min_length=1,
        description="A folder, or a URL such as s3://bucket/run. It is made where it is not there yet.",
    ),
]
Force = Annotated[bool, Field(title="Force", description="Compute everything of this stage, although it is done.")]
Refit = Annotated[
    bool,
    Field(
        title="Refit",
        description="Fit this stage anew on all that is there now; everything after it becomes stale.",
    ),
]
RetryRejected = Annotated[
    bool,
    Field(title="Retry rejected rows", description="Try the rows again that were set apart as unfit, and only those."),
]
Inputs = Annotated[
    list[str],
    Field(
        title="Snapshots to read",
        description="In place of the latest ones, as in regions@3f2a; `ram-engine show regions --versions` lists them.",
    ),
]
RoundNumber = Annotated[
    int, Field(title="Round", ge=1, le=MOST_ROUNDS, description="From the second on the retrained model annotates.")
]
Rounds = Annotated[int, Field(title="Rounds", ge=1, le=MOST_ROUNDS, description="How many the pipeline has run.")]
Candidate = Annotated[
    bool,
    Field(
        title="As a candidate",
        description="What is made does not become the latest; `ram-engine promote` does that when it is good.",
    ),
]
WarmStart = Annotated[
    bool, Field(title="Warm start", description="Go on from the latest model in place of new weights.")
]


def stage_choice(title: str, description: str) -> Field:  # type: ignore[valid-type]
    """A choice among the names of all stages, or of none."""
    return Field(title=title, description=description, json_schema_extra={"enum": ["", *STAGE_NAMES]})


Start = Annotated[
    str, stage_choice("Start with", "The first stage to look at: those before it stay as they are in the store.")
]
Until = Annotated[str, stage_choice("Stop after", "The last stage to run.")]
ForceStage = Annotated[str, stage_choice("Force", "A stage to compute again although it is done.")]
