from __future__ import annotations

import pytest
import torch

from models import small_config
from models.config import Decoding
from tests.models.small import CAPTIONS, image_tokens, small_tagger

DECODINGS: dict[str, tuple[Decoding, list[int] | None]] = {
    "beam": (Decoding(min_length=3), None),
    "greedy": (Decoding(beams=1, min_length=3), None),
    "wide beam": (Decoding(beams=5, min_length=3, max_length=15), None),
    "nucleus": (Decoding("nucleus", min_length=3), [7, 7, 1, 2, 3, 4]),
}


@pytest.mark.parametrize("architecture", ["ram", "tag2text"])
@pytest.mark.parametrize("decoding", DECODINGS)
def test_a_batch_gives_what_single_images_give(architecture: str, decoding: str) -> None:
    model, tokens = small_tagger(architecture), image_tokens(6)
    tags = [["dog"], [], ["cat", "red"], ["run", "dog", "beach"], ["beach"], ["red"]]
    how, seeds = DECODINGS[decoding]
    together = model.generate_captions(tokens, tags, how, seeds)
    alone = [
        model.generate_captions(tokens[i : i + 1], tags[i : i + 1], how, seeds and seeds[i : i + 1])[0]
        for i in range(6)
    ]
    assert together == alone
    assert len(set(together)) > 1  # the captions do differ, so that a mix-up would show


def test_nucleus_draws_by_seed_from_the_likely_words() -> None:
    model = small_tagger("ram")
    tokens = image_tokens(1).repeat(3, 1, 1)
    first, again, other = model.generate_captions(tokens, [["dog"]] * 3, Decoding("nucleus"), seeds=[5, 5, 6])
    assert first == again != other
    greedy = model.generate_captions(tokens[:1], [["dog"]], Decoding(beams=1))
    assert model.generate_captions(tokens[:1], [["dog"]], Decoding("nucleus", top_p=1e-9)) == greedy


def test_cached_steps_give_the_logits_of_the_whole_caption() -> None:
    model = small_tagger("ram")
    captioner = model.captioner
    assert captioner is not None
    encoded = captioner.encode_tags(model.tag_token_ids([["dog"], ["cat"]]), model.context(image_tokens(2)))
    ids = captioner.generate(encoded, decoding=Decoding(beams=1, max_length=12)).clone()
    logits = captioner.logits(ids, encoded)
    logits[:, :8, captioner.config.end_id] = -torch.inf  # the end may not come before the least length
    assert torch.equal(logits[:, :-1].argmax(-1), ids[:, 1:])


def test_the_tags_steer_and_default_to_the_predicted_ones() -> None:
    model, tokens = small_tagger("ram"), image_tokens(3)
    model.set_thresholds([0.0, 1.0, 1.0, 1.0, 0.0])
    assert model.predicted_tags(tokens) == [["dog", "run"]] * 3
    predicted = model.generate_captions(tokens)
    assert predicted == model.generate_captions(tokens, [["dog", "run"]] * 3)
    assert predicted != model.generate_captions(tokens, [["beach"]] * 3)


def test_loss_does_not_depend_on_padding() -> None:
    model, tokens = small_tagger("ram"), image_tokens(3)
    assert model.tokenizer is not None
    ids, tags = model.tokenizer.captions(CAPTIONS), model.tag_token_ids([["dog"]] * 3)
    longer = torch.nn.functional.pad(ids, (0, 5))
    assert torch.allclose(model.caption_loss(tokens, ids, tags), model.caption_loss(tokens, longer, tags))


def test_a_model_without_captioner_says_so() -> None:
    from models import RAM

    model = RAM(small_config("ram", 3))
    with pytest.raises(ValueError, match="no captioner"):
        model.generate_captions(torch.randn(1, 50, 1280))
