"""Tag2Text and RAM, from shared parts, usable on their own.

Making a small RAM on stored features, and one training step::

    from models import CaptionTokenizer, Label, create_tagger, label_queries, losses, small_captioner, small_config
    from models.conse import ConSE

    labels = [Label("dog", "object"), Label("run", "action")]
    tokenizer = CaptionTokenizer.train(captions, vocabulary=2000)          # only with a captioner
    config = small_config("ram", len(labels), captioner=small_captioner(tokenizer))       # without one: tags only
    queries = label_queries.build([label.name for label in labels])        # (T, 384), the packaged MiniLM
    model = create_tagger(config, labels, tokenizer, queries)              # image encoder: ImageNet weights
    tokens = model.encode_image(images)                                    # (B, 1 + N, C): store them, float16
    preprocess = model.preprocessing.transform()                           # PIL -> normalised tensor

    output = model(tokens, tokenizer.captions(texts), model.tag_token_ids(tag_names))   # or model(images, ...)
    tagging = losses.binary_cross_entropy(output.tag_logits, targets)      # summed; or losses.asymmetric_loss
    distillation = losses.distillation_loss(output.distillation_embedding, ConSE()(tokens))
    loss = losses.total_loss(tagging, output.caption_loss, distillation)

Using it::

    model = load_tagger(folder)            # or RAM.from_pretrained("hub:OWNER/NAME"); eval mode
    model.tag_logits(tokens)               # (B, T); model.thresholds() (T,) are probabilities
    model.tag_logits(tokens, label_queries.build(["forklift", "pallet"], model.config.text_encoder))
    model.tag_attention(tokens, torch.tensor([0, 5]))                      # (B, 2, grid, grid)
    model.generate_captions(tokens, tags=[["dog"], ["run"]])               # list of str
    model.set_thresholds(values); tagger_folder.save(model, folder)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor

from models import label_queries, losses, tagger_folder
from models.config import CaptionerConfig, Label, TaggerConfig
from models.image_encoder import preprocessing
from models.presets import PRESETS
from models.ram import RAM
from models.tag2text import Tag2Text
from models.tagger import Tagger, TaggerOutput
from models.text import CAPTION, END, PAD, TAGS, CaptionTokenizer

__all__ = [
    "PRESETS",
    "RAM",
    "CaptionTokenizer",
    "CaptionerConfig",
    "Label",
    "Tag2Text",
    "Tagger",
    "TaggerConfig",
    "TaggerOutput",
    "create_tagger",
    "label_queries",
    "load_tagger",
    "losses",
    "small_captioner",
    "small_config",
    "tagger_folder",
]


def create_tagger(
    config: TaggerConfig,
    labels: Sequence[Label] | None = None,
    tokenizer: CaptionTokenizer | None = None,
    queries: Tensor | None = None,
    pretrained_encoder: bool = True,
) -> Tagger:
    """A new tagger whose image encoder has ImageNet weights (unless ``pretrained_encoder`` is off).

    ``queries`` are RAM's label queries; for Tag2Text they are learned and none may be given.
    """
    model: Tagger
    if config.architecture == "ram":
        model = RAM(config, labels, tokenizer, queries)
    elif queries is None:
        model = Tag2Text(config, labels, tokenizer)
    else:
        raise ValueError("Tag2Text learns its label queries; give none")
    if pretrained_encoder:
        model.image_encoder.load_pretrained()
    return model


def load_tagger(folder: Path | str, own_encoders: bool = False) -> Tagger:
    """The tagger of a model folder, in eval mode; errors and ``own_encoders`` as of
    :func:`models.tagger_folder.read_description`."""
    config, labels, tokenizer = tagger_folder.read(folder, own_encoders)
    create = partial(create_tagger, config, labels, tokenizer, pretrained_encoder=False)
    model = tagger_folder.make(Path(folder), config, create)
    tagger_folder.load_weights(model, folder)
    return model.eval()


def small_config(
    architecture: Literal["tag2text", "ram"],
    labels: int,
    image_encoder: str = "tf_efficientnet_lite0",
    image_size: int = 224,
    hidden: int = 256,
    captioner: CaptionerConfig | None = None,
) -> TaggerConfig:
    """A configuration of one's own size, with the image encoder's own normalisation and one decoder layer that token
    evidence helps; ``dataclasses.replace`` changes the rest. See :func:`small_captioner`."""
    images = preprocessing(image_encoder, image_size)
    return TaggerConfig(
        architecture=architecture,
        image_encoder=image_encoder,
        image_size=image_size,
        image_mean=images.mean,
        image_std=images.std,
        hidden=hidden,
        feed_forward=2 * hidden,
        decoder_layers=1,
        dropout=0.1,
        labels=labels,
        query_width=384,
        text_classifier=True,
        token_evidence=True,
        text_encoder=label_queries.MINILM,
        captioner=captioner,
        threshold=0.5,
    )


def small_captioner(tokenizer: CaptionTokenizer, layers: int = 2, heads: int = 4) -> CaptionerConfig:
    """A captioner for short captions in the words of ``tokenizer``."""
    return CaptionerConfig(
        layers=layers,
        heads=heads,
        vocabulary=len(tokenizer),
        positions=64,
        tag_length=24,
        pad_id=tokenizer.id(PAD),
        end_id=tokenizer.id(END),
        caption_id=tokenizer.id(CAPTION),
        tags_id=tokenizer.id(TAGS),
    )
