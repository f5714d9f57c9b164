"""A GPU, where FAISS is ``faiss-gpu``: centroids are found on it, and lists of whole vectors searched in a copy.

``faiss-gpu`` takes the place of ``faiss-cpu``: both are the package ``faiss``, and of two that are installed the one
that was unpacked last is imported. What FAISS 1.15.1 copies to a GPU is ``ivf-flat`` (halved to 16 bits here: hits are
scored from the stored vectors in any case), IVF-PQ and IVF-SQ, and of centroids only a flat index. It has no RaBitQ
there, so an ``ivf-rabitq`` is trained on a GPU, and searched without.

Without a GPU all of it is done on the CPU, which is said once.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np

from e2vsearch.vectors.exact import Float32s, Ints

logger = logging.getLogger(__name__)
_MOST = 2048  # results and lists a query that FAISS's GPU code takes
_told: set[str] = set()


def count(faiss: Any) -> int:
    """Return the number of GPUs that a FAISS can use; 0 for faiss-cpu."""
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


def missing(faiss: Any) -> str | None:
    """Return why there is no GPU to use, with the cure; None where there is one."""
    if count(faiss):
        return None
    if hasattr(faiss, "StandardGpuResources"):
        return "faiss-gpu sees no GPU here: nvidia-smi tells whether the driver does"
    return (
        "faiss-cpu uses no GPU: pip uninstall -y faiss-cpu faiss-gpu, then pip install 'faiss-gpu==1.15.*' in its place"
    )


def tell(line: str) -> None:
    """Log a line as a warning, once in a process."""
    if line not in _told:
        _told.add(line)
        logger.warning("%s", line)


class GpuLists:
    """A copy of inverted lists on the first GPU."""

    def __init__(self, faiss: Any, lists: Any) -> None:
        """Copy an index; see `flat_lists`.

        Raises:
            RuntimeError: it does not fit, or there is no GPU.
        """
        self._faiss = faiss
        self._memory = faiss.StandardGpuResources()  # the copy lives in it, and does not keep it alive
        options = faiss.GpuClonerOptions()
        options.useFloat16 = True
        self._copy = faiss.index_cpu_to_gpu(self._memory, 0, lists, options)
        self._lock = threading.Lock()  # FAISS's GPU indexes take one caller at a time

    def takes(self, k: int, nprobe: int) -> bool:
        """Tell whether a search is one for the GPU. None with a filter is: it takes a selector and ignores it."""
        return max(k, nprobe) <= _MOST

    def search(self, queries: Float32s, k: int, nprobe: int) -> Ints:
        """Return the rows that rank first, ``(q, k)``."""
        with self._lock:
            params = self._faiss.SearchParametersIVF(nprobe=nprobe)
            _, rows = self._copy.search(np.ascontiguousarray(queries), k, params=params)
        return np.asarray(rows, np.int64)


def flat_lists(faiss: Any, inner: Any, centroids: Any) -> Any:
    """Return an IVF of whole vectors over the lists that `inner` keeps, with the exact centroids that a GPU takes.

    An index of many lists finds the near ones by codes, and FAISS copies no such index of centroids.
    """
    lists = faiss.IndexIVFFlat(centroids, inner.d, inner.nlist, inner.metric_type)
    lists.replace_invlists(inner.invlists, False)
    lists.ntotal, lists.is_trained = inner.ntotal, True
    return lists


def copied(faiss: Any, inner: Any, centroids: Any) -> GpuLists | None:
    """Return a copy of lists on the GPU; None, which is said once, where there is none or it does not fit."""
    why = missing(faiss)
    if why is None:
        try:
            return GpuLists(faiss, flat_lists(faiss, inner, centroids))
        except RuntimeError as error:
            why = str(error).splitlines()[0]
    tell(f"the index is searched on the CPU: {why}")
    return None


class GpuCentroids:
    """An index of centroids that finds the nearest one of many rows: on a GPU where there is one, else as it is."""

    def __init__(self, faiss: Any, quantizer: Any) -> None:
        """Copy the centroids, if there is a GPU.

        Args:
            faiss: the module.
            quantizer: a flat index of the centroids.
        """
        self._index = quantizer
        if count(faiss):
            try:
                self._memory = faiss.StandardGpuResources()
                self._index = faiss.index_cpu_to_gpu(self._memory, 0, quantizer)
            except RuntimeError as error:
                tell(f"rows find their lists on the CPU: {str(error).splitlines()[0]}")

    def nearest(self, rows: Float32s) -> Ints:
        """Return the nearest centroid of each row, ``(n,)``."""
        return np.asarray(self._index.search(np.ascontiguousarray(rows), 1)[1][:, 0], np.int64)
