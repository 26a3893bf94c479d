"""Where shards and trainings run. Nothing here changes a result, and nothing of it enters a key."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from tasks.settings.base import Settings


class ExecutorSettings(Settings):
    """Where shards run. Nothing here changes a result."""

    kind: Literal["threads", "processes", "ray"] = Field(
        "threads", description="Of this process, processes of this machine, or actors on a Ray cluster."
    )
    workers: int = Field(0, ge=0, description="0: one a core, or one in all for a model in threads.")
    device: str = Field("", description="A torch device; empty: a GPU where there is one.")
    address: str = Field("", description="A Ray cluster; empty: one on this machine.")
    cpus: int = Field(1, ge=1, description="Processor cores that a worker takes on Ray.")
    gpus: float = Field(0, ge=0, description="GPUs, or a share of one, that a worker takes on Ray.")
    training_processes: int = Field(
        1, ge=1, description="Processes that a training is split over on each of its machines, one a GPU."
    )
    training_nodes: int = Field(
        1, ge=1, description="Machines that share a training; all but the run's own are lent by `ram-engine join`."
    )
    rendezvous: str = Field("", description="HOST:PORT of the run's machine, where those of a training meet.")

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"training_nodes": {"minimum": 2}}, "required": ["training_nodes"]},
            "then": {"properties": {"rendezvous": {"pattern": ":[0-9]+$"}}, "required": ["rendezvous"]},
        }
    )

    @model_validator(mode="after")
    def _meets_somewhere(self) -> ExecutorSettings:
        if self.training_nodes > 1 and not self.rendezvous:
            raise ValueError("training_nodes: several machines need to know where they meet: set executor.rendezvous")
        return self
