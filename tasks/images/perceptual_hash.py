"""A hash that copies of a picture share."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.fft import dctn

HASH_SIDE, HASH_BITS = 32, 8  # pixels that are transformed, and the lowest frequencies that are kept, each way


def perceptual_hash(image: Image.Image) -> int:
    """64 bits that a smaller, brighter or more compressed copy of a picture shares: whether each of its lowest
    frequencies is above their median (Zauner 2010)."""
    grey = np.asarray(image.convert("L").resize((HASH_SIDE, HASH_SIDE), Image.Resampling.BILINEAR), np.float32)
    frequencies = dctn(grey, norm="ortho")[:HASH_BITS, :HASH_BITS].ravel()
    bits = frequencies > np.median(frequencies[1:])
    return int(np.packbits(bits).view(">u8")[0])
