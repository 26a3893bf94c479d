from __future__ import annotations

import numpy as np
import pytest
import torch

from models.regions import CrossAttentionProposer, region_features, region_scores, region_tokens
from tests.models.small import image_tokens, small_tagger


def test_proposals_stand_by_image_and_tag() -> None:
    model = small_tagger("ram")
    proposer = CrossAttentionProposer(model, max_regions=2)
    tags = [[3, 0], [], [1]]
    proposals = proposer.propose(image_tokens(3), tags)
    assert proposals[1] == []
    for image, ids in zip(proposals, tags, strict=True):
        assert list(dict.fromkeys(each.tag_id for each in image)) == ids
        for each in image:
            x0, y0, x1, y1 = each.box
            assert 0 <= x0 < x1 <= 1
            assert 0 <= y0 < y1 <= 1
            assert 0 < each.score <= 1
    alone = proposer.propose(image_tokens(3)[2:], [[1]])
    assert alone[0] == proposals[2]
    assert proposer.propose(image_tokens(2), [[], []]) == [[], []]


def test_boxes_lie_round_what_is_attended_to_and_the_best_comes_first() -> None:
    proposer = CrossAttentionProposer(small_tagger("ram"), max_regions=2, zoom=1)
    attention = np.full((7, 7), 0.001, np.float32)
    attention[1:3, 4:7] = 0.1
    attention[5, 0] = 0.09
    attention[3, 2] = 0.06
    boxes = proposer._boxes(attention)
    assert [box for box, _ in boxes] == [
        pytest.approx((4 / 7, 1 / 7, 1, 3 / 7)),
        pytest.approx((0, 5 / 7, 1 / 7, 6 / 7)),
    ]
    assert boxes[0][1] > 0.8 > boxes[1][1]
    assert proposer._boxes(np.full((7, 7), 0.02, np.float32)) == []


def test_region_tokens_are_those_under_the_box() -> None:
    grid = torch.arange(49.0).reshape(1, 49, 1).repeat(1, 1, 4)
    tokens = torch.cat([grid.mean(1, keepdim=True), grid], 1).repeat(2, 1, 1)
    tokens[1] += 100
    boxes = torch.tensor([[0.0, 0.0, 3 / 7, 3 / 7], [4 / 7, 4 / 7, 1.0, 1.0]])
    regions = region_tokens(tokens, torch.tensor([0, 1]), boxes)
    assert regions.shape == (2, 10, 4)
    assert regions[0, 1:, 0].tolist() == pytest.approx([0, 1, 2, 7, 8, 9, 14, 15, 16])
    assert regions[:, 0, 0].tolist() == pytest.approx([8, 140])
    assert torch.allclose(region_features(regions).norm(dim=1), torch.ones(2))


def test_region_scores_are_each_regions_own_tag() -> None:
    model = small_tagger("tag2text")
    regions = region_tokens(image_tokens(2), torch.tensor([0, 1, 1]), torch.tensor([[0, 0, 0.5, 0.5]] * 3).double())
    tags = torch.tensor([4, 0, 2])
    expected = model.tag_logits(regions).sigmoid().gather(1, tags[:, None])[:, 0]
    assert torch.allclose(region_scores(model, regions, tags), expected)
