"""A model while it is taught: its heads read whitened vectors, which are easier to learn from."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import RAM, Tagger
from tasks.training.data import Examples
from tasks.training.whitening import Whitening, query_readers, token_readers


class Student:
    """``model`` reads tokens that went through ``tokens``, and a RAM label queries that went through ``queries``,
    until it is :meth:`finish`-ed. ``fresh``: what reads them starts anew, else with the weights that it has."""

    def __init__(self, model: Tagger, tokens: Whitening, queries: Whitening | None, fresh: bool) -> None:
        self.model = model
        self.tokens = tokens
        self.queries = queries if isinstance(model, RAM) else None
        tokens.narrow(token_readers(model), fresh)
        if isinstance(model, RAM) and self.queries is not None:
            self._plain_queries = model.label_queries.detach().clone()
            self.queries.narrow(query_readers(model), fresh)
            model.label_queries.data = self.queries(self._plain_queries)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def read(self, images: Tensor) -> Tensor:
        """What the heads read: whitened tokens. Stored ones are whitened already; pictures are encoded first."""
        images = images.to(self.device)
        return self.tokens(self.model.encode_image(images)) if images.ndim == 4 else images

    @torch.inference_mode()
    def predict(self, examples: Examples, batch_size: int) -> NDArray[np.float32]:
        """Logits (images, tags) of the whole pictures."""
        self.model.eval()
        count = len(examples.image_ids)
        order = [np.arange(at, min(at + batch_size, count)) for at in range(0, count, batch_size)]
        batches = examples.images.whole(order)
        return np.concatenate([self.model.tag_logits(self.read(images)).cpu().numpy() for images in batches])

    def finish(self) -> None:
        """Makes the model read plain tokens and queries again, with the same results."""
        self.tokens.widen(token_readers(self.model))
        if isinstance(self.model, RAM) and self.queries is not None:
            self.queries.widen(query_readers(self.model))
            self.model.label_queries.data = self._plain_queries
