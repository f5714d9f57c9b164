"""FAISS inverted lists, read and searched.

Rows are the ids inside FAISS: `IndexIDMap` around an IVF returns wrong ids after a removal and aborts the process at
the next (seen on FAISS 1.15.1; its issue 4535 is closed as won't fix), and positions keep selectors small.

What was measured on FAISS 1.15.1 and is not in its manual:

* RaBitQ takes each vector's direction as random. On vectors whose dimensions differ in scale, recall of the top 20 at
  64 of 512 lists and five-fold re-rank was 0.870 as they are and 0.998 after a random rotation (50,000 x 256).
* `IVFRaBitQSearchParameters` starts with ``qb = 0``, an unquantised query, 40 times slower than ``qb = 8`` at equal
  recall. A plain `SearchParametersIVF` is accepted as well.
* Finding the 9 nearest of 4,096 centroids one by one took 0.50 of the 0.66 ms of a query of 1,000,000 x 1024, and up to
  1.7 where other work had pushed their 16 MB out of the processor's cache; a dense rotation took 0.14 of the rest. By
  codes of the centroids, four times as many as are wanted compared exactly, it is 0.11 ms and 0.999 of the same lists;
  a Hadamard rotation takes 0.01.
* ``nprobe`` set on a shared index while others search crashes (issue 3321), and a parameters object with a selector
  alone has ``nprobe = 1``: both go into one object.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.errors import GenerationError
from e2vsearch.files import drop_page_cache, open_mapped
from e2vsearch.vectors.exact import Float32s, Ints, Mask
from e2vsearch.vectors.faiss import gpu
from e2vsearch.vectors.faiss.gpu import GpuLists

_QUERY_BITS = 8
_CENTROIDS_COMPARED = ((0.025, 4.0), (0.05, 2.0), (0.15, 1.5))
"""Up to a share of all centroids, how many times as many as are searched for are compared. Of 4,096 x 1024 four times
give 0.999 of the right lists and more, of 256-d 0.98. Of 200, twice as many give 0.997 and take 0.26 ms, where all take
0.41; of 465, half as many again 0.993 (all of the nearer half) and 0.41, where all take 0.53. Beyond that all are
compared."""

_OMP_QUERIES = 8
COUNTED_ROWS = 65_536  # 0.3 ms; counting all of a million takes tens


@functools.cache
def faiss_module() -> Any:
    """Import FAISS and set it up: a third of a second that an exact search never pays.

    Raises:
        GenerationError: it is not installed, or does not load here.
    """
    try:
        import faiss
    except ImportError as error:
        raise GenerationError(f"FAISS does not load ({error}): pip install faiss-cpu, or use --kind flat") from error
    # 1.15 compares this with queries x dim and ships 128,000: 2 to 124 queries of 1024 dimensions then run one by one,
    # 18 times slower than as one matrix product. But a single query must not go there: waking BLAS threads for a look
    # at the centroids took its median from 0.05 to 12 ms on two cores shared with others
    faiss.cvar.distance_compute_blas_threshold = 4096
    return faiss


@functools.cache
def _threads() -> int:
    return int(faiss_module().omp_get_max_threads())  # OMP_NUM_THREADS, or the cores


@dataclass(frozen=True, slots=True)
class Near:
    """Lists near q queries, nearest first."""

    queries: Float32s  # (q, dim) as the lists know them
    scores: Float32s  # (q, m) of the lists' centroids
    lists: Ints  # (q, m), -1 for none


class Ivf:
    """A trained index over rows 0 to n - 1. Never written to: adding to a mapped index aborts the interpreter."""

    def __init__(self, index: Any, file: NDArray[np.uint8]) -> None:
        """As `read` makes it: `file` holds the lists."""
        self._index = index
        self._file = file
        faiss = faiss_module()
        self._inner = faiss.downcast_index(faiss.extract_index_ivf(index))  # seen through a rotation as a bare IVF
        self._gpu: GpuLists | None = None
        self._unfiltered: dict[int, Any] = {}  # parameters by nprobe: 6 us to make, and a search only reads them

    @classmethod
    def read(cls, path: Path, n: int, dim: int, nlist: int) -> Ivf:
        """Open the index in a file whose hash was checked: FAISS has no checksum and loads flipped bytes silently.

        Raises:
            OSError: the file cannot be read.
            GenerationError: not an index, or not of that shape.
        """
        faiss = faiss_module()
        file = open_mapped(path, np.uint8, (path.stat().st_size,))
        try:
            # zero-copy: opens in milliseconds, and processes share the pages
            index = faiss.read_index(faiss.ZeroCopyIOReader(faiss.swig_ptr(file), file.size))
            ivf = cls(index, file)
        except RuntimeError as error:
            raise GenerationError(f"{path} is not a FAISS IVF index ({str(error).splitlines()[0]})") from error
        if (index.ntotal, index.d, ivf.nlist) != (n, dim, nlist):
            raise GenerationError(f"{path} holds {index.ntotal} x {index.d} in {ivf.nlist} lists, not {n} x {dim}")
        return ivf

    def release_pages(self) -> None:
        """Drop the file's pages from memory; they are read again when they are needed."""
        drop_page_cache(self._file)

    def use_gpu(self) -> None:
        """Search without a filter in a copy on the GPU; where there is none, or it does not fit, that is said once."""
        self._gpu = gpu.copied(faiss_module(), self._inner, self._centroid_index)

    @property
    def nlist(self) -> int:
        """Number of lists."""
        return int(self._inner.nlist)

    @property
    def row_bytes(self) -> int:
        """Bytes read for each row of a visited list."""
        return int(self._inner.code_size)

    def nearest(self, queries: Float32s, count: int) -> Near:
        """Return the nearest lists to each query, `count` of them or all there are."""
        faiss = faiss_module()
        if self._index is not self._inner and hasattr(self._index, "chain"):
            queries = faiss.downcast_VectorTransform(self._index.chain.at(0)).apply(np.ascontiguousarray(queries))
        queries = np.ascontiguousarray(queries)
        count = min(count, self.nlist)
        times = next((each for share, each in _CENTROIDS_COMPARED if count <= share * self.nlist), None)
        quantizer = faiss.downcast_index(self._inner.quantizer)
        if times is None or not isinstance(quantizer, faiss.IndexRefine):
            return Near(queries, *self._centroid_index.search(queries, count))
        return Near(
            queries, *quantizer.search(queries, count, params=faiss.IndexRefineSearchParameters(k_factor=times))
        )

    @property
    def _centroid_index(self) -> Any:
        """The exact index of centroids, whatever finds the near ones."""
        faiss = faiss_module()
        quantizer = faiss.downcast_index(self._inner.quantizer)
        return faiss.downcast_index(quantizer.refine_index) if isinstance(quantizer, faiss.IndexRefine) else quantizer

    @functools.cached_property
    def sizes(self) -> Ints:
        """Rows in each list, ``(nlist,)``."""
        return np.array([self._inner.invlists.list_size(number) for number in range(self.nlist)], np.int64)

    def count_by_list(self, keep: Mask) -> Ints:
        """Return about how many rows of a mask ``(n,)`` each list has, ``(nlist,)``; 65,536 of them are counted."""
        rows = np.flatnonzero(keep)
        step = -(-rows.size // COUNTED_ROWS) or 1
        kept: Ints = np.bincount(self.list_of_row[rows[::step]], minlength=self.nlist) * step
        return kept

    @functools.cached_property
    def list_of_row(self) -> NDArray[np.int32]:
        """The list that each row is in, ``(n,)``: 4 MB for a million rows, made when a filter is first used."""
        faiss = faiss_module()
        lists = self._inner.invlists
        found = np.zeros(self._index.ntotal, np.int32)
        for number in range(self.nlist):
            if size := int(lists.list_size(number)):
                found[faiss.rev_swig_ptr(lists.get_ids(number), size)] = number
        return found

    @property
    def imbalance(self) -> float:
        """Rows that a query reads in the lists it visits, to what it would read of lists of equal size; 1 at best."""
        return float(self._inner.invlists.imbalance_factor())

    def centroids(self) -> Float32s:
        """Return the lists' centroids, ``(nlist, dim)``, as they were before any rotation."""
        faiss = faiss_module()
        centroids = np.asarray(self._centroid_index.reconstruct_n(0, self.nlist), np.float32)
        if self._index is not self._inner and hasattr(self._index, "chain"):
            rotation = faiss.downcast_VectorTransform(self._index.chain.at(0))
            centroids = np.asarray(rotation.reverse_transform(centroids), np.float32)
        return centroids

    def search(self, queries: Float32s, k: int, nprobe: int, bits: NDArray[np.uint8] | None = None) -> Ints:
        """Return the rows that the codes rank first, ``(q, k)``, -1 where the visited lists hold no more.

        Args:
            queries: ``(q, dim)`` unit rows.
            k: how many.
            nprobe: lists to visit; more than there are is all of them.
            bits: a bit for each row that may be returned, the first row's the lowest; all when None.
        """
        nprobe = min(nprobe, self.nlist)
        if self._gpu is not None and bits is None and self._gpu.takes(k, nprobe):
            return self._gpu.search(queries, k, nprobe)
        params = self._params(nprobe, bits)
        limit_threads(len(queries))
        _, rows = self._index.search(np.ascontiguousarray(queries), k, params=params)
        return np.asarray(rows, np.int64)

    def search_near(self, near: Near, k: int, bits: NDArray[np.uint8]) -> Ints:
        """Search as `search` the lists that were chosen for each query."""
        count = len(near.queries)
        params = self._params(near.lists.shape[1], bits)
        limit_threads(count)
        scores, rows = np.empty((count, k), np.float32), np.empty((count, k), np.int64)
        # the C++ method itself: the Python one around it takes no parameters yet ("params not supported", 1.15.1)
        arrays = (faiss_module().swig_ptr(each) for each in (near.queries, near.lists, near.scores, scores, rows))
        at, lists, centroids, to_scores, to_rows = arrays
        self._inner.search_preassigned_c(count, at, k, lists, centroids, to_scores, to_rows, False, params)
        return rows

    def _params(self, nprobe: int, bits: NDArray[np.uint8] | None) -> Any:
        if bits is None:
            if nprobe not in self._unfiltered:
                self._unfiltered[nprobe] = self._visiting(nprobe)
            return self._unfiltered[nprobe]
        params = self._visiting(nprobe)
        params.sel = selector = faiss_module().IDSelectorBitmap(bits)
        # FAISS holds bare pointers to both, and what is read back from `sel` owns nothing
        params.selected = bits, selector
        return params

    def _visiting(self, nprobe: int) -> Any:
        faiss = faiss_module()
        if isinstance(self._inner, faiss.IndexIVFRaBitQ):
            return faiss.IVFRaBitQSearchParameters(nprobe=nprobe, qb=_QUERY_BITS)
        return faiss.SearchParametersIVF(nprobe=nprobe)


def limit_threads(queries: int) -> None:
    """Set one thread for a few queries, which are done before others are awake; all for many, and for filling lists.

    It holds for the calling thread until the next call.

    With it, and without BLAS in `exact.cosines`, the median of 100,000 x 256 on two busy cores fell from 21 to 0.7 ms.
    """
    threads = _threads()  # read before the first limit is set, which is the calling thread's alone
    faiss_module().omp_set_num_threads(1 if queries < _OMP_QUERIES else threads)
