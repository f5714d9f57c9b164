"""What a cosine means in this collection: how many of its pairs it is above, and how much of it tells emotions apart.

Cosines of one space lie close together (in emotion2vec's most pairs of moments have 0.7 and more), those of another do
not, so a number alone says little. Both answers come from a seeded sample of stored moments, drawn once and kept while
the collection stays about the size that it had. Knows stored vectors, nothing of queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog import segments as spans
from e2vsearch.vectors.exact import unit

if TYPE_CHECKING:
    from e2vsearch.collection import Collection


SAMPLE = 2000
"""Moments that are drawn, at most."""

_NEIGHBOURS = 20  # moments that each is compared with: 2,000 make 39,790 pairs, so that 0.1 % is 40 of them

_ALL_PAIRS = 100  # moments of which every pair is compared: 4,950 at most

_FEWEST = 5  # moments of an emotion, for their mean to say anything

_GROWN = 1.1  # times as many segments, or as few: draw again


@dataclass(frozen=True, slots=True)
class BackgroundScores:
    """Some of a collection's moments, and what they tell of it."""

    space: str
    segments: int  # in the collection, when it was drawn
    cosines: NDArray[np.float32]  # of pairs of different recordings, ascending
    axes: NDArray[np.float32]  # (emotions - 1, dim) orthonormal: the directions in which emotions' means differ

    def percentile(self, cosine: float) -> float | None:
        """How many % of the pairs are less alike; None where there are no two recordings to compare."""
        if not self.cosines.size:
            return None
        return 100.0 * float(np.searchsorted(self.cosines, cosine)) / self.cosines.size

    def emotion_part(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> float | None:
        """What the directions that tell emotions apart add to the cosine of two vectors ``(dim,)``.

        The collection's mean vector is in none of them: what all moments have in common is no likeness. None where
        fewer than two emotions are there to be told apart.
        """
        if not len(self.axes):
            return None
        return float((self.axes @ unit(a)) @ (self.axes @ unit(b)))


def background_scores(collection: Collection, before: BackgroundScores | None = None) -> BackgroundScores:
    """A sample of the collection as it is now; `before`, if that will still do."""
    count, least, greatest = spans.count_of(collection.catalog)
    feed = collection.feed()
    if before is not None and before.space == feed.space_id and _about(before.segments, count):
        return before
    rng = np.random.default_rng(0)
    # ids of what was removed are drawn in vain, so more are drawn than wanted where many are gone
    room = greatest - least + 1
    wanted = min(room, SAMPLE * max(1, round(room / max(count, 1))))
    drawn = np.sort(least + rng.choice(room, wanted, replace=False)) if count else np.empty(0, np.int64)
    batch = feed.fetch(drawn)
    order = rng.permutation(batch.ids.size)[:SAMPLE]
    units = unit(batch.vectors[order]).astype(np.float32)
    axes = _axes(units, spans.named(collection.catalog, batch.ids[order]), batch.ids[order])
    return BackgroundScores(feed.space_id, count, _pairs(units, batch.recordings[order]), axes)


def _about(before: int, now: int) -> bool:
    return max(before, now) <= _GROWN * min(before, now)


def _pairs(units: NDArray[np.float32], recordings: NDArray[np.int64]) -> NDArray[np.float32]:
    """Cosines of each moment with the next few, which are any: they come in random order."""
    steps = min(len(units) - 1, _NEIGHBOURS if len(units) > _ALL_PAIRS else _ALL_PAIRS)
    found = [np.empty(0, np.float32)]
    for step in range(1, steps + 1):
        apart = recordings[step:] != recordings[:-step]
        # no matrix product: BLAS gives even a small one to all its threads, which on a busy machine wait for one
        # another, 0.4 to 1 s in all for what takes 2 ms (384-d) here
        found.append(np.einsum("ij,ij->i", units[step:], units[:-step])[apart])
    return np.sort(np.clip(np.concatenate(found), -1.0, 1.0))


def _axes(units: NDArray[np.float32], emotions: dict[int, str], ids: NDArray[np.int64]) -> NDArray[np.float32]:
    of = np.array([emotions.get(number, "") for number in ids.tolist()], dtype=np.str_)
    names, counts = np.unique(of, return_counts=True)
    means = [
        units[of == name].mean(axis=0) for name, count in zip(names, counts, strict=True) if name and count >= _FEWEST
    ]
    if len(means) < 2:
        return np.empty((0, units.shape[1] if units.ndim == 2 else 0), np.float32)
    centred = np.stack(means) - np.mean(means, axis=0)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    kept: NDArray[np.float32] = axes[lengths > 1e-6 * lengths[0]].astype(np.float32)
    return kept
