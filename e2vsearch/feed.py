"""What a catalog tells an index: vectors with their ids, and which came or went since.

The catalog implements `VectorSource`, the vectors room reads it, and neither imports the other.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Batch:
    """Some segments with their vectors, ids ascending."""

    ids: NDArray[np.int64]  # (n,) segments
    recordings: NDArray[np.int64]  # (n,) the recording each is of
    vectors: NDArray[np.float32]  # (n, dim) as the encoder made them


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened after a watermark."""

    added: NDArray[np.int64]  # segments that came and are still there; may overlap what the snapshot already had
    added_recordings: NDArray[np.int64]  # the recording of each of them
    removed: NDArray[np.int64]  # segments that are gone


@dataclass(frozen=True, slots=True)
class SqlFilter:
    """A filter as a statement of the catalog's own Postgres, which selects the ids of the segments that meet it."""

    statement: str  # with ``%(name)s`` for each value
    values: Mapping[str, Any]


class Snapshot(Protocol):
    """One consistent read of all segments."""

    watermark: int  # every change up to here is in; `VectorSource.changes_since` it gives the rest

    @property
    def count(self) -> int:
        """How many segments there are."""

    def batches(self) -> Iterator[Batch]:
        """All segments, ids ascending over all batches."""


class VectorSource(Protocol):
    """Where an index gets its vectors from, and the truth that it is checked against."""

    @property
    def dim(self) -> int:
        """Length of each vector."""

    @property
    def collection_id(self) -> str:
        """Which collection this is: an index of another one is refused."""

    @property
    def space_id(self) -> str:
        """Which space the vectors live in: an index of another one is refused."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Open a consistent read; it holds a transaction open until left."""

    def changes_since(self, watermark: int) -> Changes:
        """Everything that is not in a snapshot of that watermark, and possibly some that is."""

    def changes_token(self, watermark: int) -> Hashable:
        """Cheap; differs from the last one if anything happened since."""

    def fetch(self, ids: NDArray[np.int64]) -> Batch:
        """Those of the segments that still exist, ids ascending."""

    def fingerprint(self) -> tuple[int, int, int, int]:
        """Count, least, greatest and exclusive-or of all segment ids; zeros when there are none."""
