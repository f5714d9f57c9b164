"""What a collection is searched through: a projection, the vectors as it shows them, and their index. Knows no query.

Which projection is in use the catalog says, and any process may change it at any time: so it is asked again before
every query, and `Views.steady` holds one and the same for as long as a query takes. Each projection has an index of
its own, in a folder of its own: one that was used before is not built again, and nobody waits while another is built.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog import projections
from e2vsearch.catalog.projections import StoredProjection
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import NotStored
from e2vsearch.feed import Batch, Changes, Snapshot, VectorSource
from e2vsearch.projections import network
from e2vsearch.projections.base import RAW, Projection
from e2vsearch.projections.linear import unpack
from e2vsearch.types import Space
from e2vsearch.vectors.engine import Engine, IndexOptions

_KEPT = 2  # the one in use and the one before it, which queries under way may still be looking through


@dataclass(frozen=True, slots=True, eq=False)
class SearchView:
    """One projection of a collection, with all that is looked at through it."""

    projection: Projection
    source: ProjectedVectors  # the stored vectors, projected
    index: Engine

    def named(self, space: Space) -> Space:
        """The encoder's space, with the name of what it is searched through."""
        return projected_space(space, self.projection)


class Views:
    """A collection's lenses, each made once. Safe to use from several threads."""

    def __init__(self, catalog: Catalog, folder: Callable[[], Path], options: IndexOptions) -> None:
        """Reads nothing yet.

        Args:
            catalog: holds vectors and projections.
            folder: where the index of raw vectors is; those of projections are below it.
            options: how indexes are built.
        """
        self._catalog = catalog
        self._folder = folder
        self._options = options
        self._lock = threading.RLock()
        self._made: dict[str, SearchView] = {}
        self._held = threading.local()

    def now(self) -> SearchView:
        """The one in use.

        Raises:
            NoCollection: nothing has been ingested yet.
            AnalysisError: its projection is damaged.
        """
        held: SearchView | None = getattr(self._held, "lens", None)
        if held is not None:
            return held
        while True:
            used = projections.used(self._catalog)
            name, revision = used or (RAW.name, RAW.revision)
            with self._lock:
                if revision in self._made and self._made[revision].projection.name == name:
                    return self._made[revision]
            try:
                return self.of(name)
            except NotStored:  # dropped since, or called otherwise: look again
                if projections.used(self._catalog) == used:
                    raise

    def of(self, name: str) -> SearchView:
        """The one of that name, in use or not.

        Raises:
            NotStored: there is no such projection.
            NoCollection: nothing has been ingested yet.
            AnalysisError: the projection is damaged.
        """
        feed = self._catalog.feed()
        projection = RAW if name == RAW.name else load_projection(projections.get(self._catalog, name), feed.dim)
        with self._lock:
            known = self._made.pop(projection.revision, None)
            if known is None or known.projection.name != name:
                source = ProjectedVectors(feed, projection)
                index = open_engine(self.folder(projection.revision), source, self._options)
                known = SearchView(projection, source, index)
            self._made[projection.revision] = known
            while len(self._made) > _KEPT:
                del self._made[next(iter(self._made))]
            return known

    @contextmanager
    def steady(self) -> Iterator[SearchView]:
        """Inside it, `now` gives this thread one and the same, whatever others put to use meanwhile."""
        before: SearchView | None = getattr(self._held, "lens", None)
        self._held.lens = self.now()
        try:
            yield self._held.lens
        finally:
            self._held.lens = before

    def folder(self, revision: str) -> Path:
        """Where the index of a projection is, by the projection's revision."""
        folder = self._folder()
        return folder if revision == RAW.revision else folder / "projections" / revision[:16]


def open_engine(folder: Path, source: VectorSource, options: IndexOptions) -> Engine:
    """Open the index in a folder over the vectors of `source`; nothing is written before the first build."""
    from e2vsearch.vectors.faiss.index import FaissEngine

    return FaissEngine(folder, source, options)


def projected_space(space: Space, projection: Projection) -> Space:
    """An encoder's space, with the name of a projection of it."""
    if projection.kind == RAW.kind:
        return space
    return replace(space, projection=f"{projection.name}@{projection.revision[:12]}")


def load_projection(stored: StoredProjection, dim: int) -> Projection:
    """A stored projection, ready to use.

    Args:
        stored: as the catalog has it.
        dim: of the vectors it must take.

    Raises:
        AnalysisError: it is damaged.
    """
    if stored.kind == network.KIND:
        return network.unpack(stored.parameters)
    return unpack(stored.parameters, stored.kind, stored.name, dim)


class ProjectedVectors:
    """An `e2vsearch.feed.VectorSource` whose vectors are those of another one, projected as they are read.

    Its `space_id` holds the projection's revision, so that an index built under one projection refuses another's.
    """

    def __init__(self, source: VectorSource, projection: Projection) -> None:
        """Reads nothing yet.

        Args:
            source: of vectors as the encoder made them.
            projection: that takes vectors of its length.
        """
        self._source = source
        self.projection = projection

    @property
    def dim(self) -> int:
        """Length of each vector, projected."""
        return self.projection.dim_out(self._source.dim)

    @property
    def collection_id(self) -> str:
        """The collection's UUID."""
        return self._source.collection_id

    @property
    def space_id(self) -> str:
        """The encoder's space and the projection, in one line."""
        if self.projection.kind == RAW.kind:
            return self._source.space_id
        return f"{self._source.space_id}>{self.projection.kind}@{self.projection.revision}"

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """One consistent read of all segments."""
        with self._source.snapshot() as snapshot:
            yield _Snapshot(snapshot, self.projection, snapshot.watermark)

    def changes_since(self, watermark: int) -> Changes:
        """Segments that came or went after that watermark."""
        return self._source.changes_since(watermark)

    def changes_token(self, watermark: int) -> Hashable:
        """Differs from the last one if anything happened since."""
        return self._source.changes_token(watermark)

    def fetch(self, ids: NDArray[np.int64]) -> Batch:
        """Those of the segments that still exist, ids ascending."""
        return _projected(self._source.fetch(ids), self.projection)

    def fingerprint(self) -> tuple[int, int, int, int]:
        """Count, least, greatest and exclusive-or of all segment ids."""
        return self._source.fingerprint()


@dataclass(slots=True)  # not frozen: the protocol's attributes are plain ones
class _Snapshot:
    snapshot: Snapshot
    projection: Projection
    watermark: int

    @property
    def count(self) -> int:
        """How many segments there are."""
        return self.snapshot.count

    def batches(self) -> Iterator[Batch]:
        """All segments, ids ascending, some thousands at a time."""
        for batch in self.snapshot.batches():
            yield _projected(batch, self.projection)


def _projected(batch: Batch, projection: Projection) -> Batch:
    return replace(batch, vectors=projection.apply(batch.vectors))
