"""What a collection is searched through: a projection, the vectors as it shows them, and their index. Knows no query.

Which projection is in use the catalog says, and any process may change it at any time: so it is asked again before
every query, and `Lenses.steady` holds one and the same for as long as a query takes. Each projection has an index of
its own, in a folder of its own: one that was used before is not built again, and nobody waits while another is built.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from e2vsearch.catalog import Catalog, projections
from e2vsearch.catalog.projections import StoredProjection
from e2vsearch.errors import NotStored
from e2vsearch.projections import RAW, Projection, shipped
from e2vsearch.projections.parts import unpack
from e2vsearch.projections.source import Projected
from e2vsearch.space import Space
from e2vsearch.vectors import IndexOptions
from e2vsearch.vectors.index import VectorIndex

_KEPT = 2  # the one in use and the one before it, which queries under way may still be looking through


@dataclass(frozen=True, slots=True, eq=False)
class Lens:
    """One projection of a collection, with all that is looked at through it."""

    projection: Projection
    source: Projected  # the stored vectors, projected
    index: VectorIndex

    def named(self, space: Space) -> Space:
        """The encoder's space, with the name of what it is searched through."""
        return named(space, self.projection)


class Lenses:
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
        self._made: dict[str, Lens] = {}
        self._held = threading.local()

    def now(self) -> Lens:
        """The one in use.

        Raises:
            NoCollection: nothing has been ingested yet.
            AnalysisError: its projection is damaged.
        """
        held: Lens | None = getattr(self._held, "lens", None)
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

    def of(self, name: str) -> Lens:
        """The one of that name, in use or not.

        Raises:
            NotStored: there is no such projection.
            NoCollection: nothing has been ingested yet.
            AnalysisError: the projection is damaged.
        """
        feed = self._catalog.feed()
        projection = RAW if name == RAW.name else opened(projections.get(self._catalog, name), feed.dim)
        with self._lock:
            known = self._made.pop(projection.revision, None)
            if known is None or known.projection.name != name:
                source = Projected(feed, projection)
                known = Lens(projection, source, VectorIndex(self.folder(projection.revision), source, self._options))
            self._made[projection.revision] = known
            while len(self._made) > _KEPT:
                del self._made[next(iter(self._made))]
            return known

    @contextmanager
    def steady(self) -> Iterator[Lens]:
        """Inside it, `now` gives this thread one and the same, whatever others put to use meanwhile."""
        before: Lens | None = getattr(self._held, "lens", None)
        self._held.lens = self.now()
        try:
            yield self._held.lens
        finally:
            self._held.lens = before

    def folder(self, revision: str) -> Path:
        """Where the index of a projection is, by the projection's revision."""
        folder = self._folder()
        return folder if revision == RAW.revision else folder / "projections" / revision[:16]


def named(space: Space, projection: Projection) -> Space:
    """An encoder's space, with the name of a projection of it."""
    if projection.kind == RAW.kind:
        return space
    return replace(space, projection=f"{projection.name}@{projection.revision[:12]}")


def opened(stored: StoredProjection, dim: int) -> Projection:
    """A stored projection, ready to use.

    Args:
        stored: as the catalog has it.
        dim: of the vectors it must take.

    Raises:
        AnalysisError: it is damaged.
    """
    if stored.kind == shipped.KIND:
        return shipped.unpack(stored.parameters)
    return unpack(stored.parameters, stored.kind, stored.name, dim)
