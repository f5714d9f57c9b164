"""The facet `Collection.index`: builds, measures, audits and drops the vector index, and keeps it up to date."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog.labels import segment_ids
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import GenerationBusy
from e2vsearch.projections import refit
from e2vsearch.projections.base import RAW, Projection
from e2vsearch.projections.view import Views, open_engine
from e2vsearch.types import IndexStatus
from e2vsearch.vectors.background import BackgroundBuilder
from e2vsearch.vectors.engine import BuildReport, IndexOptions, Kind, TuneReport, VectorIndex
from e2vsearch.vectors.query_log import QUERIES

Progress = Callable[[str, int, int], None]
"""Called with the step, how much of it is done, and of how much."""


class Index:
    """The vector index of the projection in use."""

    def __init__(self, catalog: Catalog, views: Views, options: IndexOptions) -> None:
        self._catalog = catalog
        self._views = views
        self._options = options
        self.builder = BackgroundBuilder(self.maintain)

    @property
    def engine(self) -> VectorIndex:
        """The engine, opened once.

        Raises:
            NoCollection: nothing has been ingested yet.
        """
        return self._views.current().index

    @property
    def projection(self) -> Projection:
        """The projection in use."""
        return self._views.current().projection

    def status(self, *, measure: bool = False) -> IndexStatus:
        """Return what the index is made of, how current it is, and the recall measured, now if `measure` is set."""
        return self.engine.status(measure=measure)

    def build(
        self,
        kind: Kind | None = None,
        progress: Progress | None = None,
        *,
        recall: float | None = None,
        retrain: bool = False,
    ) -> BuildReport:
        """Build a new generation, see `VectorIndex.build`, where `recall` is the target."""
        return self.engine.build(kind, progress, target=recall, retrain=retrain)

    def tune(self, target: float | None = None, progress: Progress | None = None) -> TuneReport:
        """Measure recall anew, and choose how many lists a search visits, see `VectorIndex.tune`."""
        return self.engine.tune(target, progress)

    def verify(self) -> list[str]:
        """Return what is wrong with the generation on disk, held against the catalog; nothing where it is sound."""
        return self.engine.verify()

    def copies(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return stored vectors of segments ``(n,)``, scaled to length one, as an index of them holds them.

        Only an index of raw vectors has any; of a projection's, no vector can be told.

        Returns:
            Vectors ``(n, dim)``, zeros where there is none, and whether there is one ``(n,)``.
        """
        return self._views.named(RAW.name).index.copies(ids)

    def drop(self) -> int:
        """Delete every generation, and return how many; searches are exact until the next build."""
        return self.engine.drop()

    def due(self) -> str | None:
        """Return why `maintain` has something to do; None if it has not."""
        return refit.refit_due(self._catalog) or self.engine.due()

    def maintain(self, progress: Progress | None = None) -> BuildReport | None:
        """Fit the projection that was installed, and build a new generation, each if it is due.

        A generation is due after many changes since the last, or if that is damaged; for the projection see
        `e2vsearch.projections.refit`.
        """
        wanted: tuple[Kind | None, float | None] = (None, None)
        replaced = refit.refit(self._catalog)
        if replaced is not None:
            folder = self.folder(replaced)
            if self._views.current().projection.name in refit.NAMES:  # the next index is built as this one was
                wanted = open_engine(folder, self._views.current().source, self._options).requested()
            shutil.rmtree(folder, ignore_errors=True)
        engine = self.engine
        try:
            return engine.build(wanted[0], progress, target=wanted[1]) if engine.due() else None
        except GenerationBusy:  # another process builds it
            return None

    def renew(self, wait_s: float = 600.0) -> None:
        """Fit the adopted projection and build the index anew, with nothing of what was removed in either.

        All other generations, of any projection, are deleted, and the queries that were kept. Searches go on meanwhile.

        Args:
            wait_s: how long to wait for another builder.

        Raises:
            GenerationBusy: another process is still building.
            GenerationError: the index cannot be written.
        """
        if self._catalog.space is None:
            return
        kind, target = self.engine.requested() if self._catalog.segment_count() else (None, None)
        refit.refit(self._catalog, anew=True)
        view = self._views.current()
        base, used = self.folder(RAW.revision), self.folder(view.projection.revision)
        (used / QUERIES).unlink(missing_ok=True)
        if kind is not None:
            once = open_engine(used, view.source, replace(self._options, keep=1))
            once.build(kind, None, wait_s, target=target, retrain=True)
        else:
            shutil.rmtree(used / "generations", ignore_errors=True)
        for folder in base.glob("projections/*"):
            if folder != used:
                shutil.rmtree(folder, ignore_errors=True)
        if base != used:
            shutil.rmtree(base / "generations", ignore_errors=True)
            (base / QUERIES).unlink(missing_ok=True)

    def generations_with(self, ids: Sequence[int] | None) -> list[str]:
        """Return the generations, of any projection, that hold any of some segments; None: any that was removed."""
        from e2vsearch.vectors.faiss.storage import IDS

        wanted = np.asarray(segment_ids(self._catalog) if ids is None else ids, np.int64)
        return [
            path.parent.name
            for path in sorted(self.folder(RAW.revision).rglob(f"generations/*/{IDS}"))
            if np.isin(np.fromfile(path, "<i8"), wanted, invert=ids is None).any()
        ]

    def folder(self, revision: str) -> Path:
        """Return the folder of a projection's index, by the projection's revision."""
        return self._views.folder(revision)

    @property
    def building(self) -> str | None:
        """Why the index is being rebuilt in the background; None if it is not."""
        return self.builder.building
