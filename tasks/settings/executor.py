"""Where shards and trainings run. Nothing here changes a result, and nothing of it enters a key."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from tasks.settings.base import Settings
from tasks.settings.rules import Rule, at_least, in_schema, matching

MEETING = Rule(
    "training_nodes",
    at_least(2),
    {"rendezvous": matching(":[0-9]+$")},
    "training_nodes: several machines need to know where they meet: set executor.rendezvous to HOST:PORT",
)


class ExecutorSettings(Settings):
    """Where shards run. Nothing here changes a result."""

    kind: Literal["threads", "processes", "ray"] = Field(
        "threads",
        description="Shards run in threads of this process, in processes of this machine, or in actors on a Ray "
        "cluster.",
    )
    workers: int = Field(
        0, ge=0, description="So many workers compute; 0: one a core, or one in all for a model in threads."
    )
    device: str = Field("", description="Models run on this torch device; empty: on a GPU where there is one.")
    address: str = Field("", description="This Ray cluster is used; empty: one on this machine.")
    cpus: int = Field(1, ge=1, description="A worker on Ray takes so many processor cores.")
    gpus: float = Field(0, ge=0, description="A worker on Ray takes so many GPUs, or such a share of one.")
    training_processes: int = Field(
        1, ge=1, description="A training is split over so many processes on each of its machines, one a GPU."
    )
    training_nodes: int = Field(
        1, ge=1, description="So many machines share a training; all but the run's own are lent by `ram-engine join`."
    )
    rendezvous: str = Field("", description="The machines of a training meet at this HOST:PORT of the run's machine.")

    model_config = ConfigDict(json_schema_extra=in_schema([MEETING]))

    @model_validator(mode="after")
    def _meets_somewhere(self) -> ExecutorSettings:
        MEETING.check(self)
        return self
