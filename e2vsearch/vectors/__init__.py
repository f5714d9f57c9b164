"""Nearest vectors by cosine, exactly or through an index that proves itself. Knows ids and vectors, no SQL, no audio.

What is searched is read from an `e2vsearch.feed.VectorSource`, which also stays the truth: an index on disk is a
cache, and deleting it loses nothing but time. `exact` compares vectors, `ivf` is FAISS, `training` makes its lists and
`tuning` measures how many of them a promised recall takes, on stored vectors and on what was `asked`. `generation` is
one immutable index on disk (through `disk`), described by its `manifest` and made by `writing`; `view` joins it with
what came and went since, `planning` says what a filter takes by how far lists are `reaching`, `truth` holds every
answer and `audit` the whole of it against the source. `upkeep` builds, `standing` says when, and `index` keeps all that
fresh.
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
    "DEFAULT_RECALL",
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

Kind = Literal["auto", "flat", "ivf-flat", "ivf-sq8", "ivf-rabitq", "gpu"]
KINDS: tuple[Kind, ...] = ("auto", "flat", "ivf-flat", "ivf-sq8", "ivf-rabitq", "gpu")
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


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """What an index is made of, and how well it is known to answer. Figures are None without a generation."""

    kind: str  # "none" without a usable generation: search is exact, from the catalog
    n: int  # segments in the generation
    tail: int  # segments that came after it, compared exactly with every query
    tombstones: int  # segments of the generation that are gone
    target: float  # recall that nprobe is chosen for
    recall: float | None = None  # the lower of the two measured below; 1.0 for flat
    nlist: int | None = None
    nprobe: int | None = None
    k_factor: int | None = None  # candidates re-ranked exactly, in multiples of k
    built_at: str | None = None  # UTC, ISO 8601
    size: int | None = None  # bytes on disk
    faiss: str | None = None  # version that wrote it, None for flat
    watermark: int | None = None  # how far it has read the change feed
    generation: str | None = None  # its folder's name
    note: str = ""  # what its builder had to say, such as a target that needed a richer kind
    damage: str | None = None  # why the generation on disk is not used
    due: str | None = None  # why a build is due
    recall_stored: float | None = None  # on stored vectors that were held out
    sample_stored: int = 0  # how many
    recall_asked: float | None = None  # on the last queries, where enough were kept
    sample_asked: int = 0
    measured_at: str | None = None  # when recall was, UTC, ISO 8601: at the build or the last `index tune`
    asked_kind: str | None = None  # what the next build makes, unless told otherwise
    trained_n: int | None = None  # segments there were when the lists were trained
    trained_at: str | None = None
    drift: str | None = None  # how the collection moved away from what was measured, and the cure


def open(folder: Path, source: VectorSource, options: IndexOptions | None = None) -> VectorIndex:
    """The index kept in `folder` over the vectors of `source`; nothing is written before the first build.

    Args:
        folder: holds ``generations/`` and ``build.lock``; need not exist.
        source: the truth that is searched.
        options: how to build.
    """
    from e2vsearch.vectors.index import VectorIndex

    return VectorIndex(folder, source, options or IndexOptions())
