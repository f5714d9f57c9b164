"""Search views: a projection of a collection, the projected vectors, and their index.

Any process may put another projection to use at any time, or switch the collection to another space: the catalog is
read again before every query, and `Views.answer` holds one view for as long as a query takes. Each projection has an
index of its own, in a folder of its own: one that was used before is not built again, and no query waits while another
is built.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from e2vsearch import plugins
from e2vsearch.catalog import engine_choice, projections
from e2vsearch.catalog.beside import BesideVectorRow
from e2vsearch.catalog.engine_choice import FAISS, MILVUS, PGVECTOR, EngineChoice, InUse, StoredReport
from e2vsearch.catalog.projections import StoredProjection
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import AnalysisError, EngineError, NotStored
from e2vsearch.feed import Batch, Changes, Snapshot, VectorSource
from e2vsearch.projections import network
from e2vsearch.projections.background import Background
from e2vsearch.projections.base import RAW, Projection
from e2vsearch.projections.linear import unpack
from e2vsearch.types import Space
from e2vsearch.vectors.engine import CandidateEngine, IndexOptions, VectorIndex

T = TypeVar("T")

BESIDE = "beside"
"""Folder, in that of the index of one space, of the index of another: as vectors lie in one of two tables."""

BUILT_IN = (RAW.kind, network.KIND, "head", "fitted")
"""Kinds of projections; others are of plug-ins."""

_KEPT = 2  # the view in use and the one before it, which queries under way may still hold


@dataclass(frozen=True, slots=True, eq=False)
class SearchView:
    """One projection of a collection, with the projected vectors and their index."""

    projection: Projection
    source: VectorSource  # the stored vectors, projected
    index: VectorIndex
    engine: EngineChoice  # that holds the index
    background: Background  # of random pairs of the vectors
    space: int | None  # the number of its space

    def projected(self, space: Space) -> Space:
        """Return the encoder's space with the name of the projection."""
        return projected_space(space, self.projection)


class Views:
    """The views of a collection, each made once. Safe to use from several threads."""

    def __init__(self, catalog: Catalog, folder: Callable[[], Path], options: IndexOptions) -> None:
        """Keep the arguments; nothing is read yet.

        Args:
            catalog: holds vectors and projections.
            folder: returns the folder of the index of raw vectors; those of projections are below it.
            options: how indexes are built.
        """
        self._catalog = catalog
        self._folder = folder
        self._options = options
        self._lock = threading.RLock()
        self._made: dict[tuple[int | None, str], SearchView] = {}
        self._used: tuple[Hashable, InUse] | None = None  # what is in use, and the state it is of
        self._local = threading.local()

    def current(self) -> SearchView:
        """Return the view of the projection in use.

        Raises:
            NoCollection: nothing has been ingested yet.
            AnalysisError: its projection is damaged.
        """
        pinned: SearchView | None = getattr(self._local, "pinned", None)
        if pinned is not None:
            return pinned
        while True:
            used = self.follow()
            name, revision = used.projection or (RAW.name, RAW.revision)
            with self._lock:
                known = self._made.get((used.space, revision))
                if known is not None and known.projection.name == name and known.engine == used.engine:
                    return known
            try:
                return self.named(name)
            except NotStored:  # dropped or renamed since: read again
                if self._in_use() == used:
                    raise

    def named(self, name: str) -> SearchView:
        """Return the view of the projection of that name, in use or not.

        Raises:
            NotStored: there is no such projection.
            NoCollection: nothing has been ingested yet.
            AnalysisError: the projection is damaged.
        """
        feed, number = self._catalog.feed(), self._catalog.space_number
        projection = RAW if name == RAW.name else load_projection(projections.get(self._catalog, name), feed.dim)
        engine = self._in_use().engine
        with self._lock:
            known = self._made.pop((number, projection.revision), None)
            if known is None or known.projection.name != name or known.engine != engine:
                source = feed if projection is RAW else ProjectedVectors(feed, projection)
                index = self.open_index(projection.revision, source, self._options, engine)
                background = Background(self._catalog, source, self.folder(projection.revision))
                known = SearchView(projection, source, index, engine, background, number)
            self._made[(number, projection.revision)] = known
            while len(self._made) > _KEPT:
                del self._made[next(iter(self._made))]
            return known

    @property
    def doors(self) -> tuple[Callable[[], SearchView], Callable[[str], SearchView]]:
        """What returns the view in use, and what returns one by the name of its projection."""
        return self.current, self.named

    @contextmanager
    def pinned(self) -> Iterator[SearchView]:
        """Hold one view: inside, `current` returns it in this thread, whatever others put to use meanwhile."""
        before: SearchView | None = getattr(self._local, "pinned", None)
        self._local.pinned = self.current()
        try:
            yield self._local.pinned
        finally:
            self._local.pinned = before

    def answer(self, question: Callable[[SearchView], T]) -> T:
        """Return what a question about the view in use is answered; asked again where the space was switched meanwhile.

        The former space's vectors may be gone then, and what was read of both spaces fits neither.
        """
        while True:
            with self.pinned() as view:
                try:
                    found = question(view)
                except Exception:  # of whatever fitted neither space
                    if self._in_use().space == view.space:
                        raise
                    continue
            if self._in_use().space == view.space:
                return found

    def follow(self) -> InUse:
        """Have the catalog follow a switch of spaces, by any process, and return what is in use."""
        used = self._in_use()
        if used.space != self._catalog.space_number:
            self._catalog.follow(used.space)
        return used

    def _in_use(self) -> InUse:
        """Return the space, projection and engine in use, read again after commits alone: every query calls it."""
        read = partial(engine_choice.in_use, self._catalog)
        self._used = used = self._catalog.detector.cached(self._used, read)
        return used[1]

    def open_index(
        self, revision: str, source: VectorSource, options: IndexOptions, engine: EngineChoice
    ) -> VectorIndex:
        """Open the index of a projection's vectors in an engine; nothing is written before the first build."""
        folder = self.folder(revision)
        if engine.name == FAISS:
            from e2vsearch.vectors.faiss.index import FaissEngine

            return FaissEngine(folder, source, options)
        from e2vsearch.vectors.engines.index import EngineIndex

        space = self.engine_space(revision)
        report = StoredReport(self._catalog, engine.name, space)
        return EngineIndex(self.open_engine(space, engine), folder, source, report, options)

    def open_engine(self, space: str, engine: EngineChoice) -> CandidateEngine:
        """Open what an engine other than FAISS holds of a space of this collection; see `space_of`."""
        collection = "".join(filter(str.isalnum, self._catalog.collection_id))
        if engine.name == PGVECTOR:
            from e2vsearch.vectors.engines.pgvector import PgvectorEngine

            return PgvectorEngine(self._catalog.driver_connection, collection, space)
        if engine.name == MILVUS:
            from e2vsearch.vectors.engines.milvus import MilvusEngine

            return MilvusEngine(engine.url, collection, space)
        make = plugins.load("engine", engine.name)
        if make is None:
            raise EngineError(
                f"{self._catalog.name} is searched in the engine {engine.name!r} of a plug-in that is not installed "
                "here - install it, or move the collection: e2vsearch index build --engine faiss"
            )
        made: CandidateEngine = make(engine.url, collection, space)
        return made

    def folder(self, revision: str) -> Path:
        """Return the folder of a projection's index, by the projection's revision."""
        folder = self.root() / BESIDE if self._catalog.vectors is BesideVectorRow else self.root()
        return folder if revision == RAW.revision else folder / "projections" / revision[:16]

    def in_space(self, target: Catalog) -> Views:
        """Return views of the collection in another space, which is not in use."""
        return Views(target, self._folder, self._options)

    def root(self) -> Path:
        """Return the folder that the indexes of all spaces and projections are in."""
        return self._folder()

    def engine_space(self, revision: str) -> str:
        """Return how an engine names what it holds of a projection in the catalog's space, by its revision."""
        return space_of(f"{BESIDE} {revision}" if self._catalog.vectors is BesideVectorRow else revision)


def space_of(revision: str) -> str:
    """Return how engines name the space of a projection, by its revision: letters and digits, 16 at most."""
    return RAW.revision if revision == RAW.revision else sha256(revision.encode()).hexdigest()[:16]


def projected_space(space: Space, projection: Projection) -> Space:
    """Return an encoder's space with the name of a projection of it."""
    if projection.kind == RAW.kind:
        return space
    return replace(space, projection=f"{projection.name}@{projection.revision[:12]}")


def load_projection(stored: StoredProjection, dim: int) -> Projection:
    """Return a stored projection, ready to use.

    Args:
        stored: as the catalog has it.
        dim: length of the vectors it must take.

    Raises:
        AnalysisError: it is damaged, or of a plug-in that is not installed.
        PluginRefused: it is of a plug-in that cannot be used.
    """
    if stored.kind == network.KIND:
        return network.unpack(stored.parameters)
    if stored.kind in BUILT_IN:
        return unpack(stored.parameters, stored.kind, stored.name, dim)
    plugin = plugins.load("projection", stored.kind)
    if plugin is None:
        raise AnalysisError(
            f"projection {stored.name!r} is of the plug-in {stored.kind!r}, which is not installed here - install it, "
            "or search raw vectors: e2vsearch projection use raw"
        )
    made: Projection = plugin.unpack(stored.parameters, stored.name, dim)
    return made


class ProjectedVectors:
    """An `e2vsearch.feed.VectorSource` that projects the vectors of another one as they are read.

    Its `space_id` holds the projection's revision, so that an index built under one projection refuses another's.
    """

    def __init__(self, source: VectorSource, projection: Projection) -> None:
        """Keep the arguments; nothing is read yet.

        Args:
            source: of the encoder's vectors.
            projection: that takes vectors of their length.
        """
        self._source = source
        self.projection = projection

    @property
    def dim(self) -> int:
        """Length of a projected vector."""
        return self.projection.dim_out(self._source.dim)

    @property
    def collection_id(self) -> str:
        """The collection's UUID."""
        return self._source.collection_id

    @property
    def space_id(self) -> str:
        """The encoder's space and the projection, in one line."""
        return f"{self._source.space_id}>{self.projection.kind}@{self.projection.revision}"

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Open one consistent read of all segments."""
        with self._source.snapshot() as snapshot:
            yield _Snapshot(snapshot, self.projection, snapshot.watermark)

    def changes_since(self, watermark: int) -> Changes:
        """Return the segments added and removed after that watermark."""
        return self._source.changes_since(watermark)

    def changes_token(self, watermark: int) -> Hashable:
        """Return a value that differs from the former one if anything changed since."""
        return self._source.changes_token(watermark)

    def fetch(self, ids: NDArray[np.int64]) -> Batch:
        """Return those of the segments that still exist, ids ascending."""
        return _projected(self._source.fetch(ids), self.projection)

    def fingerprint(self) -> tuple[int, int, int, int]:
        """Return count, least, greatest and exclusive-or of all segment ids."""
        return self._source.fingerprint()


@dataclass(slots=True)  # not frozen: the protocol's attributes are plain ones
class _Snapshot:
    snapshot: Snapshot
    projection: Projection
    watermark: int

    @property
    def count(self) -> int:
        """Number of segments."""
        return self.snapshot.count

    def batches(self) -> Iterator[Batch]:
        """Yield all segments, ids ascending, some thousands at a time."""
        for batch in self.snapshot.batches():
            yield _projected(batch, self.projection)


def _projected(batch: Batch, projection: Projection) -> Batch:
    return replace(batch, vectors=projection.apply(batch.vectors))
