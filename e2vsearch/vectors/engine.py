"""The protocols of an index and of an engine below one, and the options that an index is built with.

A `VectorIndex` is what a search needs. The embedded one, over FAISS, is an index by itself. Any other is an
`e2vsearch.vectors.engines.index.EngineIndex`, which makes an index of a `CandidateEngine`: a store that is fed from the
change feed and proposes candidates. What such an engine has not read yet, or should have deleted, costs recall for a
moment and never a wrong answer: its candidates are looked up in the catalog, and scored from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import Field, dataclass
from typing import Any, ClassVar, Literal, Protocol, get_args

from e2vsearch.feed import SqlFilter
from e2vsearch.types import Consistency, IndexStatus
from e2vsearch.vectors.exact import Float32s, Ints, Mask, UnitVectors

Kind = Literal["auto", "flat", "ivf-flat", "ivf-rabitq", "gpu", "hnsw", "ivf-sq8"]
"""``auto`` is ``flat`` up to `IndexOptions.exact_below` segments and ``ivf-rabitq`` above; ``gpu`` is an ``ivf-flat``
that is searched on a GPU where there is no filter. ``hnsw`` and ``ivf-sq8`` are of engines other than FAISS, which
choose ``auto`` in ways of their own."""

KINDS: tuple[Kind, ...] = get_args(Kind)
FAISS_KINDS: tuple[Kind, ...] = ("auto", "flat", "ivf-flat", "ivf-rabitq", "gpu")
DEFAULT_RECALL = 0.95
"""Of the exact top 20, where no other target was requested."""

Progress = Callable[[str, int, int], None]
"""Called with a stage, how much of it is done, and of how much."""


Condition = Callable[[], SqlFilter | None]
"""Returns a filter as a statement of the catalog's database; None where that is not Postgres."""


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


class VectorIndex(Protocol):
    """An index over the vectors of a collection. Any number of threads and processes may search and build."""

    def under(self, consistency: Consistency) -> VectorIndex:
        """Return the same index, whose searches take account of no more than that."""

    def search(
        self,
        queries: Float32s,
        k: int,
        *,
        allowed: Ints | None = None,
        excluded: Ints | None = None,
        compare_all: bool = False,
        recordings: int | None = None,
        condition: Condition | None = None,
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
            condition: returns what selects `allowed` again, for an engine that evaluates it itself.

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


@dataclass(frozen=True, slots=True)
class Proposals:
    """The candidates of q queries, as an engine proposes them."""

    ids: Ints  # (q, w), best first by the engine's own scores, -1 where there is none
    watermark: int | None  # every change up to here was in what was searched; None: the engine holds nothing


@dataclass(frozen=True, slots=True)
class Filled:
    """The state of an engine's data of one space."""

    watermark: int | None  # None: it holds nothing
    kind: str  # of its index; ``flat`` without one
    lists: int | None  # of an inverted file


class CandidateEngine(Protocol):
    """The data of one space of one collection in a store that proposes candidates.

    Its methods may be called from any number of threads and processes. They raise `EngineError` where the store does
    not answer, with the cure.

    Attributes:
        name: of the engine, as ``--engine`` takes it.
        kinds: of index that it can build here.
        filters: how many ids a search may be limited to; 0: none, and candidates are filtered afterwards.
        joins: a search may be limited by a statement, since the engine lies in the catalog's own database.
        most: candidates that one search may ask for.
    """

    name: str
    kinds: tuple[Kind, ...]
    filters: int
    joins: bool
    most: int

    def open(self, dim: int) -> None:
        """Make room for vectors of this length, unless there is; idempotent.

        Raises:
            EngineError: there is room for vectors of another length.
        """

    def filled(self) -> Filled:
        """Return the watermark, which is kept with the data, and what kind of index there is."""

    def apply(self, upserts: Iterable[UnitVectors], deletes: Ints, since: int | None, upto: int) -> None:
        """Insert or overwrite vectors by id, delete others, and then set the watermark to `upto`.

        It can be repeated with the same result. Where it is interrupted, the watermark stays as it was.

        Raises:
            GenerationBusy: the watermark is no more `since`: another process has applied changes meanwhile.
        """

    def candidates(
        self,
        queries: Float32s,
        k: int,
        *,
        where: Ints | SqlFilter | None,
        breadth: int,
        at_least: int | None,
        timeout_s: float,
    ) -> Proposals:
        """Return the nearest k of each query, of those in `where` if that is given.

        Args:
            queries: ``(q, dim)`` unit rows.
            k: how many, at most `most`.
            where: ids, at most `filters` of them, ascending, or with `joins` a statement; all when None.
            breadth: how widely to search, one of `breadths`.
            at_least: a watermark that has to be read where the engine reached it anywhere; None: what the store's
                nearest replica has read will do, with the watermark of that.
            timeout_s: after which it is an error.
        """

    def choose(self, n: int) -> Kind:
        """Return the kind of index that suits n vectors."""

    def index(self, kind: Kind, n: int) -> None:
        """Build an index of that kind over the n vectors, in place of the one there is; searches go on meanwhile."""

    def breadths(self, filled: Filled) -> Sequence[int]:
        """Return the breadths of search to choose from, ascending; one where there is nothing to choose."""

    def count(self) -> int:
        """Return the number of vectors."""

    def ids(self, after: int, limit: int) -> Ints:
        """Return the lowest ids above `after`, ascending, at most so many."""

    def holds(self, ids: Ints) -> Ints:
        """Return which of the ids there are, ascending."""

    def size(self) -> int | None:
        """Return the bytes that vectors and index take; None where that is not told."""

    def spaces(self) -> tuple[str, ...]:
        """Return the names of all spaces of this collection that the store has data of."""

    def drop(self, space: str | None = None) -> bool:
        """Delete all data of this space, or of the named one; whether there were any."""
