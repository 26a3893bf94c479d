"""Which images are nearly the same, at a cost that is linear in their number: only what shares a bucket is compared.

Buckets come from k-means, split again and again until none is large. What lies at a bucket's edge may miss its twin, so
there are two sets of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from tasks.images.vector_file import VectorFile

BUCKET = 512  # images that are compared with each other
BRANCHES = 16  # that a larger bucket is split into
SAMPLE = 4096  # of a bucket that k-means sees
BUCKETINGS = 2
ROWS = 8_192  # that are assigned at a time

Ints = NDArray[np.int64]
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Neighbours:
    """For each image its nearest other one: ``nearest`` (-1: none), and its ``cosine``, -1..1.

    ``pairs`` (n, 2) are all that were found to be near-duplicates, the smaller place first, each once.
    """

    nearest: Ints
    cosine: NDArray[np.float32]
    pairs: Ints


def find(vectors: Floats | VectorFile, hashes: NDArray[np.uint64], most_bits: int, least_cosine: float) -> Neighbours:
    """Compares images by L2-normalised ``vectors`` (n, d) and 64-bit ``hashes`` (n,).

    Near-duplicates are those whose hashes differ in at most ``most_bits`` or whose cosine is at least ``least_cosine``.
    """
    count = len(vectors)
    nearest, cosine = np.full(count, -1, np.int64), np.full(count, -1, np.float32)
    found = [_equal_hashes(hashes)] if most_bits >= 0 else []
    # buckets are small: a second thread saves little, and where all cores are busy it makes this five times as long
    with threadpool_limits(1):
        for bucket in chain.from_iterable(buckets(vectors, seed) for seed in range(BUCKETINGS)):
            rows = vectors[bucket].astype(np.float32)
            near = rows @ rows.T
            np.fill_diagonal(near, -1)
            bits = np.bitwise_count(hashes[bucket, None] ^ hashes[None, bucket])
            best = near.argmax(1)
            value = near[np.arange(len(bucket)), best]
            better = value > cosine[bucket]
            cosine[bucket[better]], nearest[bucket[better]] = value[better], bucket[best[better]]
            first, second = np.nonzero(np.triu((bits <= most_bits) | (near >= least_cosine), 1))
            found.append(np.sort(np.stack([bucket[first], bucket[second]], 1), axis=1))
    pairs = np.unique(np.concatenate([np.zeros((0, 2), np.int64), *found]), axis=0)
    return Neighbours(nearest, cosine, pairs)


def buckets(vectors: Floats | VectorFile, seed: int) -> Iterator[Ints]:
    """The places of images that are like each other, at most ``BUCKET`` of them at a time; every image once."""
    chance = np.random.default_rng(seed)
    waiting = [np.arange(len(vectors))]
    while waiting:
        places = waiting.pop()
        if len(places) <= BUCKET:
            if len(places) > 1:
                yield places
            continue
        sample = vectors[chance.choice(places, min(SAMPLE, len(places)), replace=False)].astype(np.float32)
        wanted = min(BRANCHES, -(-len(places) // (BUCKET // 2)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of images that are all the same
            means = KMeans(wanted, n_init=1, max_iter=20, random_state=seed).fit(sample)
        branch = np.concatenate(
            [means.predict(vectors[places[at : at + ROWS]].astype(np.float32)) for at in range(0, len(places), ROWS)]
        )
        parts = [places[branch == one] for one in range(wanted)]
        if max(map(len, parts)) == len(places):  # all alike: any split is as good
            parts = np.array_split(places, wanted)
        waiting += parts


def keep(pairs: Ints, count: int, protected: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], Ints]:
    """Which of ``count`` images, in the order of their worth, stay, and the better one that each falls for (-1).

    An image falls where it is a near-duplicate of one before it that stays; ``protected`` ones always stay.
    """
    kept, falls_for = np.ones(count, bool), np.full(count, -1, np.int64)
    for first, second in pairs[np.argsort(pairs[:, 1], kind="stable")].tolist():
        if kept[first] and kept[second] and not protected[second]:
            kept[second], falls_for[second] = False, first
    return kept, falls_for


def _equal_hashes(hashes: NDArray[np.uint64]) -> Ints:
    """Each image and the first that has the same hash."""
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    pairs = np.stack([first[inverse], np.arange(len(hashes))], 1)
    return pairs[pairs[:, 0] != pairs[:, 1]]
