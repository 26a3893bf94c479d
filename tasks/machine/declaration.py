"""How a stage is declared: once, with all that planning, flows, forms, status and documentation need of it.

Nothing here imports a stage's code: a machine without torch can plan and deploy.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from storage.names import of_round
from storage.schemas import Contract
from tasks.settings.base import Settings

Kind = Literal["map", "reduce", "training"]
Scope = Literal["once", "round", "last"]


@dataclass(frozen=True)
class Read:
    """An artifact that a stage reads, under the name ``alias`` that its code has for it (the artifact's own if empty).

    ``by_part``: part by part, as the stage works; else whole, pinned by its digest. ``optional`` inputs may be absent.
    A ``carried`` one is an earlier result of the stage itself, which it goes on from and whose change asks for no new
    one. With ``before`` it is the artifact of the round before, and in the first round the artifact that ``before``
    names ("": there is none then).
    """

    artifact: str
    alias: str = ""
    by_part: bool = False
    optional: bool = False
    carried: bool = False
    before: str | None = None

    @property
    def name(self) -> str:
        """What the stage's code calls it."""
        return self.alias or self.artifact

    def in_round(self, number: int, of_rounds: frozenset[str]) -> str:
        """The artifact that it is in round ``number``, "" where there is none; ``of_rounds`` are those rounds make."""
        if self.before is None:
            return of_round(self.artifact, number) if self.artifact in of_rounds else self.artifact
        return self.before if number == 1 else of_round(self.artifact, number - 1)


def parts(*artifacts: str) -> tuple[Read, ...]:
    """Artifacts that a stage reads part by part."""
    return tuple(Read(artifact, by_part=True) for artifact in artifacts)


def whole(*artifacts: str) -> tuple[Read, ...]:
    """Artifacts that a stage reads as wholes."""
    return tuple(Read(artifact) for artifact in artifacts)


def perhaps(*artifacts: str) -> tuple[Read, ...]:
    """Artifacts that a stage reads as wholes where they are there."""
    return tuple(Read(artifact, optional=True) for artifact in artifacts)


@dataclass(frozen=True)
class Declaration:
    """A stage: a *map* over parts, a *reduce* of whole artifacts, or a *training*.

    ``about`` says in a phrase what it does. ``version`` moves when its results change. ``usual`` are its settings where
    nobody says otherwise; ``section`` is where they stand among the pipeline's (by default the stage's own name; a
    stage that shares another's settings names that one). ``scope``: it runs once, in each round, or once after the last
    round. ``writes`` are its artifacts beside ``model``, its model. A ``frozen`` stage keeps its result when more data
    comes, until a refit or a changed setting. A stage with a ``split`` is of use only where captioned pictures are of
    it. ``last_round`` are settings that the last round's has in any case. ``uses_model``: its workers load one;
    ``rate`` is a first guess of images a second on two cores, which a store's own history replaces. ``entry`` is the
    module of its code, imported where the work is done: `tasks.stages.<name>` where it is not said. ``contracts`` are
    those of artifacts that :mod:`storage.schemas` does not know: of stages that an installed package brings, whose name
    and version are ``package``.
    """

    name: str
    kind: Kind
    version: int
    about: str
    usual: Settings
    reads: tuple[Read, ...] = ()
    writes: tuple[str, ...] = ()
    model: str = ""
    scope: Scope = "once"
    section: str = ""
    split: str = ""
    frozen: bool = False
    last_round: Mapping[str, Any] = field(default_factory=dict)
    uses_model: bool = False
    rate: float = 100.0
    entry: str = ""
    contracts: Mapping[str, Contract] = field(default_factory=dict)
    package: str = ""

    @property
    def identifier(self) -> str:
        """Its name as Python writes it."""
        return self.name.replace("-", "_")

    @property
    def outputs(self) -> tuple[str, ...]:
        """All artifacts that the stage makes, the model first."""
        return ((self.model,) if self.model else ()) + self.writes

    @property
    def rejects(self) -> bool:
        """Whether it sets rows apart that are unfit."""
        return any(artifact.endswith("_rejected") for artifact in self.writes)

    @property
    def continues(self) -> bool:
        """Whether it can go on from its own last model."""
        return self.kind == "training" and any(read.carried for read in self.reads)

    def in_round(self, number: int, rounds: int, of_rounds: frozenset[str]) -> Stage:
        """The stage of round ``number`` out of ``rounds``; ``of_rounds`` are the artifacts that rounds make."""
        named = {read.name: (read, read.in_round(number, of_rounds)) for read in self.reads}
        present = {name: (read, artifact) for name, (read, artifact) in named.items() if artifact}

        def own(artifact: str) -> str:
            return of_round(artifact, number) if self.scope == "round" else artifact

        return Stage(
            declared=self,
            name=own(self.name),
            number=number,
            rounds=rounds,
            aligned={name: artifact for name, (read, artifact) in present.items() if read.by_part},
            whole={name: artifact for name, (read, artifact) in present.items() if not read.by_part},
            writes=tuple(map(own, self.writes)),
            model=own(self.model) if self.model else "",
        )


@dataclass(frozen=True)
class Stage:
    """A stage as a run of ``rounds`` rounds has it in round ``number``: its own name and those of its artifacts.

    ``aligned`` and ``whole`` map the names that the stage's code uses to the artifacts that they are in this round.
    """

    declared: Declaration
    name: str
    number: int
    rounds: int
    aligned: Mapping[str, str]
    whole: Mapping[str, str]
    writes: tuple[str, ...]
    model: str

    @property
    def kind(self) -> Kind:
        return self.declared.kind

    @property
    def version(self) -> int:
        return self.declared.version

    @property
    def about(self) -> str:
        return self.declared.about

    @property
    def frozen(self) -> bool:
        return self.declared.frozen

    @property
    def split(self) -> str:
        return self.declared.split

    @property
    def uses_model(self) -> bool:
        return self.declared.uses_model

    @property
    def rate(self) -> float:
        return self.declared.rate

    @property
    def section(self) -> str:
        """Where its settings stand among the pipeline's."""
        return self.declared.section or self.declared.identifier

    @property
    def optional(self) -> frozenset[str]:
        """The names of inputs that may be absent."""
        return frozenset(read.name for read in self.declared.reads if read.optional)

    @property
    def carried(self) -> frozenset[str]:
        """The names of inputs that are an earlier result of the stage itself."""
        return frozenset(read.name for read in self.declared.reads if read.carried)

    @property
    def inputs(self) -> dict[str, str]:
        """All inputs: the name that the code uses, and the artifact."""
        return {**self.aligned, **self.whole}

    @property
    def outputs(self) -> tuple[str, ...]:
        """All artifacts that the stage makes, the model first."""
        return ((self.model,) if self.model else ()) + self.writes

    def settings_of(self, pipeline: Settings) -> Settings:
        """This stage's settings within those of a pipeline (:class:`tasks.settings.pipeline.PipelineSettings`)."""
        sections: Any = pipeline
        settings: Settings = getattr(sections, self.section)
        last = self.declared.last_round if self.number == sections.rounds else {}
        return settings.model_copy(update=dict(last)) if last else settings

    @property
    def made_by(self) -> list[str | int]:
        """What of the code enters every key: name and version, and the package that brought it."""
        return [self.name, self.version, *filter(None, [self.declared.package])]

    @property
    def entry(self) -> str:
        """The module of the stage's code."""
        return self.declared.entry or f"tasks.stages.{self.declared.identifier}"

    def code(self) -> Any:
        """The stage's code, loaded with whatever it imports."""
        return importlib.import_module(self.entry)
