"""The losses of RAM and Tag2Text. Targets of the tagging losses may be soft: probabilities in 0..1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def asymmetric_loss(
    logits: Tensor, targets: Tensor, gamma_negative: float = 7, gamma_positive: float = 0, clip: float = 0.05
) -> Tensor:
    """Asymmetric loss (Ridnik et al. 2021, equations 4 to 7), summed over batch and tags as RAM sums it.

    ``logits`` and ``targets`` are (B, T). A negative's probability is lowered by ``clip`` first, so that easy ones
    count nothing; the focal weights have no gradient. A soft target mixes both sides' losses by its value.
    """
    positive = logits.sigmoid()
    negative = (1 - positive + clip).clamp(max=1)
    log_positive = positive.clamp(min=1e-8).log()
    log_negative = negative.clamp(min=1e-8).log()
    with torch.no_grad():
        weight_positive = (1 - positive) ** gamma_positive
        weight_negative = (1 - negative) ** gamma_negative
    loss = targets * weight_positive * log_positive + (1 - targets) * weight_negative * log_negative
    return -loss.sum()


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Plain binary cross-entropy, summed over batch and tags."""
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="sum")


def caption_loss(logits: Tensor, caption_ids: Tensor, pad_id: int = 0, ignore_first: int = 0) -> Tensor:
    """Next-word cross-entropy with label smoothing 0.1, the mean over all words of the batch; 0 where there are none.

    ``logits`` (B, L, vocabulary) at ``caption_ids`` (B, L). ``ignore_first`` takes the first so many positions out as
    targets; the published code does so with 4, though no prompt stood there, and so never learnt how a caption starts.
    """
    targets = caption_ids.masked_fill(caption_ids == pad_id, -100)
    targets[:, :ignore_first] = -100
    words = targets[:, 1:].flatten()
    summed = F.cross_entropy(logits[:, :-1].flatten(0, 1), words, label_smoothing=0.1, reduction="sum")
    return summed / (words != -100).sum().clamp(min=1)


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean absolute difference of the projected image token and the teacher's vector, both (B, D) (RAM section 3.3)."""
    return F.l1_loss(student, teacher)


def balance(tagging: Tensor, caption: Tensor) -> Tensor:
    """What the tagging loss is multiplied by to have the caption loss's value, without gradient."""
    return (caption / tagging.clamp(min=1e-8)).detach()


def total_loss(
    tagging: Tensor, caption: Tensor | None = None, distillation: Tensor | None = None, scale: Tensor | None = None
) -> Tensor:
    """Caption loss + tagging loss rescaled to the caption loss's value + distillation loss.

    The scale is without gradient and anew each step: the two tasks weigh the same at any time; where the losses are of
    a share of a batch, that of the whole is given. Without a caption loss the tagging loss stays as it is.
    """
    total = tagging
    if caption is not None:
        total = caption + tagging * (balance(tagging, caption) if scale is None else scale)
    return total if distillation is None else total + distillation
