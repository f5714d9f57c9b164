"""The index that a collection opens: fresh, honest, rebuilt when due. Knows a folder, a source and nothing of SQL.

A search is answered from the generation on disk, less what is gone, plus what came since (`view`); before it returns,
every answer is compared with the source's own vectors. Where they differ, or a file does not look as its builder left
it, that generation is given up: search goes on exactly from the source, `due` says so, and the next build heals it.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from e2vsearch import __version__
from e2vsearch.errors import GenerationError, QueryError, SettingsError
from e2vsearch.feed import VectorSource
from e2vsearch.vectors import KINDS, IndexOptions, IndexStatus, Kind, Matches, exact, generation, ivf, truth, view
from e2vsearch.vectors.disk import FileState
from e2vsearch.vectors.exact import Ints
from e2vsearch.vectors.generation import FileSum, Generation, Manifest, Pointer
from e2vsearch.vectors.ivf import Progress
from e2vsearch.vectors.view import Difference, Memory, View

logger = logging.getLogger(__name__)

_SMALL = 1000  # SQLite reads 60,000 vectors a second and more: no generation is worth its files
_TAIL_ROWS, _TAIL_SHARE = 5000, 0.05  # a tail longer than both is due to be built in
_DEAD_SHARE = 0.1  # of the generation
_MEMORY_BYTES = 512 << 20  # vectors held where no generation stands for them; beyond that every search streams them
_ATTEMPTS = 8  # each is spoilt only by a segment that goes, or a generation found wrong, within a few milliseconds


@dataclass(frozen=True, slots=True)
class _Lag:
    """How far the collection is from its generation, without reading a vector."""

    base: Generation | None
    damage: str | None
    live: int
    tail: int
    dead: int


class VectorIndex:
    """Nearest segments of a collection, by exact cosine. Any number of threads and processes may search and build."""

    def __init__(self, folder: Path, source: VectorSource, options: IndexOptions | None = None) -> None:
        """Reads and writes nothing yet.

        Args:
            folder: holds ``generations/`` and ``build.lock``; the first build makes it.
            source: the truth that is searched.
            options: how to build.
        """
        self._folder = folder
        self._root = folder / "generations"
        self._source = source
        self._options = options or IndexOptions()
        self._lock = threading.RLock()  # held to read the feed and open generations, never to search
        self._view: View | None = None
        self._opened: Generation | None = None
        self._seen: FileState | None = None  # CURRENT, when `_opened` was opened
        self._damage: str | None = None
        self._given_up: dict[Pointer, str] = {}  # generations found wrong though their files are right, and why

    # ------------------------------------------------------------------------------------------------------ searching

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.int64] | None = None,
        excluded: NDArray[np.int64] | None = None,
        compare_all: bool = False,
    ) -> Matches:
        """The k segments nearest to each query.

        Args:
            queries: ``(q, dim)``, finite and not zero, of any length.
            k: how many; where fewer are there, the rest is padding.
            allowed: the only segments that may be answered; all when None.
            excluded: segments that may not.
            compare_all: compare every segment, whatever index there is.

        Raises:
            QueryError: queries of another shape or dimension, not finite or without a direction, or k below 1.
        """
        units = self._units(queries)
        if k < 1:
            raise QueryError(f"cannot find the nearest {k}: ask for one or more")
        allowed, excluded = _ascending(allowed), _ascending(excluded)
        narrow = units.astype(np.float32)
        missed: Ints = np.empty(0, np.int64)
        for attempt in range(_ATTEMPTS):
            now = self._now()
            if now is not None and now.vectors_of(missed)[1].any():
                self._give_up(now, "it holds segments that the catalog never told it were gone")
                continue
            if now is None:
                found = view.stream(self._source, narrow, k, allowed, excluded)
            else:
                found = now.search(narrow, k, allowed, excluded, compare_all=compare_all)
            confirmed = truth.confirm(self._source, now, found, units, k)
            missed = confirmed.missing
            if confirmed.matches is None:
                self._give_up(now, "its vectors are not those of the catalog")
            elif not missed.size or attempt == _ATTEMPTS - 1:
                return confirmed.matches
        raise GenerationError(f"the catalog changes faster than {self._folder} can be searched: try again")

    def scores(self, queries: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Exact cosine of each query with each stored segment, ``(q, n)``; -inf for a segment that is not stored.

        Raises:
            QueryError: as for `search`.
        """
        units = self._units(queries).astype(np.float32)
        ids = np.asarray(ids, np.int64)
        now = self._now()
        while now is not None and truth.differs(self._source, now, ids):
            self._give_up(now, "its vectors are not those of the catalog")
            now = self._now()
        vectors, present = truth.vectors(self._source, ids) if now is None else now.vectors_of(ids)
        result: NDArray[np.float32] = np.clip(units @ vectors.T, -1.0, 1.0)
        result[:, ~present] = -np.inf
        return result

    def _units(self, queries: ArrayLike) -> NDArray[np.float64]:
        array = np.asarray(queries)
        if array.ndim != 2 or array.shape[1] != self._source.dim:
            raise QueryError(
                f"queries of shape {array.shape} do not fit vectors of {self._source.dim} dimensions: "
                "make them with the collection's own encoder"
            )
        if not np.isfinite(array).all():
            raise QueryError("a query vector has NaN or infinite values: encode its audio again")
        if not array.any(1).all():
            raise QueryError("a query vector is all zeros and points nowhere: encode its audio again")
        return exact.unit64(array)

    # ------------------------------------------------------------------------------------------------------ freshness

    def _now(self) -> View | None:
        """The collection as it is now; None where it must be streamed, having no generation and being large."""
        now = self._view
        if now is not None and self._is_fresh(now):
            return now
        with self._lock:
            now = self._view
            if now is None or not self._is_fresh(now):
                self._view = now = self._refreshed(now)
            return now

    def _is_fresh(self, now: View) -> bool:
        base = now.base if isinstance(now.base, Generation) else None
        if base is not self._opened or generation.pointer_state(self._root) != self._seen:
            return False
        if base is not None and not base.unchanged():
            return False
        return self._source.changes_token(now.base.watermark) == now.token

    def _refreshed(self, before: View | None) -> View | None:
        base: Generation | Memory | None = self._current()
        if base is None and before is not None and isinstance(before.base, Memory):
            base = before.base
        if base is None:
            with self._source.snapshot() as snapshot:
                if snapshot.count * self._source.dim * 4 > _MEMORY_BYTES:
                    return None
                base = Memory.of(snapshot, self._source.dim)
        return View.of(base, self._source, before)

    def _current(self) -> Generation | None:
        """The generation that ``CURRENT`` points to, None without a sound one; opened again when anything moved."""
        with self._lock:
            state = generation.pointer_state(self._root)
            if state == self._seen and (self._opened is None or self._opened.unchanged()):
                return self._opened
            while True:
                self._seen, self._opened, damage = state, None, None
                try:
                    pointer = generation.read_pointer(self._root)
                    if pointer is not None:
                        self._opened = self._open(pointer)
                except GenerationError as error:
                    damage = str(error)
                state = generation.pointer_state(self._root)
                if state == self._seen:  # else another process built meanwhile, and may have removed this one
                    break
            if damage is not None and damage != self._damage:
                logger.warning("%s; searching exactly from the catalog until the index is built again", damage)
            self._damage = damage
            return self._opened

    def _open(self, pointer: Pointer, *, rehash: bool = False) -> Generation:
        if pointer in self._given_up:
            raise GenerationError(self._given_up[pointer])
        opened = Generation(self._root, pointer, self._source, rehash=rehash)
        with self._source.snapshot() as snapshot:
            if snapshot.watermark < opened.watermark:
                raise GenerationError(
                    f"index generation {pointer.name} is newer than the catalog: was a backup restored?"
                )
        return opened

    def _give_up(self, now: View | Generation | None, why: str) -> None:
        """Uses a base no more: its files may be as they were written, but what they say is not so."""
        base = now.base if isinstance(now, View) else now
        with self._lock:
            if isinstance(base, Generation):
                self._given_up[base.pointer] = f"index generation {base.name} cannot be used: {why}"
            self._forget()

    def _forget(self) -> None:
        """Looks at everything anew before the next search."""
        with self._lock:
            self._view, self._seen, self._opened = None, None, None

    # --------------------------------------------------------------------------------------------------------- upkeep

    def build(self, kind: Kind | None = None, progress: Progress | None = None, wait_s: float = 0.0) -> Manifest:
        """Builds a new generation of all there is and points to it; searches go on meanwhile, here and elsewhere.

        Args:
            kind: instead of the options' kind.
            progress: told ``(stage, done, total)``; stages are ``read``, ``train``, ``add``, ``tune`` and ``write``.
            wait_s: how long to wait for another builder.

        Raises:
            GenerationBusy: another process is building.
            GenerationError: the folder cannot be written.
            SettingsError: no such kind.
        """
        kind = kind or self._options.kind
        if kind not in KINDS:
            raise SettingsError(f"there is no index kind {kind!r}: use one of {', '.join(KINDS)}")
        report = progress or (lambda _stage, _done, _total: None)
        with generation.building(self._folder, wait_s) as aside:
            with self._source.snapshot() as snapshot:
                n = generation.copy(snapshot, aside, self._source.dim, lambda done, of: report("read", done, of))
                watermark = snapshot.watermark
            fitted = self._fitted(kind, n, aside, report)

            def describe(files: dict[str, FileSum], built_at: str) -> Manifest:
                return Manifest(
                    format=generation.FORMAT,
                    e2vsearch=__version__,
                    faiss=None if fitted.nlist is None else str(ivf.faiss_module().__version__),
                    kind=fitted.kind,
                    dim=self._source.dim,
                    n=n,
                    watermark=watermark,
                    collection_id=self._source.collection_id,
                    space_id=self._source.space_id,
                    nlist=fitted.nlist,
                    tunings=fitted.tunings,
                    target=self._options.target_recall,
                    recall_measured=fitted.measured,
                    trained_on=fitted.trained_on,
                    seed=self._options.seed,
                    built_at=built_at,
                    note=fitted.note,
                    files=files,
                )

            report("write", 0, 1)
            manifest = generation.publish(aside, self._options.keep, describe)
            report("write", 1, 1)
        return manifest

    def _fitted(self, kind: Kind, n: int, aside: Path, progress: Progress) -> ivf.Fitted:
        if kind == "auto":
            kind = "flat" if n <= self._options.exact_below else "ivf-rabitq"
        if kind == "flat":
            return ivf.Fitted.flat()
        vectors = generation.vectors_of(aside, n, self._source.dim)
        return ivf.fit(kind, vectors, aside / generation.IVF, self._options.target_recall, self._options.seed, progress)

    def due(self) -> str | None:
        """Why a build is due; None if none is. Below 1,000 segments only a damaged one is."""
        return self._due(self._lag())

    @staticmethod
    def _due(lag: _Lag) -> str | None:
        if lag.damage is not None:
            return lag.damage
        if lag.live < _SMALL:
            return None
        if lag.base is None:
            return f"there is no index yet over {lag.live} segments"
        n = lag.base.manifest.n
        if lag.tail > max(_TAIL_ROWS, _TAIL_SHARE * n):
            return f"{lag.tail} segments came since the index was built over {n}"
        if lag.dead > _DEAD_SHARE * n:
            return f"{lag.dead} of the index's {n} segments are gone"
        return None

    def _lag(self) -> _Lag:
        base = self._current()
        if base is None:
            with self._source.snapshot() as snapshot:
                return _Lag(None, self._damage, snapshot.count, snapshot.count, 0)
        difference = Difference.since(base.ids, self._source.changes_since(base.watermark))
        tail, dead = len(difference.added), len(difference.dead)
        return _Lag(base, None, len(base.ids) - dead + tail, tail, dead)

    def status(self) -> IndexStatus:
        """What the index is made of and how well it is known to answer."""
        lag = self._lag()
        manifest = lag.base.manifest if lag.base else None
        return IndexStatus(
            kind=manifest.kind if manifest else "none",
            n=manifest.n if manifest else 0,
            tail=lag.tail,
            tombstones=lag.dead,
            target=manifest.target if manifest else self._options.target_recall,
            recall=manifest.recall if manifest else None,
            nlist=manifest.nlist if manifest else None,
            nprobe=manifest.nprobe if manifest else None,
            k_factor=manifest.k_factor if manifest else None,
            built_at=manifest.built_at if manifest else None,
            size=lag.base.size if lag.base else None,
            faiss=manifest.faiss if manifest else None,
            watermark=manifest.watermark if manifest else None,
            generation=lag.base.name if lag.base else None,
            note=manifest.note if manifest else "",
            damage=lag.damage,
            due=self._due(lag),
        )

    def verify(self) -> list[str]:
        """Everything found wrong with the index on disk, one line each; none if it is sound or there is none.

        Every byte is hashed again, the segments are compared with the catalog's fingerprint, their vectors with the
        catalog's, and the recall is measured again. What is found wrong is used no more.
        """
        from e2vsearch.vectors import audit

        try:
            pointer = generation.read_pointer(self._root)
            if pointer is None:
                return []
            base = self._open(pointer, rehash=True)
        except GenerationError as error:
            self._forget()
            return [str(error)]
        problems = audit.problems(base, self._source, self._options.seed)
        if problems:
            self._give_up(base, problems[0])
        return problems


def _ascending(ids: NDArray[np.int64] | None) -> Ints | None:
    if ids is None:
        return None
    array = np.asarray(ids, np.int64).reshape(-1)
    return array if (array[1:] > array[:-1]).all() else np.unique(array)
