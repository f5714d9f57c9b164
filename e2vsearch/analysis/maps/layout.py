"""The layout of vectors in the plane and their clusters: UMAP and HDBSCAN, seeded.

Neighbours are found exactly, by cosine, and one graph of them serves the picture, the clusters and later placing. The
picture is a layout in two dimensions, the clusters are those of another in five. On CREMA-D's 7,442 clips with clusters
of 74 or more, over three seeds, HDBSCAN on the plane left 7 to 21 % in no cluster, and its agreement with emotion went
up and down with the seed (adjusted Rand index .11 to .22, deviation up to .09); in five dimensions it left 3 to 6 % and
agreed as well each time (.138 to .144, deviation .002), and ten gave no more. On EMO-DB's 535 clips they all came
within each other's deviation. `benchmarks/clusters.py` measures what is built.

UMAP: McInnes, Healy, Melville, 2018, arXiv 1802.03426. HDBSCAN: Campello, Moulavi, Sander, 2013.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.maps.types import NONE, Layout, MapOptions, Progress
from e2vsearch.errors import AnalysisError, missing_extra

MIN_POINTS = 10
"""UMAP has no shape to find in fewer."""

REACH = 0.99
"""Quantile of mapped points' mean distances to their neighbours; a new point beyond it is in no cluster."""

_DEFAULT_SIZE, _DEFAULT_SHARE = 15, 100  # 15: of the article, on 1,247 calls
_QUERIES = 4096  # at a time: of 20,000 x 384 one such block takes 1 s on two cores
_PCA = "pca"  # where layouts start: deterministic, and on CREMA-D a third faster than the spectral start, as good


def resolve(options: MapOptions, count: int) -> MapOptions:
    """Return the options as used for `count` points.

    Raises:
        AnalysisError: they make no sense, or there are too few points.
    """
    size = options.min_cluster_size
    if size is None:
        usual = max(_DEFAULT_SIZE, count // _DEFAULT_SHARE)
        size = usual if count >= 4 * usual else max(3, count // 4)
    if size < 2:
        raise AnalysisError(f"a cluster of {size} is none - choose --min-cluster-size 2 or more")
    for name, value, least in (
        ("--neighbors", options.neighbors, 2),
        ("min_samples", options.min_samples, 1),
        ("dimensions", options.dimensions, 2),
        ("--seed", options.seed, 0),
    ):
        if value < least:
            raise AnalysisError(f"{name} must be {least} or more, not {value}")
    if not 0.0 <= options.min_dist <= 1.0:
        raise AnalysisError(f"--min-dist must be between 0 and 1, not {options.min_dist:g}")
    least = max(MIN_POINTS, 2 * size)
    if count < least:
        raise AnalysisError(
            f"{count} points are too few for a map with clusters of {size} or more: {least} are needed - widen --where,"
            " ingest more recordings, or lower --min-cluster-size (--by segment has more points than --by recording)"
        )
    return replace(options, min_cluster_size=size, neighbors=min(options.neighbors, count - 1))


def lay_out(vectors: NDArray[np.float32], options: MapOptions, progress: Progress | None = None) -> Layout:
    """Return coordinates in [-1, 1] and clusters, the largest first.

    Args:
        vectors: ``(n, dim)``, unit rows.
        options: as `resolve` gives them.
        progress: see `Progress`.

    Raises:
        MissingExtra: umap-learn or scikit-learn is not installed.
    """
    show = progress or _no_progress
    near, distances = neighbours(vectors, options.neighbors, show)
    plane = _layout(vectors, near, distances, 2, options.min_dist, options, "drawing", show)
    deep = _layout(vectors, near, distances, min(options.dimensions, len(vectors) - 2), 0.0, options, "grouping", show)
    cluster, strength = _clusters(deep, options, show)
    middle = (plane.max(0) + plane.min(0)) / 2
    plane = (plane - middle) / max(float(np.abs(plane - middle).max()), 1e-9)
    plane = np.clip(plane, -1.0, 1.0).astype(np.float32)
    reach = float(np.quantile(distances[:, 1:].mean(1), REACH))
    return Layout(plane[:, 0], plane[:, 1], cluster, strength, reach)


def neighbours(
    vectors: NDArray[np.float32], count: int, progress: Progress
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return each row and its `count` nearest others: rows and cosine distances, ``(n, count + 1)``, nearest first.

    Exact. FAISS compares 20,000 x 384 with themselves in 6 s on two cores, where `exact.top` takes 15 s.
    """
    import faiss

    total, width = len(vectors), count + 1
    rows = np.empty((total, width), np.int32)
    distances = np.empty((total, width), np.float32)
    for start in range(0, total, _QUERIES):
        part = slice(start, min(start + _QUERIES, total))
        scores, found = faiss.knn(vectors[part], vectors, width, metric=faiss.METRIC_INNER_PRODUCT)
        own = np.arange(part.start, part.stop)[:, None]
        # a twin of a point may come before the point itself, and push it out: it belongs first
        order = np.argsort(np.where(found == own, -1, np.arange(width)), axis=1, kind="stable")
        missing = ~(found == own).any(1)
        found, scores = np.take_along_axis(found, order, 1), np.take_along_axis(scores, order, 1)
        found[missing, 1:], scores[missing, 1:] = found[missing, :-1], scores[missing, :-1]
        found[:, 0], scores[:, 0] = own[:, 0], 1.0
        rows[part], distances[part] = found, np.clip(1.0 - scores, 0.0, 2.0)
        progress("finding neighbours", part.stop, total)
    return rows, distances


def _layout(
    vectors: NDArray[np.float32],
    near: NDArray[np.int32],
    distances: NDArray[np.float32],
    dimensions: int,
    min_dist: float,
    options: MapOptions,
    named: str,
    progress: Progress,
) -> NDArray[np.float32]:
    progress(named, 0, 1)
    # umap warns that it has no TensorFlow, that a given graph cannot transform new points, and of few points
    with _without_warnings("e2vsearch map"):
        import umap

        model = umap.UMAP(
            n_neighbors=options.neighbors,
            n_components=dimensions,
            min_dist=min_dist,
            metric="cosine",
            init=_PCA,
            random_state=options.seed,
            n_jobs=1,  # what a seed asks of umap: several threads would each add up in their own order
            precomputed_knn=(near[:, : options.neighbors], distances[:, : options.neighbors], None),
            tqdm_kwds={
                "disable": False,
                "file": _Epochs(lambda done, total: progress(named, done, total)),
                "bar_format": "{n_fmt}/{total_fmt}",
                "mininterval": 0.5,
            },
        )
        return np.asarray(model.fit_transform(vectors), np.float32)


def _clusters(
    points: NDArray[np.float32], options: MapOptions, progress: Progress
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return each point's cluster, numbered by falling size, and the strength of its membership."""
    progress("clustering", 0, 1)
    with _without_warnings("e2vsearch map"):
        from sklearn.cluster import HDBSCAN

        samples = min(options.min_samples, len(points))
        model = HDBSCAN(min_cluster_size=options.min_cluster_size, min_samples=samples, copy=True).fit(points)
    found, strength = model.labels_, model.probabilities_
    _, first, sizes = np.unique(found[found >= 0], return_index=True, return_counts=True)
    rank = np.empty(max(sizes.size, 1), np.int32)
    rank[np.lexsort((first, -sizes))] = np.arange(sizes.size)  # equally large ones as their first points come
    cluster = np.where(found >= 0, rank[np.maximum(found, 0)], NONE).astype(np.int32)
    progress("clustering", 1, 1)
    return cluster, np.where(found >= 0, strength, 0.0).astype(np.float32)


def versions() -> dict[str, str]:
    """Return the versions of all packages that coordinates and clusters depend on."""
    from importlib.metadata import version

    from e2vsearch._version import __version__

    named = ("umap-learn", "scikit-learn", "numba", "numpy", "faiss-cpu", "faiss-gpu")
    return {"e2vsearch": __version__} | {name: version(name) for name in named if _has(name)}


def require_packages() -> None:
    """Check that the packages of the extra are installed, before minutes are spent.

    Raises:
        MissingExtra: one of them is not installed.
    """
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("umap", "sklearn", "scipy")):
        raise missing_extra("e2vsearch map", "map")


class _Epochs:
    """A file for a tqdm bar of the form 12/200 that passes the numbers on."""

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self._report = report

    def write(self, text: str) -> None:
        if found := re.search(r"(\d+)/(\d+)", text):
            self._report(int(found[1]), int(found[2]))

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""


@contextmanager
def _without_warnings(feature: str) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except ModuleNotFoundError as error:
            raise missing_extra(feature, "map") from error


def _has(name: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _no_progress(*_: Any) -> None:
    """Report nothing."""
