"""Ridge regression: a linear classifier of the mean token in closed form, and what it would be without any one image.

Targets are centred and scaled by tag; the weights of two tags covary as their names' embeddings do (a Gaussian process
with the covariance of tasks times that of inputs: Bonilla, Chai and Williams 2007, section 2), so that rare tags learn
from tags that mean something similar. With the eigenvectors Q of the tokens' Gram matrix and V of the tags' covariance
the solution is W = Q [shares * Q'X'YV] V', shares = v / (q v + penalty), and in these bases every component of every
image has a leverage h of its own, 1 / n of it by the means that X and Y are centred with: the answer without image i is
exact, (f - h y) / (1 - h), and needs no fold models. The penalty is the one with the least leave-one-out error (PRESS:
Allen 1974).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize
from torch import Tensor

from tasks.training.calibration import evidence_rows
from tasks.training.data import Examples, TokenImages
from tasks.training.ids import ImageIds, Indices
from tasks.training.scratch import mean_targets
from tasks.training.whitening import Whitening

FILE = "ridge.safetensors"
BATCH = 1024
SHARED = 0.75  # how much of the covariance of two tags' weights follows their names
POSITIVE = [(1e-3, None), (None, None)]  # the slope, and the intercept
PENALTIES = [2.0**power for power in range(-2, 7)]  # times the mean eigenvalue of the Gram matrix


@dataclass(frozen=True)
class Ridge:
    """A solved ridge regression, in the bases Q (of tokens) and V (of tags); K is C, or less after whitening.

    ``weight`` and ``bias`` are those of the linear classifier: logits = tokens @ weight.T + bias.
    """

    mean: Tensor  # (C,), of the tokens
    axes: Tensor  # (C, K)
    mixing: Tensor  # (T, T), V
    shares: Tensor  # (K, T)
    coefficients: Tensor  # (K, T): what (tokens - mean) @ axes is multiplied with
    frequencies: Tensor  # (T,), how often a tag is named, 0..1
    gains: Tensor  # (T,): logits = logit(frequency) + intercept + gain * regression
    intercept: Tensor  # ()
    seen: Tensor  # (images,) int64, ascending: the images that it was solved for, see :func:`image_numbers`

    @property
    def weight(self) -> Tensor:
        """(T, C)."""
        return (self.axes @ self.coefficients @ self.mixing.T * self.gains).T

    @property
    def bias(self) -> Tensor:
        """(T,)."""
        return self.frequencies.logit() + self.intercept - self.weight @ self.mean

    def left_out(self, tokens: Tensor, own: Tensor, named: Tensor) -> Tensor:
        """What to add to the logits (B, T) of mean ``tokens`` (B, C), as if one image each had not been seen.

        That image has the mean token ``own`` (B, C), and its captions name ``named`` (B, T), 0 or 1: the same picture,
        say, or the one that a region is from.
        """
        seen, itself = (tokens - self.mean) @ self.axes, (own - self.mean) @ self.axes
        target = standardised(named, self.frequencies) @ self.mixing
        error = _left_out_error(itself, target, self.shares, self.coefficients, len(self.seen))
        leverage = (seen * itself) @ self.shares + 1 / len(self.seen)
        return -(leverage * error) @ self.mixing.T * self.gains

    def learnt_from(self, image_ids: Iterable[str]) -> Tensor:
        """Whether it was solved for each of these images, (B,)."""
        numbers = torch.from_numpy(image_numbers(image_ids)).to(self.seen)
        near = torch.searchsorted(self.seen, numbers).clamp(max=len(self.seen) - 1)
        return self.seen[near] == numbers

    def of_plain(self, whitening: Whitening) -> Ridge:
        """The same for tokens that did not go through ``whitening``."""
        forward, inverse = whitening.forward, whitening.inverse
        if forward.ndim == 1:
            forward, inverse = forward.diag(), inverse.diag()
        return replace(self, mean=whitening.mean + inverse @ self.mean, axes=forward.T @ self.axes)

    def save(self, folder: Path) -> None:
        """Writes ``ridge.safetensors`` into a model folder."""
        save_file({field.name: getattr(self, field.name).cpu().contiguous() for field in fields(self)}, folder / FILE)

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> Ridge | None:
        """What :meth:`save` wrote; None where the model was not made by ridge regression."""
        if not (folder / FILE).is_file():
            return None
        ridge = cls(**load_file(folder / FILE, str(device)))
        return replace(ridge, seen=ridge.seen.sort().values)  # earlier versions have kept them in another order


@dataclass(frozen=True)
class Solution:
    """A ridge regression, and how it came about."""

    ridge: Ridge
    errors: list[float]  # the mean squared error left out, of each penalty; 1 for a classifier that knows frequencies
    rows: NDArray[np.int64]  # images whose left-out ``logits`` (rows, T) these are
    logits: NDArray[np.float32]


def solve(examples: Examples, queries: Tensor) -> Solution:
    """The ridge regression of ``examples`` (stored tokens), whose tags have the text embeddings ``queries`` (T, D).

    Takes two passes over the tokens, C x C and C x T numbers of memory, and the time of one eigendecomposition.
    """
    if not isinstance(examples.images, TokenImages):
        raise ValueError("ridge regression reads stored tokens: keep frozen_encoder on")
    count, tags = examples.targets.shape
    frequencies = torch.from_numpy(mean_targets(examples.targets)).clamp(0.5 / count, 1 - 0.5 / count)
    everyone = np.argsort(examples.images.first)  # as they lie in their file, which may be larger than the memory
    mean, gram, product = _moments(_batches(examples, everyone), examples.images.shape[2], tags)
    values, axes = torch.linalg.eigh(gram)
    values = values.clamp(min=0)
    variances, mixing = torch.linalg.eigh(covariance(queries.double()))
    variances = variances.clamp(min=1e-9)  # the rectified cosines' squares need not be a covariance to the last digit
    product = axes.T @ (product / _deviations(frequencies)) @ mixing
    penalties = [float(values.mean()) * factor for factor in PENALTIES]
    shares = [variances / (torch.outer(values, variances) + penalty) for penalty in penalties]
    errors = [0.0] * len(penalties)
    for tokens, named in _batches(examples, everyone):
        rotated, target = (tokens - mean) @ axes, standardised(named, frequencies) @ mixing
        for at, share in enumerate(shares):
            error = _left_out_error(rotated, target, share, share * product, count)
            errors[at] += float(error.square().sum()) / (count * tags)
    share = shares[int(np.argmin(errors))]
    rows = evidence_rows(count)
    left_out, taught = torch.zeros(len(rows), tags).double(), torch.zeros(len(rows), tags)
    batches = zip(left_out.split(BATCH), taught.split(BATCH), _batches(examples, rows), strict=True)
    for scores, targets, (tokens, named) in batches:
        rotated, target = (tokens - mean) @ axes, standardised(named, frequencies) @ mixing
        scores[:] = (target - _left_out_error(rotated, target, share, share * product, count)) @ mixing.T
        targets[:] = named
    gains, intercept = _gains(left_out, taught, frequencies)
    logits = left_out.mul_(gains).add_(frequencies.logit() + intercept)
    ridge = Ridge(
        mean.float(),
        axes.float(),
        mixing.float(),
        share.float(),
        (share * product).float(),
        frequencies.float(),
        gains.float(),
        intercept.float(),
        torch.from_numpy(image_numbers(examples.image_ids)).sort().values,
    )
    return Solution(ridge, errors, rows, logits.float().numpy())


def _moments(batches: Iterable[tuple[Tensor, Tensor]], width: int, tags: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of the mean tokens X and the targets Y: the mean of X (C,), and, X centred, X'X (C, C) and X'Y (C, T)."""
    count, total, named_total = 0, torch.zeros(width).double(), torch.zeros(tags).double()
    gram, product = torch.zeros(width, width).double(), torch.zeros(width, tags).double()
    for tokens, named in batches:
        count += len(tokens)
        total += tokens.sum(0)
        named_total += named.sum(0)
        gram += tokens.T @ tokens
        product += tokens.T @ named
    mean = total / count
    return mean, gram - count * torch.outer(mean, mean), product - torch.outer(mean, named_total)


def covariance(queries: Tensor) -> Tensor:
    """(T, T), ones on its diagonal: how alike the weights of tags with these text embeddings (T, D) may be expected."""
    directions = F.normalize(queries - queries.mean(0), dim=1)
    alike = (directions @ directions.T).clamp(min=0).square()
    return SHARED * alike + (1 - SHARED) * torch.eye(len(queries), dtype=queries.dtype)


def standardised(named: Tensor, frequencies: Tensor) -> Tensor:
    """Targets (B, T) in 0..1, centred and of unit variance by tag."""
    return (named - frequencies) / _deviations(frequencies)


def _left_out_error(rotated: Tensor, target: Tensor, shares: Tensor, coefficients: Tensor, count: int) -> Tensor:
    """(B, T): targets less the answers for the same images, each without itself; all in the bases Q and V.

    Of the ``count`` images that were solved for, the mean without one moves with it."""
    left = (1 - 1 / count - rotated.square() @ shares).clamp(min=1e-6)
    return (target - rotated @ coefficients) / left


def image_numbers(image_ids: Iterable[str]) -> NDArray[np.int64]:
    """A number for each image id, (images,): the last 63 bits of its digest."""
    return (ImageIds.of(image_ids).numbers & np.uint64(2**63 - 1)).astype(np.int64)


def _deviations(frequencies: Tensor) -> Tensor:
    return (frequencies * (1 - frequencies)).sqrt()


def _batches(examples: Examples, images: Indices) -> Iterator[tuple[Tensor, Tensor]]:
    """The mean tokens (B, C) of whole pictures, and their targets (B, T), in the order of ``images``."""
    order = [images[at : at + BATCH] for at in range(0, len(images), BATCH)]
    for rows, tokens in zip(order, examples.images.whole(order), strict=True):
        yield tokens[:, 0].double(), torch.from_numpy(examples.targets[rows].toarray()).double()


def _gains(scores: Tensor, named: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """(T,) and (): what makes scores (B, T) log-odds beside those of the frequencies, by maximum likelihood.

    The slope is positive: the mean of a tag is less without an image that has it, so that scores turned round would
    tell an image's tags although they know nothing of it."""
    deviations, odds = scores.std(0).clamp(min=1e-9), frequencies.logit()

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        total, slope = 0.0, np.zeros(2)
        for some, there in zip(scores.split(BATCH), named.split(BATCH), strict=True):
            standard, target = some / deviations, there.double()
            logits = odds + values[0] * standard + values[1]
            error = logits.sigmoid() - target
            slope += float((error * standard).sum()), float(error.sum())
            total += float(F.binary_cross_entropy_with_logits(logits, target, reduction="sum"))
        return total / scores.numel(), slope / scores.numel()

    slope, intercept = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=POSITIVE).x
    return slope / deviations, torch.tensor(intercept)
