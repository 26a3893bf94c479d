"""Trainings that belong together: a model on all images and, for annotation out of fold, one a fold without that fold.

Jobs run side by side in processes where there is no GPU: small models leave a second core idle. A job that is finished
is known by its model folder, one that was killed goes on from its checkpoint.
"""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from models import Tagger, tagger_folder
from storage.keys import digest
from storage.schemas import contract
from tasks.executors.fork_server import fork_server
from tasks.executors.parents import exit_with_creator
from tasks.machine.allocator import keep_memory
from tasks.machine.cores import cores
from tasks.settings.executor import ExecutorSettings
from tasks.settings.training import TrainSettings
from tasks.training import closed_form, gradient, parallel
from tasks.training.blueprint import Blueprint, guess_frequencies
from tasks.training.calibration import Evidence, evidence_rows, mentioned_share
from tasks.training.data import Examples
from tasks.training.gradient import CHECKPOINT
from tasks.training.material import Material
from tasks.training.parallel import is_first_process, own_device
from tasks.training.scratch import is_soft, mean_targets
from tasks.training.student import Student
from tasks.training.task import LogRow, Solved, Solver, Task, Unseen
from tasks.training.whitening import Whitening

SOLVERS: dict[str, Solver] = {"gradient": gradient.solve, "ridge": closed_form.solve}
WHOLE = "whole"
WORTH_A_PROCESS = 5_000  # image times epoch: a process takes as long to start
RECORD = "training.json"  # written last: a job with it is done
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Job:
    """One model to train: on all of ``material``, or with a ``fold`` on what is not in that fold."""

    name: str
    folder: Path
    blueprint: Blueprint
    material: Material
    settings: TrainSettings
    device: str
    fold: int | None = None

    @property
    def examples(self) -> Examples:
        """The images that the model sees, picked out when they are asked for."""
        return self.material.examples if self.fold is None else self._of_fold(False)

    @property
    def held_out(self) -> Examples:
        """Images that it does not see, for calibration. Where none are fully described, those of its own fold."""
        own = self.fold is not None and not self.material.described
        images = self._of_fold(True).captioned() if own else self.material.held_out
        return images.subset(evidence_rows(len(images)))

    def _of_fold(self, inside: bool) -> Examples:
        examples = self.material.examples
        folds = examples.image_ids.folds(self.settings.folds)
        return examples.subset(np.flatnonzero((folds == self.fold) == inside))

    def run(self, progress: Callable[[int, int], None]) -> None:
        """Trains and saves the model, its log and its calibration, the log last: it says that all is there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        examples = self.examples
        frequencies = mean_targets(examples.targets).astype(np.float32)
        student = self._student(examples, frequencies)
        task = Task(student, examples, self.blueprint.tags, self.settings, self.folder)
        solved = SOLVERS[self.settings.solver](task, progress)
        if not is_first_process():
            return
        unseen = self._unseen(student, solved, examples)
        if unseen is not None:
            evidence = evidence_of(student.model, unseen.logits, unseen.named, frequencies, self.material.described)
            evidence.save(self.folder)
            set_thresholds(student.model, evidence, self.settings)
        student.finish()
        tagger_folder.save(student.model.cpu(), self.folder)
        write_record(self.folder, self.settings, solved.log, examples.bare is not None and bool(examples.bare.any()))
        (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def _student(self, examples: Examples, frequencies: NDArray[np.float32]) -> Student:
        """The model before training, on its device; a new one knows how frequent each tag is, (tags,)."""
        device = own_device(self.device)
        model = self.blueprint.make(self.settings.seed).to(device)
        tokens = self.material.whitening or Whitening.of_tokens(examples.images, self.settings.components, model)
        language = self.blueprint.language
        fresh = self.blueprint.start is None
        student = Student(model, tokens.to(device), language and language.to(device), fresh)
        if fresh:
            guess_frequencies(model, frequencies)
        return student

    def _unseen(self, student: Student, solved: Solved, examples: Examples) -> Unseen | None:
        """What calibrates the model: its own images, each left out, else the held-out ones. None: there are none.

        The former only where captions taught it and nothing is fully described."""
        if solved.left_out is not None and not (self.material.described or is_soft(examples.targets)):
            return solved.left_out
        held_out = self.held_out
        if not len(held_out):
            return None
        return Unseen(student.predict(held_out, self.settings.batch_size), held_out.targets.toarray() > 0)


def with_folds(folder: Path, plan: Blueprint, material: Material, settings: TrainSettings, device: str) -> list[Job]:
    """The job of the whole model, then one a fold: trained without the fold's images; a ridge regression needs none."""
    whole = Job(WHOLE, folder / WHOLE, plan, material, settings, device)
    names = {fold: f"fold-{fold}" for fold in range(settings.folds if settings.solver == "gradient" else 0)}
    return [whole, *(replace(whole, name=name, folder=folder / name, fold=fold) for fold, name in names.items())]


def run_jobs(jobs: Sequence[Job], progress: Progress, executor: ExecutorSettings = ExecutorSettings()) -> pa.Table:
    """Runs the jobs that are not done yet and returns the ``training_log`` of all of them.

    Where the ``executor`` has several processes or machines for a training, they share each job, one after the other.
    """
    waiting = [job for job in jobs if not (job.folder / RECORD).is_file()]
    # By the number of all jobs, not of those that wait: a sum over other threads would round otherwise after a kill.
    small = sum(len(job.examples) * job.settings.epochs for job in jobs) < WORTH_A_PROCESS
    processes = 1 if small or any(job.device != "cpu" for job in jobs) else _processes(len(jobs))
    if executor.training_processes * executor.training_nodes > 1:
        for number, job in enumerate(waiting):
            told = _of_several(progress, number, len(waiting), job.name)
            parallel.run(job, digest(str(job.folder)), executor, told)
    elif processes > 1 and waiting:
        _run_side_by_side(waiting, processes, max(1, cores() // processes), progress)
    elif waiting:
        torch.set_num_threads(1 if all(job.settings.is_linear for job in waiting) else cores())
        for number, job in enumerate(waiting):
            job.run(_of_several(progress, number, len(waiting), job.name))
    return log_table({job.name: job.folder for job in jobs})


def _processes(jobs: int) -> int:
    """Up to two a core, so that no core is idle while the last job ends."""
    return jobs if jobs <= 2 * cores() else cores()


def _run_side_by_side(jobs: Sequence[Job], processes: int, threads: int, progress: Progress) -> None:
    context = fork_server()
    reports: Any = context.Queue()
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=_start_process, initargs=(threads, reports)
    ) as pool:
        pending: set[Future[None]] = {pool.submit(_run_job, job) for job in jobs}
        shares = {job.name: 0.0 for job in jobs}
        while pending:
            done, pending = wait(pending, timeout=0.5)
            try:
                while True:
                    name, share = reports.get_nowait()
                    shares[name] = share
            except queue.Empty:
                pass
            running = ", ".join(name for name, share in shares.items() if 0 < share < 1)
            progress(round(1000 * sum(shares.values()) / len(shares)), 1000, running)
            for future in done:
                if error := future.exception():
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise error


_reports: Any = None


def _start_process(threads: int, reports: Any) -> None:
    global _reports
    exit_with_creator()
    keep_memory()
    torch.set_num_threads(threads)
    _reports = reports


def _run_job(job: Job) -> None:
    last = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > 0.5:
            last = time.monotonic()
            _reports.put((job.name, done / total))

    job.run(progress)
    _reports.put((job.name, 1.0))


def _of_several(progress: Progress, number: int, jobs: int, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(number * total + done, jobs * total, name)


def evidence_of(
    model: Tagger,
    logits: NDArray[np.float32],
    named: NDArray[np.bool_],
    frequencies: NDArray[np.float32],
    described: bool,
) -> Evidence:
    """What calibrates ``model``: its logits for held-out images, and what these name, (images, tags).

    ``frequencies`` (tags,) is how often the training's images name each tag.
    """
    types = [label.type for label in model.labels]
    mentioned = mentioned_share(frequencies, named.mean(axis=0), types) if described else np.zeros(len(types))
    return Evidence(logits, named, described, mentioned)


def set_thresholds(model: Tagger, evidence: Evidence, settings: TrainSettings) -> None:
    """The model's thresholds from what it says about images that it has not seen."""
    types = [label.type for label in model.labels]
    calibration = evidence.calibrate(types, settings.target_precision, rule=settings.thresholds)
    model.set_thresholds(calibration.raw_thresholds())


def write_record(folder: Path, settings: TrainSettings, log: Sequence[LogRow], bare: bool = False) -> None:
    """How a model was trained, and its curve, as one JSON file that is there whole or not at all.

    ``bare``: it learnt from images without captions too, from tags that another model gave them.
    """
    record: dict[str, Any] = {"settings": settings.model_dump(mode="json"), "log": [astuple(row) for row in log]}
    if bare:
        record["bare"] = True
    temporary = folder / f"{RECORD}.writing"
    temporary.write_text(json.dumps(record), encoding="utf-8")
    temporary.replace(folder / RECORD)


def read_record(folder: Path) -> tuple[TrainSettings, list[LogRow]]:
    """What :func:`write_record` wrote."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return TrainSettings(**record["settings"]), [LogRow(*row) for row in record["log"]]


def learnt_bare(folder: Path) -> bool:
    """Whether the model in ``folder`` learnt from images without captions too."""
    return bool(json.loads((folder / RECORD).read_text(encoding="utf-8")).get("bare"))


def log_table(folders: Mapping[str, Path]) -> pa.Table:
    """The ``training_log`` of models by name."""
    rows = [{"model": name, **asdict(row)} for name, folder in folders.items() for row in read_record(folder)[1]]
    return pa.Table.from_pylist(rows, schema=contract("training_log").schema)
