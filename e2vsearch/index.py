"""The facet `Collection.index`: builds, measures, audits and drops the vector index, and keeps it up to date."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog import engine_choice, projections
from e2vsearch.catalog.engine_choice import FAISS, EngineChoice, StoredReport
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import CatalogError, EngineError, GenerationBusy, first_line
from e2vsearch.projections.background import BACKGROUND
from e2vsearch.projections.base import RAW, Projection
from e2vsearch.projections.view import BESIDE, Views
from e2vsearch.types import IndexStatus
from e2vsearch.vectors.background import BackgroundBuilder
from e2vsearch.vectors.engine import BuildReport, IndexOptions, Kind, TuneReport, VectorIndex
from e2vsearch.vectors.query_log import QUERIES

if TYPE_CHECKING:
    from e2vsearch.catalog.integrity import IntegrityCheck

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
        engine: str | None = None,
        engine_url: str = "",
    ) -> BuildReport:
        """Build the index, see `VectorIndex.build`, where `recall` is the target.

        Args:
            kind: of index.
            progress: see `Progress`.
            recall: the share of the exact nearest that must be found.
            retrain: train new lists, or build the engine's index anew, in any case.
            engine: ``faiss``, ``pgvector`` or ``milvus``; by default the one in use. Another one is used from now on:
                it is filled first, and what the former held is deleted then.
            engine_url: of Milvus.

        Raises:
            SettingsError: no such engine here, kind or recall.
            EngineError, GenerationError: the engine does not answer, or the index cannot be written.
        """
        former = engine_choice.chosen(self._catalog)
        choice = former if engine is None else engine_choice.checked(self._catalog, engine, engine_url)
        if choice == former:
            return self.engine.build(kind, progress, target=recall, retrain=retrain)
        view = self._views.current()
        filled = self._views.open_index(view.projection.revision, view.source, self._options, choice)
        report = filled.build(kind, progress, target=recall, retrain=retrain)
        engine_choice.choose(self._catalog, choice)
        self._drop_all(former)
        return report

    def tune(self, target: float | None = None, progress: Progress | None = None) -> TuneReport:
        """Measure recall anew, and choose how many lists a search visits, see `VectorIndex.tune`."""
        return self.engine.tune(target, progress)

    def verify(self) -> list[str]:
        """Return what is wrong with the generation on disk, held against the catalog; nothing where it is sound."""
        return self.engine.verify()

    def check(self) -> IntegrityCheck | None:
        """Return whether what an engine beside FAISS holds agrees with the database as far as the engine has read it.

        None where there is no such engine: `verify` reads FAISS's files whole, which are no part of a database.
        """
        from e2vsearch.catalog.integrity import IntegrityCheck

        engine = engine_choice.chosen(self._catalog).name
        if engine == FAISS or self._catalog.space is None:
            return None
        name = f"index in {engine}"
        try:
            problems, status = self.verify(), self.status()
        except (CatalogError, EngineError) as error:
            return IntegrityCheck(name, False, f"not compared: {first_line(error)}", "e2vsearch index verify")
        if problems:
            return IntegrityCheck(name, False, "; ".join(problems), "e2vsearch index drop && e2vsearch index build")
        if status.kind == "none":
            return IntegrityCheck(name, True, "none: searches compare all segments")
        return IntegrityCheck(name, True, f"intact: {status.n:,} segments, up to change {status.watermark}")

    def copies(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return stored vectors of segments ``(n,)``, scaled to length one, as an index of them holds them.

        Only an index of raw vectors has any; of a projection's, no vector can be told.

        Returns:
            Vectors ``(n, dim)``, zeros where there is none, and whether there is one ``(n,)``.
        """
        return self._views.named(RAW.name).index.copies(ids)

    def watermark(self) -> int:
        """Return the position of the last committed change, for `Query.consistency`: reads what was written before."""
        return self._catalog.feed().latest()

    def drop(self) -> int:
        """Delete every generation, and return how many; searches are exact until the next build."""
        return self.engine.drop()

    def due(self) -> str | None:
        """Return why `maintain` has something to do; None if it has not."""
        from e2vsearch.projections import refit

        self._views.follow()
        return refit.refit_due(self._catalog) or self.engine.due()

    def maintain(self, progress: Progress | None = None) -> BuildReport | None:
        """Fit the projection that was installed, and build a new generation, each if it is due.

        A generation is due after many changes since the last, or if that is damaged; for the projection see
        `e2vsearch.projections.refit`.
        """
        from e2vsearch.projections import refit

        self._views.follow()
        wanted: tuple[Kind | None, float | None] = (None, None)
        replaced = refit.refit(self._catalog)
        if replaced is not None:
            view = self._views.current()
            if view.projection.name in refit.NAMES:  # the next index is built as this one was
                wanted = self._views.open_index(replaced, view.source, self._options, view.engine).requested()
            self.drop_index(replaced)
        view = self._views.current()
        view.background.refresh()
        try:
            return view.index.build(wanted[0], progress, target=wanted[1]) if view.index.due() else None
        except GenerationBusy:  # another process builds it
            return None

    def renew(self, wait_s: float = 600.0) -> None:
        """Fit the adopted projection and build the index anew, with nothing of what was removed in either.

        All other generations, of any projection, are deleted, and the queries and cosines that were kept. Searches go
        on meanwhile.

        Args:
            wait_s: how long to wait for another builder.

        Raises:
            GenerationBusy: another process is still building.
            GenerationError: the index cannot be written.
        """
        from e2vsearch.projections import refit

        self._views.follow()
        if self._catalog.space is None:
            return
        kind, target = self.engine.requested() if self._catalog.segment_count() else (None, None)
        refit.refit(self._catalog, anew=True)
        view = self._views.current()
        self._drop_all(view.engine)
        base, used = self.folder(RAW.revision), self.folder(view.projection.revision)
        for folder in {base, used}:
            for name in (QUERIES, BACKGROUND):
                (folder / name).unlink(missing_ok=True)
        if kind is not None:
            options = replace(self._options, keep=1)
            once = self._views.open_index(view.projection.revision, view.source, options, view.engine)
            once.build(kind, None, wait_s, target=target, retrain=True)
        if kind is None or view.engine.name != FAISS:
            shutil.rmtree(used / "generations", ignore_errors=True)
        for folder in base.glob("projections/*"):
            if folder != used:
                shutil.rmtree(folder, ignore_errors=True)
        if base != used:
            shutil.rmtree(base / "generations", ignore_errors=True)
        self.drop_other_spaces()

    def drop_other_spaces(self) -> None:
        """Delete indexes in another space than the one in use, with their queries and cosines, files and engines'."""
        choice = engine_choice.chosen(self._catalog)
        if choice.name != FAISS:
            used = [RAW.revision, *(each.revision for each in projections.listed(self._catalog))]
            kept = {self._views.engine_space(revision) for revision in used}
            engine = self._views.open_engine(RAW.revision, choice)
            for space in set(engine.spaces()) - kept:
                engine.drop(space)
                StoredReport(self._catalog, choice.name, space).write(None)
        base, root = self.folder(RAW.revision), self._views.root()
        if base == root:
            shutil.rmtree(root / BESIDE, ignore_errors=True)
            return
        for name in (QUERIES, BACKGROUND):
            (root / name).unlink(missing_ok=True)
        for name in ("generations", "projections"):
            shutil.rmtree(root / name, ignore_errors=True)

    def generations_with(self, ids: Sequence[int] | None) -> list[str]:
        """Return the generations, of any projection, that hold any of some segments; None: any that was removed.

        What an engine other than FAISS holds of a projection is named after both, such as ``milvus raw``.
        """
        from e2vsearch.catalog.labels import segment_ids
        from e2vsearch.vectors.faiss.storage import IDS

        wanted = np.asarray(segment_ids(self._catalog) if ids is None else ids, np.int64)
        return [
            path.parent.name
            for path in sorted(self._views.root().rglob(f"generations/*/{IDS}"))
            if np.isin(np.fromfile(path, "<i8"), wanted, invert=ids is None).any()
        ] + self._engine_spaces_with(wanted, others=ids is None)

    def _engine_spaces_with(self, ids: NDArray[np.int64], *, others: bool) -> list[str]:
        """Return what the engine holds of any projection with any of the segments, or with any that is none of them."""
        from e2vsearch.vectors.engines.report import all_ids

        choice, found = engine_choice.chosen(self._catalog), []
        if choice.name == FAISS:
            return []
        for space in self._views.open_engine(RAW.revision, choice).spaces():
            engine = self._views.open_engine(space, choice)
            held = np.setdiff1d(all_ids(engine), ids) if others else engine.holds(ids)
            found += [f"{choice.name} {space}"] if held.size else []
        return found

    def drop_index(self, revision: str) -> None:
        """Delete all of a projection's index, by the projection's revision: files, and what the engine holds.

        Raises:
            EngineError: the engine does not answer.
        """
        choice = engine_choice.chosen(self._catalog)
        if choice.name != FAISS:
            space = self._views.engine_space(revision)
            self._views.open_engine(space, choice).drop()
            StoredReport(self._catalog, choice.name, space).write(None)
        shutil.rmtree(self.folder(revision), ignore_errors=True)

    def _drop_all(self, choice: EngineChoice) -> None:
        """Delete what an engine other than FAISS holds of the collection; or all generations, where FAISS is left."""
        if choice.name != FAISS:
            engine = self._views.open_engine(RAW.revision, choice)
            for space in engine.spaces():
                engine.drop(space)
                StoredReport(self._catalog, choice.name, space).write(None)
        elif engine_choice.chosen(self._catalog).name != FAISS:
            for folder in self._views.root().rglob("generations"):
                shutil.rmtree(folder, ignore_errors=True)

    def folder(self, revision: str) -> Path:
        """Return the folder of a projection's index, by the projection's revision."""
        return self._views.folder(revision)

    def close(self) -> None:
        """Wait for a build that is under way, and close the catalog."""
        self.builder.join()
        self._catalog.close()

    @property
    def building(self) -> str | None:
        """Why the index is being rebuilt in the background; None if it is not."""
        return self.builder.building
