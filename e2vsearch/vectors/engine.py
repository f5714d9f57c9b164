"""The engine protocol: what an index promises to a search, and the options it is built with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from e2vsearch.feed import VectorSource
from e2vsearch.vectors.exact import Float32s, Ints

if TYPE_CHECKING:
    from e2vsearch.vectors.faiss.index import FaissEngine


Kind = Literal["auto", "flat", "ivf-flat", "ivf-rabitq", "gpu"]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""``auto`` is ``flat`` up to `IndexOptions.exact_below` segments and ``ivf-rabitq`` above; ``gpu`` is an ``ivf-flat``
that is searched on a GPU where there is no filter."""

DEFAULT_RECALL = 0.95
"""Of the exact top 20, where nobody asked for another."""


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How an index is built and kept. None of these changes what a score is."""

    kind: Kind = "auto"
    exact_below: int = 20_000  # one exact query over 20,000 x 1024 takes 7-14 ms on two cores; IVF pays from there on
    target_recall: float | None = None  # of the exact top 20; None: what the last build was for, 0.95 at first
    seed: int = 0  # of the training sample, k-means, the rotation and the held-out vectors
    keep: int = 2  # generations left on disk, the current one included
    asked: int = 256  # last query vectors that are kept to measure recall on; 0: none


@dataclass(frozen=True, slots=True)
class Matches:
    """The nearest segments of q queries, best first."""

    ids: NDArray[np.int64]  # (q, k) segments, -1 where there are fewer than k
    recordings: NDArray[np.int64]  # (q, k) the recording of each, -1 where there is none
    scores: NDArray[np.float32]  # (q, k) exact cosine with the stored vector, -inf where there is none
    searched: int  # segments that the filter left to choose from
    exact: bool  # every one of them was compared; False: an index chose the candidates


def open(folder: Path, source: VectorSource, options: IndexOptions | None = None) -> FaissEngine:
    """The index kept in `folder` over the vectors of `source`; nothing is written before the first build.

    Args:
        folder: holds ``generations/`` and ``build.lock``; need not exist.
        source: the truth that is searched.
        options: how to build.
    """
    from e2vsearch.vectors.faiss.index import FaissEngine

    return FaissEngine(folder, source, options or IndexOptions())


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates of q queries, best first, with scores from unit float32 vectors."""

    ids: Ints  # (q, w), -1 where there is none
    scores: Float32s  # (q, w), -inf where there is none
    searched: int
    exact: bool
