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

Texts = Sequence[Sequence[Sequence[str]]]
Fits = list[list[list[float]]]


def caption_fit(
    judge: str, image_encoder: str, device: torch.device
) -> Callable[[Sequence[Image.Image], Texts], Fits] | None:
    """Pictures and, for each, lists of captions -> the cosine (-1..1) of each caption, in the same lists.

    ``judge`` is conse, whose classifier is that of ``image_encoder``, or a CLIP (``open_clip:MODEL[:PRETRAINED]``);
    None for tagger, which needs no words but tags.
    """
    if judge == "tagger":
        return None
    look, text_encoder = _conse(image_encoder, device) if judge == "conse" else _clip(judge, device)

    def fit(images: Sequence[Image.Image], captions: Texts) -> Fits:
        flat = [text for lists in captions for texts in lists for text in texts]
        if not flat:
            return [[[] for _ in lists] for lists in captions]
        counts = torch.tensor([sum(map(len, lists)) for lists in captions])
        seen = look(images).cpu().repeat_interleave(counts, dim=0)
        cosines = iter((seen * label_queries.embed(flat, text_encoder)).sum(-1).tolist())
        return [[[next(cosines) for _ in texts] for texts in lists] for lists in captions]

    return fit


def _conse(image_encoder: str, device: torch.device) -> tuple[Callable[[Sequence[Image.Image]], Tensor], str]:
    teacher = ConSE(image_encoder, label_queries.MINILM).to(device)
    prepare = preprocessing(image_encoder, teacher.image_encoder.image_size).transform()

    @torch.inference_mode()
    def look(images: Sequence[Image.Image]) -> Tensor:
        return teacher(teacher.encode_image(torch.stack([prepare(image) for image in images]).to(device)))

    return look, label_queries.MINILM


def _clip(name: str, device: torch.device) -> tuple[Callable[[Sequence[Image.Image]], Tensor], str]:
    clip = CLIP(name).to(device)
    prepare = clip.preprocessing.transform()

    def look(images: Sequence[Image.Image]) -> Tensor:
        return F.normalize(clip(torch.stack([prepare(image) for image in images]).to(device)).float(), dim=-1)

    return look, name
