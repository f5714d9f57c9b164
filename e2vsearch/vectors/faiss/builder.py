"""The builder of generations: lists trained or used again, filled, and tuned to a target recall."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import numpy as np

from e2vsearch._version import __version__
from e2vsearch.errors import GenerationError, SettingsError
from e2vsearch.feed import VectorSource
from e2vsearch.files import drop_page_cache
from e2vsearch.vectors.engine import DEFAULT_RECALL, FAISS_KINDS, IndexOptions, Kind, Progress
from e2vsearch.vectors.exact import Float32s, Ints
from e2vsearch.vectors.faiss import gpu, ivf, publish, storage
from e2vsearch.vectors.faiss.ivf import Ivf, faiss_module, limit_threads
from e2vsearch.vectors.faiss.ivf_writer import fill
from e2vsearch.vectors.faiss.nprobe import Trial, Tuned, TuningData, most_candidates, tune
from e2vsearch.vectors.faiss.storage import FileSum, Generation, Manifest, Trained
from e2vsearch.vectors.recall import held_out

_GPU_KIND = "ivf-flat"  # what is copied to a GPU, which takes no RaBitQ codes, and 2 KiB a vector of 1024
MIN_ROWS = 1000  # fewer leave too little to train on beside the vectors held out, and are compared in a millisecond
RICHER = {"ivf-rabitq": "ivf-flat", "ivf-flat": "flat"}  # what to try where a target is missed
DROPPED = 0.02  # recall that lists lost, at what was enough when they were trained, for which they are trained anew
_CROWDED = 2.0  # times the imbalance that they had then, for which they are as well
_TRAIN_PER_LIST = 64  # FAISS warns below 39; 1 M x 1024-d then trains on 1 GiB, which is all that a build holds
_MIN_PER_LIST = 39
_SPAN_ROWS = 16_384  # gathered from the map at a time


@dataclass(frozen=True, slots=True)
class BuildTarget:
    """What a build is for."""

    kind: Kind
    recall: float

    @classmethod
    def of(cls, root: Path, options: IndexOptions, kind: Kind | None, target: float | None) -> BuildTarget:
        """Return what is requested, else what the options say, else what the last build was for.

        Raises:
            SettingsError: no such kind, or a recall out of range.
        """
        before = storage.last_requested(root)
        kind = kind or (options.kind if options.kind != "auto" or before is None else cast(Kind, before[0]))
        if target is None:
            target = options.target_recall
        if target is None:
            target = before[1] if before is not None else DEFAULT_RECALL
        if kind not in FAISS_KINDS:
            raise SettingsError(f"FAISS has no index kind {kind!r}: use one of {', '.join(FAISS_KINDS)}")
        if not 0 < target <= 1:
            raise SettingsError(f"a recall is a share of the true nearest, above 0 and up to 1, not {target:g}")
        return cls(kind, target)


@dataclass(frozen=True, slots=True)
class EarlierLists:
    """Lists of an earlier generation."""

    centroids: Float32s  # (nlist, dim)
    trained: Trained

    def suits(self, n: int) -> bool:
        """Tell whether n segments may still be put in these lists."""
        return (
            self.trained.n / storage.GROWN < n < self.trained.n * storage.GROWN
            and len(self.centroids) * _MIN_PER_LIST <= n
        )


@dataclass(frozen=True, slots=True)
class Fitted:
    """The index that `fit` made."""

    kind: str  # may be richer than requested, and "flat" if nothing else reached the target
    nlist: int | None
    trained: Trained | None
    tuned: Tuned
    note: str

    @classmethod
    def flat(cls, target: float, note: str = "") -> Fitted:
        """Return an index without lists: every query is compared with every vector."""
        return cls("flat", None, None, Tuned.exact(target), note)


def lists_for(n: int) -> int:
    """Return the number of lists for n rows: the power of two nearest to 4 sqrt(n), with 39 rows or more each."""
    nlist = 1 << round(math.log2(4 * math.sqrt(max(n, 1))))
    while nlist > 1 and nlist * _MIN_PER_LIST > n:
        nlist //= 2
    return nlist


def build(
    folder: Path,
    source: VectorSource,
    options: IndexOptions,
    goal: BuildTarget,
    queries: Float32s,
    earlier: EarlierLists | None,
    progress: Progress,
    wait_s: float,
) -> Manifest:
    """Build a new generation of all segments, and point to it.

    Args:
        folder: of the index.
        source: of the vectors.
        options: seed and how many to keep.
        goal: kind and recall.
        queries: ``(q, dim)`` the last queries.
        earlier: lists of an earlier generation, used again where they still suit.
        progress: called with ``(stage, done, total)``.
        wait_s: how long to wait for another builder.

    Raises:
        GenerationBusy: another process is building.
        GenerationError: the folder cannot be written.
    """
    if goal.kind == "gpu" and (why := gpu.missing(faiss_module())):
        gpu.tell(f"the index is built on the CPU, and searched on a GPU where there is one: {why}")
    with publish.building(folder, wait_s) as aside:
        with source.snapshot() as snapshot:
            n = publish.copy(snapshot, aside, source.dim, lambda done, of: progress("read", done, of))
            watermark = snapshot.watermark
        kind = {"auto": "flat" if n <= options.exact_below else "ivf-rabitq", "gpu": _GPU_KIND}.get(
            goal.kind, goal.kind
        )
        if kind == "flat":
            fitted = Fitted.flat(goal.recall)
        else:
            data = TuningData(*publish.copied(aside, n, source.dim), queries, goal.recall, options.seed, progress)
            fitted = fit(kind, data, aside / storage.IVF, earlier)

        def describe(files: dict[str, FileSum], built_at: str) -> Manifest:
            return Manifest(
                format=storage.FORMAT,
                e2vsearch=__version__,
                faiss=None if fitted.nlist is None else str(ivf.faiss_module().__version__),
                kind=fitted.kind,
                requested_kind=goal.kind,
                dim=source.dim,
                n=n,
                watermark=watermark,
                collection_id=source.collection_id,
                space_id=source.space_id,
                nlist=fitted.nlist,
                trained=fitted.trained,
                tuned=fitted.tuned,
                seed=options.seed,
                built_at=built_at,
                note=fitted.note,
                files=files,
            )

        progress("write", 0, 1)
        published = publish.publish(aside, options.keep, describe)
        progress("write", 1, 1)
    return published


def lists_of(base: Generation | None) -> EarlierLists | None:
    """Return a generation's lists, for the next one."""
    if base is None or base.ivf is None or base.manifest.trained is None:
        return None
    return EarlierLists(base.ivf.centroids(), base.manifest.trained)


def fit(kind: str, data: TuningData, path: Path, earlier: EarlierLists | None = None) -> Fitted:
    """Train, fill and tune an index in a file, unless exact search turns out to be the index.

    Where a kind cannot reach the target at any nprobe, the next richer one is taken; the note says so. Only a training
    sample is held in memory.

    Args:
        kind: ``ivf-rabitq`` or ``ivf-flat``.
        data: rows and target.
        path: the file to write.
        earlier: lists to be used again where they still suit.

    Raises:
        OSError: the file cannot be written.
    """
    n, target = len(data.vectors), data.target
    if n < MIN_ROWS:
        return Fitted.flat(target, f"{kind} needs {MIN_ROWS} segments to be tuned on, {n} are compared exactly")
    if earlier is not None and earlier.suits(n):
        fitted = _refilled(kind, data, path, earlier)
        if fitted is not None:
            return fitted
    nlist = lists_for(n)
    chosen = _training_rows(data.ids, nlist, data.seed)
    data.progress("train", 0, nlist)
    centroids = _centroids(_gathered(data.vectors, chosen), nlist, data.seed)
    data.progress("train", nlist, nlist)
    missed: list[str] = []
    while kind != "flat":
        ivf = _filled(kind, data, centroids, path)
        tuned = tune(ivf, kind, data)
        if tuned is not None:
            trained = Trained(n, len(chosen), _now(), kind, tuned.tunings[0], round(ivf.imbalance, 3))
            return Fitted(kind, nlist, trained, tuned, _note(missed, target))
        missed.append(kind)
        kind = RICHER[kind]
    path.unlink()
    return Fitted.flat(target, _note(missed, target))


def tune_generation(root: Path, base: Generation, target: float, queries: Float32s, progress: Progress) -> Tuned:
    """Tune a generation as it is, and point to the settings; requires the build lock.

    Raises:
        GenerationError: it does not reach the target at any nprobe.
    """
    tuned: Tuned | None = Tuned.exact(target)
    kind = base.manifest.kind
    if base.ivf is not None:
        tuned = tune(base.ivf, kind, TuningData(base.vectors, base.ids, queries, target, base.manifest.seed, progress))
    if tuned is None:
        raise GenerationError(
            f"{kind} does not reach recall {target:g} here at any nprobe: e2vsearch index build --recall {target:g} "
            "takes a richer kind"
        )
    publish.retune(root, base.pointer, tuned)
    return tuned


def _refilled(kind: str, data: TuningData, path: Path, earlier: EarlierLists) -> Fitted | None:
    """Fit as `fit` with earlier lists, in the time that filling takes; None where they no longer suit."""
    trained, vectors = earlier.trained, data.vectors
    ivf = _filled(kind, data, earlier.centroids, path)
    if ivf.imbalance > _CROWDED * trained.imbalance:
        return None
    if kind == trained.kind:
        rows = held_out(data.ids, data.seed)[0]
        then = trained.tuning
        now = Trial(ivf, vectors, vectors[rows], rows, then.k).recall(then.k, then.nprobe, most_candidates(kind))
        if now.recall < then.recall_stored - DROPPED:
            return None
    tuned = tune(ivf, kind, data)
    return None if tuned is None else Fitted(kind, len(earlier.centroids), trained, tuned, "")


def _filled(kind: str, data: TuningData, centroids: Float32s, path: Path) -> Ivf:
    """Write the index of all rows, and return it as it will be read."""
    fill(kind, data.vectors, centroids, data.seed, path, data.progress)
    n, dim = data.vectors.shape
    return Ivf.read(path, n, dim, len(centroids))


def _training_rows(ids: Ints, nlist: int, seed: int) -> Ints:
    others = np.setdiff1d(np.arange(len(ids)), np.concatenate(held_out(ids, seed)))
    return np.sort(np.random.default_rng(seed).permutation(others)[: _TRAIN_PER_LIST * nlist])


def _gathered(vectors: Float32s, rows: Ints) -> Float32s:
    sample = np.empty((len(rows), vectors.shape[1]), np.float32)
    for start in range(0, len(rows), _SPAN_ROWS):
        sample[start : start + _SPAN_ROWS] = vectors[rows[start : start + _SPAN_ROWS]]
        drop_page_cache(vectors)
    return sample


def _centroids(sample: Float32s, nlist: int, seed: int) -> Float32s:
    faiss = faiss_module()
    limit_threads(len(sample))  # a query before may have left this thread with one
    kmeans = faiss.Kmeans(
        sample.shape[1],
        nlist,
        niter=10,
        spherical=True,  # lists of directions, as cosine needs
        seed=seed + 1,  # FAISS keeps its own default for some zeros
        min_points_per_centroid=1,
        max_points_per_centroid=_TRAIN_PER_LIST,
        gpu=gpu.count(faiss) > 0,
    )
    kmeans.train(sample)
    return np.asarray(kmeans.centroids, np.float32)


def _note(missed: list[str], target: float) -> str:
    return f"{' and '.join(missed)} did not reach recall {target:g} at any nprobe" if missed else ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
