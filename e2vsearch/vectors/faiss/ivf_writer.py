"""The writer of inverted lists, in the memory of a part of the rows.

FAISS fills lists in memory, each an array that doubles when it is full: 1,000,000 x 1024 peaked at 7.0 GB as
``ivf-flat``. Here each row's list is found first, a part of the rows at a time; with the lists' lengths their places in
the file are known, and codes go there as they are made. The file is, byte for byte, what FAISS writes of an index with
the same rows. (`faiss.contrib.ondisk.merge_ondisk` of 300,000 x 256 in as large parts peaks at 640 MB as ``ivf-flat``
where this takes 77, writes the lists twice, and stores an absolute path, which a renamed generation breaks.)
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from e2vsearch.errors import GenerationError
from e2vsearch.files import drop_page_cache
from e2vsearch.vectors.engine import Progress
from e2vsearch.vectors.exact import Float32s, Ints
from e2vsearch.vectors.faiss.gpu import GpuCentroids
from e2vsearch.vectors.faiss.ivf import faiss_module, limit_threads

_CENTROID_BYTES = 2 << 20  # so few are all compared in the time that their codes would take
_CENTROID_BITS = 4  # of a query, for the centroids: 0.11 ms where 8 take 0.14, and the same lists
_CODED_FACTOR = 4.0  # stored with the index, for searches that choose no lists of their own
_ID_BYTES = _LENGTH_BYTES = 8


def fill(
    kind: str,
    vectors: Float32s,
    centroids: Float32s,
    seed: int,
    path: Path,
    progress: Progress,
    part_rows: int = 16_384,  # 64 MiB of 1024-d
) -> None:
    """Write an index of all rows; neither atomic nor synced, which is the caller's part.

    Args:
        kind: ``ivf-rabitq`` or ``ivf-flat``.
        vectors: ``(n, dim)`` unit rows, usually mapped; read twice, a part at a time.
        centroids: ``(nlist, dim)`` of the lists.
        seed: of the rotation.
        path: the file; one that is there is replaced, and processes that have it mapped keep it.
        progress: called with ``("assign", done, total)``, then ``("add", done, total)``.
        part_rows: rows in memory at a time.

    Raises:
        GenerationError: this FAISS has another file layout.
        OSError: the file did not get there whole.
    """
    index, inner, rotation = _empty(kind, centroids, seed)
    limit_threads(len(vectors))

    def parts(stage: str) -> Iterator[tuple[slice, Float32s]]:
        n = len(vectors)
        for start in range(0, n, part_rows):
            progress(stage, start, n)
            rows = np.array(vectors[start : start + part_rows])
            drop_page_cache(vectors)
            yield slice(start, start + len(rows)), rows if rotation is None else rotation.apply(rows)
        progress(stage, n, n)

    lists = np.empty(len(vectors), np.int64)
    of_rows = GpuCentroids(faiss_module(), inner.quantizer)
    for at, rows in parts("assign"):
        lists[at] = of_rows.nearest(rows)
    if centroids.nbytes > _CENTROID_BYTES:
        # not before: many vectors find their lists sooner without codes
        exact = inner.quantizer
        coded = _coded(exact, None if rotation is not None else _rotation(exact.d, seed + 1))
        inner.quantizer = coded  # FAISS holds a bare pointer, to what has a name here
    path.unlink(missing_ok=True)
    sizes = np.bincount(lists, minlength=len(centroids))
    with path.open("wb") as file:
        start = file.write(_head(index, inner, sizes))
        places = _write_ids(file, start, int(inner.code_size), lists, sizes)
        for at, rows in parts("add"):
            codes = _codes(inner, rows, lists[at])
            for number, some in _by_list(lists[at]):
                file.seek(int(places[number]))
                places[number] += file.write(codes[some].data)


def _by_list(lists: Ints) -> Iterator[tuple[int, Ints]]:
    """Return each list that is there, and the rows in it, in order."""
    found, counts = np.unique(lists, return_counts=True)
    rows = np.split(np.argsort(lists, kind="stable"), np.cumsum(counts)[:-1])
    return zip(found.tolist(), rows, strict=True)


def _write_ids(file: BinaryIO, start: int, width: int, lists: Ints, sizes: Ints) -> Ints:
    """Write the ids of each list behind the place of its codes; return where its codes begin, ``(nlist,)``."""
    taken = sizes * (width + _ID_BYTES)
    places: Ints = start + np.cumsum(taken) - taken
    for number, rows in _by_list(lists):
        file.seek(int(places[number]) + rows.size * width)
        file.write(rows.astype("<i8", copy=False).data)
    return places


def _empty(kind: str, centroids: Float32s, seed: int) -> tuple[Any, Any, Any]:
    """Return an index of no rows, the IVF inside it, and the rotation before that, if any."""
    faiss = faiss_module()
    nlist, dim = centroids.shape
    metric = faiss.METRIC_INNER_PRODUCT
    rotation = None
    if kind == "ivf-rabitq":
        rotation = _rotation(dim, seed + 1)
        centroids = rotation.apply(centroids)
    quantizer = faiss.IndexFlatIP(dim)
    quantizer.add(np.ascontiguousarray(centroids))
    if kind == "ivf-rabitq":
        inner = faiss.IndexIVFRaBitQ(quantizer, dim, nlist, metric)
    else:
        inner = faiss.IndexIVFFlat(quantizer, dim, nlist, metric)
    index = inner if rotation is None else faiss.IndexPreTransform(rotation, inner)
    index.train(np.zeros((1, dim), np.float32))  # a quantizer that holds its centroids is left as it is
    return index, inner, rotation


def _rotation(dim: int, seed: int) -> Any:
    """Return a random rotation of so many dimensions; the quick one takes powers of two."""
    faiss = faiss_module()
    rotation = faiss.HadamardRotation(dim) if dim & (dim - 1) == 0 else faiss.RandomRotationMatrix(dim, dim)
    rotation.init(seed)
    return rotation


def _coded(exact: Any, rotation: Any) -> Any:
    """Return an index that compares only the centroids whose codes are near; `rotation` is None if they had one."""
    faiss = faiss_module()
    vectors = exact.reconstruct_n(0, exact.ntotal)
    codes = bits = faiss.IndexRaBitQ(exact.d, faiss.METRIC_INNER_PRODUCT)
    if rotation is not None:
        codes = faiss.IndexPreTransform(rotation, bits)
    codes.train(vectors)
    codes.add(vectors)
    bits.qb = _CENTROID_BITS
    found = faiss.IndexRefine(codes, exact)
    found.k_factor = _CODED_FACTOR
    return found


def _codes(inner: Any, rows: Float32s, lists: Ints) -> Any:
    """Return the codes of rows, ``(n, code_size)`` bytes."""
    faiss = faiss_module()
    codes = np.empty((len(rows), int(inner.code_size)), np.uint8)
    rows = np.ascontiguousarray(rows)
    inner.encode_vectors(len(rows), *(faiss.swig_ptr(each) for each in (rows, lists, codes)))
    return codes


def _head(index: Any, inner: Any, sizes: Ints) -> bytes:
    """Return the bytes that FAISS writes before the content of lists of such lengths.

    Of each list in turn it writes codes and ids, at the end of the file, and before that the length of each. So it is
    let write an index of one row a list, whose end and whose lengths are known.
    """
    faiss = faiss_module()
    nlist, width = len(sizes), int(inner.code_size)
    code, row = np.zeros(width, np.uint8), np.zeros(1, np.int64)
    for number in range(nlist):
        inner.invlists.add_entries(number, 1, faiss.swig_ptr(row), faiss.swig_ptr(code))
    index.ntotal = inner.ntotal = int(sizes.sum())
    content = io.BytesIO()
    faiss.write_index(index, faiss.PyCallbackIOWriter(content.write))
    end = content.tell() - nlist * (width + _ID_BYTES)
    start = end - nlist * _LENGTH_BYTES
    whole = content.getvalue()
    if start < 0 or whole[start:end] != np.ones(nlist, "<i8").tobytes() or any(whole[end:]):
        raise GenerationError(
            f"FAISS {faiss.__version__} has another file layout than e2vsearch writes: "
            "pip install 'faiss-cpu==1.15.*', or upgrade e2vsearch"
        )
    return whole[:start] + sizes.astype("<i8").tobytes()
