"""Trainings that belong together: a model on all images and, for annotation out of fold, one a fold without that fold.

Jobs run side by side in processes where there is no GPU: small models leave a second core idle. A job that is finished
is known by its model folder, one that was killed goes on from its checkpoint.
"""

from __future__ import annotations

import json
import multiprocessing
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
from torch import Tensor, nn

from models import (
    RAM,
    CaptionTokenizer,
    Tag2Text,
    Tagger,
    TaggerConfig,
    create_tagger,
    label_queries,
    small_captioner,
    small_config,
    tagger_folder,
)
from storage.keys import digest
from storage.schemas import contract
from tasks.machine.allocator import keep_memory
from tasks.machine.devices import cores
from tasks.machine.executors import exit_with_creator
from tasks.settings.executor import ExecutorSettings
from tasks.settings.training import TrainSettings
from tasks.training import parallel, ridge
from tasks.training.calibration import Evidence, mentioned_share
from tasks.training.data import Examples, TagColumns, fold_of
from tasks.training.distillation import class_queries
from tasks.training.loop import CHECKPOINT, LogRow, fit, read
from tasks.training.material import Material
from tasks.training.parallel import is_first_process, own_device
from tasks.training.whitening import Whitening, query_readers, token_readers

WHOLE = "whole"
WORTH_A_PROCESS = 5_000  # image times epoch: a process takes as long to start
RECORD = "training.json"  # written last: a job with it is done
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Blueprint:
    """Everything that a new model is made of; or ``start``, the folder of the model to go on from."""

    config: TaggerConfig
    tags: TagColumns
    tokenizer: CaptionTokenizer | None = None
    queries: Tensor | None = None
    start: Path | None = None
    language: Whitening | None = None  # RAM: what its label queries go through in training

    def make(self, seed: int) -> Tagger:
        """The model before training."""
        torch.manual_seed(seed)
        scratch = self.start is None
        model = create_tagger(self.config, self.tags.labels, self.tokenizer, self.queries, pretrained_encoder=scratch)
        if self.start is not None:
            tagger_folder.load_weights(model, self.start)
        return model


@dataclass(frozen=True)
class Job:
    """One model to train. ``held_out`` are images that it does not see, for calibration."""

    name: str
    folder: Path
    blueprint: Blueprint
    examples: Examples
    settings: TrainSettings
    held_out: Examples | None
    described: bool
    device: str
    whitening: Whitening | None = None  # that stored tokens went through

    def run(self, progress: Callable[[int, int], None]) -> None:
        """Trains and saves the model, its log and its calibration, the log last: it says that all is there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        mean = np.asarray(self.examples.targets.mean(axis=0), np.float32).ravel()
        device = own_device(self.device)
        model = self.blueprint.make(self.settings.seed).to(device)
        whitening = self.whitening or Whitening.of_tokens(self.examples.images, self.settings.components, model)
        whitening = whitening.to(device)
        fresh = self.blueprint.start is None
        whitening.narrow(token_readers(model), fresh)
        if fresh:
            _guess_frequencies(model, mean)
        language = None
        if isinstance(model, RAM) and self.blueprint.language is not None:
            plain = model.label_queries.detach().clone()
            language = self.blueprint.language.to(device)
            language.narrow(query_readers(model), fresh)
            model.label_queries.data = language(plain)
        evidence = None
        if self.settings.solver == "gradient":
            log = fit(model, self.examples, self.settings, self.folder, whitening, language, progress)
        if not is_first_process():
            return
        if self.settings.solver == "ridge":
            log, evidence = self._solve(model, whitening, mean)
        if evidence is None and self.held_out is not None and self.held_out.image_ids:
            logits = predict(model, self.held_out, self.settings.batch_size, whitening)
            evidence = evidence_of(model, logits, self.held_out.targets.toarray() > 0, mean, self.described)
        if evidence is not None:
            evidence.save(self.folder)
            set_thresholds(model, evidence, self.settings)
        whitening.widen(token_readers(model))
        if isinstance(model, RAM) and language is not None:
            language.widen(query_readers(model))
            model.label_queries.data = plain
        tagger_folder.save(model.cpu(), self.folder)
        write_record(self.folder, self.settings, log)
        (self.folder / CHECKPOINT).unlink(missing_ok=True)

    @torch.no_grad()
    def _solve(
        self, model: Tagger, whitening: Whitening, frequencies: NDArray[np.float32]
    ) -> tuple[list[LogRow], Evidence | None]:
        """Makes ``model``, which reads whitened tokens, the ridge regression of the examples, and saves what leaves an
        image out. Returns its curve, and where it was taught what captions name and nothing is fully described, what it
        says of its own images, each left out: they are far more than the held-out ones."""
        queries = label_queries.build(self.blueprint.tags.query_texts, self.settings.text_encoder)
        solution = ridge.solve(self.examples, queries)
        (reader,) = token_readers(model)
        reader.weight.copy_(solution.ridge.weight)
        reader.bias.copy_(solution.ridge.bias)
        solution.ridge.of_plain(whitening.to(torch.device("cpu"))).save(self.folder)
        log = [LogRow(at, at, "left_out_error", error) for at, error in enumerate(solution.errors, 1)]
        if self.described or (self.examples.targets.data < 1).any():
            return log, None
        named = self.examples.targets[solution.rows].toarray() > 0
        return log, evidence_of(model, solution.logits, named, frequencies, self.described)


@torch.no_grad()
def _guess_frequencies(model: Tagger, frequencies: NDArray[np.float32]) -> None:
    """Makes a new model's first guess how frequent each tag is, (tags,): training need not find that first."""
    logits = torch.from_numpy(np.log(frequencies.clip(1e-4, 0.5) / (1 - frequencies.clip(1e-4, 0.5))))
    if isinstance(model, Tag2Text):
        if model.token_classifier is not None:
            nn.init.zeros_(model.token_classifier.weight)
        if model.config.decoder_layers:
            model.classifier.b.copy_(logits[None])
        elif model.token_classifier is not None:
            model.token_classifier.bias.copy_(logits)
    elif isinstance(model, RAM) and model.config.decoder_layers:
        model.classifier.bias.fill_(logits.mean())


def blueprint(
    settings: TrainSettings,
    tags: TagColumns,
    image_encoder: str,
    image_size: int,
    captions: Sequence[str] = (),
) -> Blueprint:
    """A new model of the sizes that ``settings`` name; ``captions`` give the captioner its vocabulary."""
    if not tags.ids:
        raise ValueError("the label system has no active tag, so there is nothing to train: lower labels.min_count")
    tokenizer = CaptionTokenizer.train(captions, settings.vocabulary) if settings.caption else None
    queries = None
    if settings.architecture == "ram":
        queries = label_queries.build(tags.query_texts, settings.text_encoder)
    language = _language(queries, settings.text_encoder) if queries is not None else None
    captioner = small_captioner(tokenizer, settings.captioner_layers, settings.heads) if tokenizer else None
    config = small_config(settings.architecture, len(tags.ids), image_encoder, image_size, settings.width, captioner)
    config = replace(
        config,
        decoder_layers=settings.decoder_layers,
        decoder_heads=settings.heads,
        dropout=settings.dropout,
        query_width=queries.shape[1] if queries is not None else config.query_width,
        text_encoder=settings.text_encoder,
        mean_evidence=settings.evidence == "mean",
    )
    return Blueprint(config, tags, tokenizer, queries, language=language)


def continued(folder: Path, tags: TagColumns, image_size: int) -> Blueprint:
    """The model of ``folder``, to be trained on at ``image_size``; its labels must be those of ``tags``."""
    config, labels, tokenizer = tagger_folder.read(folder)
    if [(each.name, each.type) for each in labels] != [(each.name, each.type) for each in tags.labels]:
        raise ValueError(f"the model in {folder} was trained on another label system: train it again on this one")
    language = None
    if config.architecture == "ram":
        language = _language(label_queries.build(tags.query_texts, config.text_encoder), config.text_encoder)
    return Blueprint(replace(config, image_size=image_size), tags, tokenizer, start=folder, language=language)


def _language(queries: Tensor, text_encoder: str) -> Whitening:
    """The statistics of the labels and of ImageNet's class names: a list of labels alone may be short."""
    return Whitening.of_queries(torch.cat([queries, class_queries(text_encoder)]))


def job(name: str, folder: Path, plan: Blueprint, material: Material, settings: TrainSettings, device: str) -> Job:
    """The job of a model on all of ``material``, to be written into the folder ``name`` within ``folder``."""
    return Job(
        name,
        folder / name,
        plan,
        material.examples,
        settings,
        material.held_out,
        material.described,
        device,
        material.whitening,
    )


def with_folds(folder: Path, plan: Blueprint, material: Material, settings: TrainSettings, device: str) -> list[Job]:
    """The job of the whole model, then one a fold: trained without the fold's images; a ridge regression needs none.

    Where no fully described images are held out, a fold model is calibrated on its own fold.
    """
    examples = material.examples
    jobs = [job(WHOLE, folder, plan, material, settings, device)]
    count = settings.folds if settings.solver == "gradient" else 0
    folds = np.array([fold_of(image_id, count) if count else -1 for image_id in examples.image_ids])
    for fold in range(count):
        name = f"fold-{fold}"
        seen, unseen = examples.subset(np.flatnonzero(folds != fold)), examples.subset(np.flatnonzero(folds == fold))
        own = material if material.described else replace(material, held_out=unseen)
        jobs.append(job(name, folder, plan, replace(own, examples=seen), settings, device))
    return jobs


def run_jobs(jobs: Sequence[Job], progress: Progress, executor: ExecutorSettings = ExecutorSettings()) -> pa.Table:
    """Runs the jobs that are not done yet and returns the ``training_log`` of all of them.

    Where the ``executor`` has several processes or machines for a training, they share each job, one after the other.
    """
    waiting = [job for job in jobs if not (job.folder / RECORD).is_file()]
    # By the number of all jobs, not of those that wait: a sum over other threads would round otherwise after a kill.
    small = sum(len(job.examples.image_ids) * job.settings.epochs for job in jobs) < WORTH_A_PROCESS
    processes = 1 if small or any(job.device != "cpu" for job in jobs) else _processes(len(jobs))
    if executor.training_processes * executor.training_nodes > 1:
        for number, job in enumerate(waiting):
            told = _of_several(progress, number, len(waiting), job.name)
            parallel.run(job, digest(str(job.folder)), executor, told)
    elif processes > 1 and waiting:
        _run_side_by_side(waiting, processes, max(1, cores() // processes), progress)
    elif waiting:
        torch.set_num_threads(cores())
        for number, job in enumerate(waiting):
            job.run(_of_several(progress, number, len(waiting), job.name))
    return log_table({job.name: job.folder for job in jobs})


def _processes(jobs: int) -> int:
    """Up to two a core, so that no core is idle while the last job ends."""
    return jobs if jobs <= 2 * cores() else cores()


def _run_side_by_side(jobs: Sequence[Job], processes: int, threads: int, progress: Progress) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # torch is loaded once, not once a process
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


@torch.inference_mode()
def predict(model: Tagger, examples: Examples, batch_size: int, whitening: Whitening) -> NDArray[np.float32]:
    """Logits (images, tags) of the whole pictures, by a model that reads whitened tokens."""
    model.eval()
    count = len(examples.image_ids)
    order = [np.arange(at, min(at + batch_size, count)) for at in range(0, count, batch_size)]
    return np.concatenate(
        [model.tag_logits(read(model, images, whitening)).cpu().numpy() for images in examples.images.whole(order)]
    )


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
    found = evidence.calibrate(types, settings.target_precision, rule=settings.thresholds)
    model.set_thresholds(found.raw_thresholds())


def write_record(folder: Path, settings: TrainSettings, log: Sequence[LogRow]) -> None:
    """How a model was trained, and its curve, as one JSON file that is there whole or not at all."""
    record = {"settings": settings.model_dump(mode="json"), "log": [astuple(row) for row in log]}
    temporary = folder / f"{RECORD}.writing"
    temporary.write_text(json.dumps(record), encoding="utf-8")
    temporary.replace(folder / RECORD)


def read_record(folder: Path) -> tuple[TrainSettings, list[LogRow]]:
    """What :func:`write_record` wrote."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return TrainSettings(**record["settings"]), [LogRow(*row) for row in record["log"]]


def log_table(folders: Mapping[str, Path]) -> pa.Table:
    """The ``training_log`` of models by name."""
    rows = [{"model": name, **asdict(row)} for name, folder in folders.items() for row in read_record(folder)[1]]
    return pa.Table.from_pylist(rows, schema=contract("training_log").schema)
