"""The parameters that flows share: a default with the words that Prefect's form shows beside it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from tasks.machine.dag import MOST_ROUNDS, stages
from tasks.settings.executor import ExecutorSettings
from tasks.settings.pipeline import PipelineSettings

USUAL, USUAL_EXECUTOR = PipelineSettings(), ExecutorSettings()
STAGE_NAMES = [stage.name for stage in stages(MOST_ROUNDS)]

# Prefect's form takes bounds from a parameter's type and words from its default.
Url = Annotated[str, Field(min_length=1)]
Round = Annotated[int, Field(ge=1, le=MOST_ROUNDS)]
StageName = Annotated[str, Field(json_schema_extra={"enum": ["", *STAGE_NAMES]})]
Share = Annotated[float, Field(ge=0, le=1)]
Seeds = Annotated[int, Field(ge=1, le=100)]
Images = Annotated[int, Field(ge=0)]
Samples = Annotated[int, Field(ge=20, le=10_000)]

STORE: Any = Field(
    "runs/sample", description="A folder, or a URL such as s3://bucket/run. It is made where it is not there yet."
)
FORCE: Any = Field(False, description="Compute everything of this stage, although it is done.")
REFIT: Any = Field(False, description="Fit anew on all that is there now; everything that follows becomes stale.")
RETRY_REJECTED: Any = Field(False, description="Try the rows again that were set apart as unfit, and only those.")
INPUTS: Any = Field(
    [],
    description="Snapshots to read in place of the latest, such as regions@3f2a; `ram-engine show regions --versions` "
    "lists them.",
)
ROUND: Any = Field(1, description="From the second round on the retrained model annotates.")
ROUNDS: Any = Field(1, description="How many rounds the pipeline has run.")
CANDIDATE: Any = Field(
    False, description="What is made does not become the latest; `ram-engine promote` does that when it is good."
)
WARM_START: Any = Field(False, description="Go on from the latest model in place of new weights.")
START: Any = Field("", description="The first stage to look at: those before it stay as they are in the store.")
UNTIL: Any = Field("", description="The last stage to run.")
FORCED_STAGE: Any = Field("", description="A stage to compute again although it is done.")
RETRAIN_SHARE: Any = Field(
    0.05, description="A model is trained when so large a share of the images is new since the last training."
)
TOLERANCE: Any = Field(
    0.005, description="The new model takes over unless its mAP is lower than the present one's by more than this."
)
CAPTIONS: Any = Field(
    "",
    description="csv:FILE or coco:FILE with all captions of the images: the ceiling's labels, and the test's. Without "
    "them the truth is the sample's, or what the store's own captions name.",
)
SEEDS: Any = Field(3, description="Seeds of each row.")
DESCRIBED: Any = Field(0, description="Fine-tune rows on so many images with the ceiling's labels; 0: no.")
SAMPLES: Any = Field(500, description="Bootstrap samples, for the intervals.")
