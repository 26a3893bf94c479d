from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from models import label_queries
from models.conse import ConSE
from models.image_encoder import ImageEncoder, load_by_order, preprocessing
from tests.models.small import SHARED, needs_shared


@pytest.mark.parametrize(
    ("name", "size", "grid", "width"),
    [
        ("tf_efficientnet_lite0", 96, 3, 1280),
        ("swin_tiny_patch4_window7_224", 224, 7, 768),
        ("vit_tiny_patch16_224", 64, 4, 192),
    ],
)
def test_any_timm_model_gives_tokens(name: str, size: int, grid: int, width: int) -> None:
    encoder = ImageEncoder(name, size).eval()
    with torch.inference_mode():
        tokens = encoder(torch.randn(2, 3, size, size))
    assert tokens.shape == (2, 1 + grid * grid, width)
    assert encoder.width == width
    assert torch.allclose(tokens[:, 0], tokens[:, 1:].mean(1), atol=1e-6)


def test_spatial_tokens_stand_row_by_row() -> None:
    encoder = ImageEncoder("tf_efficientnet_lite0").load_pretrained().eval()
    image = torch.zeros(1, 3, 224, 224)
    changed = image.clone()
    changed[..., :40, 180:] = 1.0  # top right
    with torch.inference_mode():
        difference = (encoder(changed) - encoder(image))[0, 1:].abs().sum(-1)
    row, column = divmod(int(difference.argmax()), 7)
    assert row <= 1
    assert column >= 5


def test_loading_by_order_checks_shapes() -> None:
    model = torch.nn.Linear(3, 2)
    load_by_order(model, {"a": torch.ones(2, 3), "b": torch.zeros(2)})
    assert model.weight.sum() == 6
    with pytest.raises(ValueError, match="weight: the weights have shape \\(3, 2\\), not \\(2, 3\\)"):
        load_by_order(model, {"a": torch.ones(3, 2), "b": torch.zeros(2)})
    with pytest.raises(ValueError, match="the weights hold 1 tensors, the model 2"):
        load_by_order(model, {"a": torch.ones(2, 3)})


def test_preprocessing_is_the_encoders_own_and_cuts_nothing_off() -> None:
    transform = preprocessing("tf_efficientnet_lite0", 64).transform()
    picture = np.zeros((100, 300, 3), np.uint8)
    picture[:, -20:] = 255
    tensor = transform(Image.fromarray(picture))
    assert tensor.shape == (3, 64, 64)
    assert tensor[:, :, 0].max().item() == pytest.approx(-1, abs=0.02)
    assert tensor[:, :, -1].min().item() == pytest.approx(1, abs=0.02)


def test_label_queries_are_normalised_cached_and_mean_something(tmp_path: Path) -> None:
    names = ["dog", "puppy", "airplane"]
    queries = label_queries.build(names, cache=tmp_path)
    assert queries.shape == (3, 384)
    assert torch.allclose(queries.norm(dim=1), torch.ones(3))
    assert queries[0] @ queries[1] > queries[0] @ queries[2] + 0.2
    (file,) = tmp_path.iterdir()
    assert torch.equal(label_queries.build(names, cache=tmp_path), queries)
    label_queries.build([*names, "cat"], cache=tmp_path)
    label_queries.build(names, prompts=["a photo of a {}.", "a drawing of a {}."], cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    assert file.is_file()
    with pytest.raises(ValueError, match="no labels"):
        label_queries.build([])


def test_kept_label_queries_are_those_that_were_asked_for(tmp_path: Path) -> None:
    dog, cat = (label_queries.build([name], cache=tmp_path) for name in ("dog", "cat"))
    first, second = sorted(tmp_path.iterdir())
    second.write_bytes(first.read_bytes())
    first.write_bytes(first.read_bytes()[:-1] + bytes([first.read_bytes()[-1] ^ 1]))
    for content in (None, b"", first.read_bytes()[:-9]):
        if content is not None:
            first.write_bytes(content)
        assert torch.equal(label_queries.build(["dog"], cache=tmp_path), dog)
        assert torch.equal(label_queries.build(["cat"], cache=tmp_path), cat)
    assert len(list(tmp_path.iterdir())) == 2


def test_label_queries_need_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = label_queries.build(["dog"], cache=tmp_path / "cache")
    (tmp_path / "file").touch()
    assert torch.equal(label_queries.build(["dog"], cache=tmp_path / "file"), queries)
    assert torch.equal(label_queries.build(["dog"], cache=Path("/proc/none")), queries)
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # of a user that the system does not know
    assert torch.equal(label_queries.build(["dog"]), queries)


def test_clip_label_queries_average_the_prompts(tmp_path: Path) -> None:
    name = "ViT-S-32-alt"
    model = open_clip.create_model(name).eval()
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    encoder = f"open_clip:{name}:{tmp_path / 'clip.pt'}"
    prompts = ["a {}.", "one {}"]
    queries = label_queries.build(["dog", "cat"], encoder, prompts)
    with torch.inference_mode():
        texts = model.encode_text(open_clip.get_tokenizer(name)(["a dog.", "one dog"]), normalize=True)
    mean = torch.nn.functional.normalize(texts.mean(0), dim=0)
    assert torch.allclose(queries[0], mean, atol=1e-5)


@needs_shared
def test_conse_finds_the_dog() -> None:
    assert SHARED is not None
    teacher = ConSE()
    transform = preprocessing("tf_efficientnet_lite0").transform()
    picture = Image.open(SHARED / "data/flickr8k/images/1001773457_577c3a7d70.jpg")  # two dogs on a road
    tokens = teacher.encode_image(transform(picture)[None])
    queries = label_queries.build(["airplane", "dog", "spoon", "mountain"])
    assert teacher(tokens).norm(dim=1).item() == pytest.approx(1, abs=1e-5)
    for pooling in ("mean", "max"):
        scores = teacher.scores(tokens, queries, pooling)  # type: ignore[arg-type]
        assert scores.shape == (1, 4)
        assert scores.argmax().item() == 1
