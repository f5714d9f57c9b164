"""The protocol of an index engine: what a search needs of any index, and the options it is built with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, dataclass
from typing import Any, ClassVar, Literal, Protocol, get_args

from e2vsearch.types import IndexStatus
from e2vsearch.vectors.exact import Float32s, Ints, Mask

Kind = Literal["auto", "flat", "ivf-flat", "ivf-rabitq", "gpu"]
"""``auto`` is ``flat`` up to `IndexOptions.exact_below` segments and ``ivf-rabitq`` above; ``gpu`` is an ``ivf-flat``
that is searched on a GPU where there is no filter."""

KINDS: tuple[Kind, ...] = get_args(Kind)
DEFAULT_RECALL = 0.95
"""Of the exact top 20, where no other target was requested."""

Progress = Callable[[str, int, int], None]
"""Called with a stage, how much of it is done, and of how much."""


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How an index is built and kept. None of these changes what a score is."""

    kind: Kind = "auto"
    exact_below: int = 20_000  # one exact query over 20,000 x 1024 takes 7-14 ms on two cores; IVF pays from there on
    target_recall: float | None = None  # of the exact top 20; None: what the last build was for, 0.95 at first
    seed: int = 0  # of the training sample, k-means, the rotation and the held-out vectors
    keep: int = 2  # generations left on disk, the current one included
    query_log_size: int = 256  # last query vectors that are kept to measure recall on; 0: none


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates of q queries, best first, with scores from unit float32 vectors."""

    ids: Ints  # (q, w), -1 where there is none
    scores: Float32s  # (q, w), -inf where there is none
    searched: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Matches:
    """The nearest segments of q queries, best first."""

    ids: Ints  # (q, k) segments, -1 where there are fewer than k
    recordings: Ints  # (q, k) the recording of each, -1 where there is none
    scores: Float32s  # (q, k) exact cosine with the stored vector, -inf where there is none
    searched: int  # segments that the filter left to choose from
    exact: bool  # every one of them was compared; False: an index chose the candidates


class BuildReport(Protocol):
    """The description of a built index: a dataclass, for `dataclasses.asdict`."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def kind(self) -> str:
        """The kind that was built."""

    @property
    def n(self) -> int:
        """Number of segments in it."""

    @property
    def dim(self) -> int:
        """Length of their vectors."""

    @property
    def watermark(self) -> int:
        """How far it has read the change feed."""


class TuneReport(Protocol):
    """The description of a tuning: a dataclass, for `dataclasses.asdict`."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def target(self) -> float:
        """Recall that it is for."""

    @property
    def recall(self) -> float:
        """Recall that was measured."""


class Engine(Protocol):
    """An index over the vectors of a collection. Any number of threads and processes may search and build."""

    def search(
        self,
        queries: Float32s,
        k: int,
        *,
        allowed: Ints | None = None,
        excluded: Ints | None = None,
        compare_all: bool = False,
        recordings: int | None = None,
    ) -> Matches:
        """Return the k segments nearest to each query, or of them what `recordings` leaves.

        Args:
            queries: ``(q, dim)``, finite and not zero, of any length.
            k: how many.
            allowed: the only segments that may be returned; all when None.
            excluded: segments that may not.
            compare_all: compare every segment, whatever index there is.
            recordings: how many of a query's recordings are wanted, each with its nearest segment; more of the k may
                be returned.

        Raises:
            QueryError: queries of another shape or dimension, not finite or without a direction, or k below 1.
        """

    def scores(self, queries: Float32s, ids: Ints) -> Float32s:
        """Return the exact cosine of each query with each stored segment, ``(q, n)``; -inf for one not stored."""

    def copies(self, ids: Ints) -> tuple[Float32s, Mask]:
        """Return the unit vectors of segments ``(n,)`` as the index holds them, and which it has; zeros for others."""

    def count(self) -> int:
        """Return the number of segments."""

    def status(self, *, measure: bool = False) -> IndexStatus:
        """Return what the index is made of and its recall; with `measure` that is measured again."""

    def due(self) -> str | None:
        """Return why a build is due; None if none is."""

    def newly_due(self) -> str | None:
        """Return as `due` where what is searched changed since the last call, else None; cheap after every query."""

    def requested(self) -> tuple[Kind | None, float | None]:
        """Return the kind and recall that the last build was for; Nones without one."""

    def build(
        self,
        kind: Kind | None = None,
        progress: Progress | None = None,
        wait_s: float = 0.0,
        *,
        target: float | None = None,
        retrain: bool = False,
    ) -> BuildReport:
        """Build a new index of all segments, while searches go on.

        Args:
            kind: by default the options' kind, else that of the last build.
            progress: called with ``(stage, done, total)``.
            wait_s: how long to wait for another builder.
            target: recall to reach; by default the options', else that of the last build or tuning.
            retrain: train anew in any case.

        Raises:
            GenerationBusy: another process is building.
            GenerationError: the index cannot be written.
            SettingsError: no such kind, or no such recall.
        """

    def tune(self, target: float | None = None, progress: Progress | None = None, wait_s: float = 0.0) -> TuneReport:
        """Measure recall again and choose the search settings for a target; builds nothing."""

    def drop(self, wait_s: float = 0.0) -> int:
        """Remove the index and the queries that were kept; return how many generations there were."""

    def verify(self) -> list[str]:
        """Return everything that is wrong with the index, one line each."""
