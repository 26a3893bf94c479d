"""Whether a caption fits its picture: the cosine of the two in a space that both have a place in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from models import label_queries
from models.clip import CLIP
from models.conse import ConSE
from models.image_encoder import preprocessing
from tasks.caption_judges.base import CaptionFit


def of_conse(image_encoder: str, device: str) -> CaptionFit:
    """The cosines in the space of word vectors, of the classifier of ``image_encoder`` (a timm model)."""
    teacher = ConSE(image_encoder, label_queries.MINILM).to(device)
    prepare = preprocessing(image_encoder, teacher.image_encoder.image_size).transform()

    @torch.inference_mode()
    def look(images: Sequence[Image.Image]) -> Tensor:
        return teacher(teacher.encode_image(torch.stack([prepare(image) for image in images]).to(device)))

    return _cosines(look, label_queries.MINILM)


def of_clip(name: str, device: str) -> CaptionFit:
    """The cosines in the space of a CLIP, ``open_clip:MODEL[:PRETRAINED]``."""
    clip = CLIP(name).to(device)
    prepare = clip.preprocessing.transform()

    def look(images: Sequence[Image.Image]) -> Tensor:
        return F.normalize(clip(torch.stack([prepare(image) for image in images]).to(device)).float(), dim=-1)

    return _cosines(look, name)


def _cosines(look: Callable[[Sequence[Image.Image]], Tensor], text_encoder: str) -> CaptionFit:
    """``look`` gives a picture's place (B, D) in the space of ``text_encoder``, L2-normalised."""

    def fit(images: Sequence[Image.Image], captions: Sequence[Sequence[str]]) -> list[list[float]]:
        texts = [text for of_image in captions for text in of_image]
        if not texts:
            return [[] for _ in captions]
        counts = torch.tensor([len(of_image) for of_image in captions])
        seen = look(images).cpu().repeat_interleave(counts, dim=0)
        cosines = iter((seen * label_queries.embed(texts, text_encoder)).sum(-1).tolist())
        return [[next(cosines) for _ in of_image] for of_image in captions]

    return fit
