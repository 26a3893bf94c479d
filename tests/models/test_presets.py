from __future__ import annotations

import pytest
import torch

from models import PRESETS, RAM, create_tagger, losses

# Millions of parameters, each counted once.
PUBLISHED = {
    "ram_swin_base_224": 360.4,
    "tag2text_swin_base_224": 371.9,
    "tag2text_swin_base_384": 372.0,
    "ram_swin_large_384": 469.1,
}


@pytest.mark.parametrize("name", PRESETS)
def test_every_trainable_parameter_has_a_gradient(name: str) -> None:
    config = PRESETS[name]
    small = name.endswith("_small")
    # the published ones are built whole, but without memory behind their tensors
    with torch.device("cpu" if small else "meta"):
        model = create_tagger(config, pretrained_encoder=False)
        images = torch.randn(2, 3, config.image_size, config.image_size)
        caption_ids = torch.randint(5, 100, (2, 7))
        tag_ids = torch.randint(5, 100, (2, 12))
        output = model(images, caption_ids, tag_ids) if model.captioner is not None else model(images)
        assert output.tag_logits.shape == (2, config.labels)
        tagging = losses.asymmetric_loss(output.tag_logits, torch.rand(2, config.labels))
        distillation = None
        if isinstance(model, RAM):
            assert output.distillation_embedding.shape == (2, config.query_width)
            distillation = losses.distillation_loss(output.distillation_embedding, torch.rand(2, config.query_width))
        losses.total_loss(tagging, output.caption_loss, distillation).backward()
    if name in PUBLISHED:
        assert round(sum(each.numel() for each in model.parameters()) / 1e6, 1) == PUBLISHED[name]
    lacking = [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None]
    assert lacking == []
    if small:
        still = [
            name for name, each in model.named_parameters() if each.requires_grad and not each.grad.isfinite().all()
        ]
        assert still == []
