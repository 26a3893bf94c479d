from __future__ import annotations

import math

import pytest
import torch

from models import losses


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_asymmetric_loss_by_hand() -> None:
    logits = torch.tensor([[logit(0.8), logit(0.3)], [logit(0.04), logit(0.6)]], dtype=torch.float64)
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    # a positive is plain cross-entropy; a negative at 0.3 counts as 0.25, one at 0.04 as 0
    expected = -math.log(0.8) - math.log(0.6) - 0.25**7 * math.log(0.75)
    assert losses.asymmetric_loss(logits, targets).item() == pytest.approx(expected)


def test_focal_weight_has_no_gradient() -> None:
    logits = torch.tensor([[0.7]], dtype=torch.float64, requires_grad=True)
    losses.asymmetric_loss(logits, torch.zeros(1, 1)).backward()
    probability = 1 / (1 + math.exp(-0.7))
    shifted = probability - 0.05
    expected = shifted**7 / (1 - shifted) * probability * (1 - probability)
    assert logits.grad is not None
    assert logits.grad.item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", [losses.asymmetric_loss, losses.binary_cross_entropy])
def test_a_soft_target_mixes_both_sides(loss) -> None:  # type: ignore[no-untyped-def]
    logits = torch.randn(3, 4, dtype=torch.float64)
    ones, zeros = torch.ones_like(logits), torch.zeros_like(logits)
    assert loss(logits, 0.3 * ones).item() == pytest.approx(
        0.3 * loss(logits, ones).item() + 0.7 * loss(logits, zeros).item()
    )


def test_losses_stay_finite_at_extreme_logits() -> None:
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    for loss in (losses.asymmetric_loss, losses.binary_cross_entropy):
        value = loss(logits, torch.tensor([[0.0, 1.0]]))
        value.backward()
        assert value.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


def test_caption_loss_counts_every_word_but_those_left_out() -> None:
    ids = torch.tensor([[9, 5, 6, 2], [9, 7, 2, 0]])
    logits = torch.zeros(2, 4, 10)
    assert losses.caption_loss(logits, ids).item() == pytest.approx(math.log(10))
    logits[0, 0, 5] = 9.0  # the first word, told rightly
    assert losses.caption_loss(logits, ids) < math.log(10)
    assert losses.caption_loss(logits, ids, ignore_first=2).item() == pytest.approx(math.log(10))
    assert ids.tolist() == [[9, 5, 6, 2], [9, 7, 2, 0]]


def test_tagging_is_rescaled_to_the_caption_loss() -> None:
    tagging, caption = torch.tensor(500.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    total = losses.total_loss(tagging, caption, torch.tensor(0.5))
    total.backward()
    assert total.item() == pytest.approx(4.5)
    assert tagging.grad is not None
    assert tagging.grad.item() == pytest.approx(2 / 500)
    assert caption.grad is not None
    assert caption.grad.item() == pytest.approx(1)
    assert losses.total_loss(tagging).item() == 500
