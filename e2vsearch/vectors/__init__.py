"""Nearest vectors by cosine, exactly or through an index that proves itself. Knows ids and vectors, no SQL, no audio.

What is searched is read from an `e2vsearch.feed.VectorSource`, which also stays the truth: an index on disk is a
cache, and deleting it loses nothing but time. `exact` compares vectors, `ivf` is FAISS, `generation` is one immutable
index on disk (through `disk`), `view` joins it with what came and went since, `truth` holds every answer and `audit`
the whole of it against the source, and `index` keeps all that fresh.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from e2vsearch.feed import Batch, Changes, Snapshot, VectorSource

if TYPE_CHECKING:
    from e2vsearch.vectors.index import VectorIndex

__all__ = [
    "KINDS",
    "Batch",
    "Changes",
    "IndexOptions",
    "IndexStatus",
    "Kind",
    "Matches",
    "Snapshot",
    "VectorSource",
    "open",
]

Kind = Literal["auto", "flat", "ivf-flat", "ivf-sq8", "ivf-rabitq"]
KINDS: tuple[Kind, ...] = ("auto", "flat", "ivf-flat", "ivf-sq8", "ivf-rabitq")
"""``auto`` is ``flat`` up to `IndexOptions.exact_below` segments and ``ivf-rabitq`` above."""


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How an index is built and kept. None of these changes what a score is."""

    kind: Kind = "auto"
    exact_below: int = 20_000  # one exact query over 20,000 x 1024 takes 7-14 ms on two cores; IVF pays from there on
    target_recall: float = 0.95  # of the exact top 20, measured on the collection's own vectors
    seed: int = 0  # of the training sample, k-means, the rotation and the held-out vectors
    keep: int = 2  # generations left on disk, the current one included


@dataclass(frozen=True, slots=True)
class Matches:
    """The nearest segments of q queries, best first."""

    ids: NDArray[np.int64]  # (q, k) segments, -1 where there are fewer than k
    recordings: NDArray[np.int64]  # (q, k) the recording of each, -1 where there is none
    scores: NDArray[np.float32]  # (q, k) exact cosine with the stored vector, -inf where there is none
    searched: int  # segments that the filter left to choose from
    exact: bool  # every one of them was compared; False: an index chose the candidates


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """What an index is made of, and how well it is known to answer. Figures are None without a generation."""

    kind: str  # "none" without a usable generation: search is exact, from the catalog
    n: int  # segments in the generation
    tail: int  # segments that came after it, compared exactly with every query
    tombstones: int  # segments of the generation that are gone
    target: float  # recall that nprobe is chosen for
    recall: float | None  # measured at build time; 1.0 for flat
    nlist: int | None
    nprobe: int | None
    k_factor: int | None  # candidates re-ranked exactly, in multiples of k
    built_at: str | None  # UTC, ISO 8601
    size: int | None  # bytes on disk
    faiss: str | None  # version that wrote it, None for flat
    watermark: int | None  # how far it has read the change feed
    generation: str | None  # its folder's name
    note: str  # what its builder had to say, such as a target that needed a richer kind
    damage: str | None  # why the generation on disk is not used
    due: str | None  # why a build is due


def open(folder: Path, source: VectorSource, options: IndexOptions | None = None) -> VectorIndex:
    """The index kept in `folder` over the vectors of `source`; nothing is written before the first build.

    Args:
        folder: holds ``generations/`` and ``build.lock``; need not exist.
        source: the truth that is searched.
        options: how to build.
    """
    from e2vsearch.vectors.index import VectorIndex

    return VectorIndex(folder, source, options or IndexOptions())
