"""A source of vectors, seen through a projection. Knows the feed's protocol, nothing of where vectors come from."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from e2vsearch.feed import Batch, Changes, Snapshot, VectorSource
from e2vsearch.projections import RAW, Projection


class Projected:
    """An `e2vsearch.feed.VectorSource` whose vectors are those of another one, projected as they are read.

    Its `space_id` holds the projection's revision, so that an index built under one projection refuses another's.
    """

    def __init__(self, source: VectorSource, projection: Projection) -> None:
        """Reads nothing yet.

        Args:
            source: of vectors as the encoder made them.
            projection: that takes vectors of its length.
        """
        self._source = source
        self.projection = projection

    @property
    def dim(self) -> int:
        """Length of each vector, projected."""
        return self.projection.dim_out(self._source.dim)

    @property
    def collection_id(self) -> str:
        """The collection's UUID."""
        return self._source.collection_id

    @property
    def space_id(self) -> str:
        """The encoder's space and the projection, in one line."""
        if self.projection.kind == RAW.kind:
            return self._source.space_id
        return f"{self._source.space_id}>{self.projection.kind}@{self.projection.revision}"

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """One consistent read of all segments."""
        with self._source.snapshot() as snapshot:
            yield _Snapshot(snapshot, self.projection, snapshot.watermark)

    def changes_since(self, watermark: int) -> Changes:
        """Segments that came or went after that watermark."""
        return self._source.changes_since(watermark)

    def changes_token(self, watermark: int) -> Hashable:
        """Differs from the last one if anything happened since."""
        return self._source.changes_token(watermark)

    def fetch(self, ids: NDArray[np.int64]) -> Batch:
        """Those of the segments that still exist, ids ascending."""
        return _projected(self._source.fetch(ids), self.projection)

    def fingerprint(self) -> tuple[int, int, int, int]:
        """Count, least, greatest and exclusive-or of all segment ids."""
        return self._source.fingerprint()


@dataclass(slots=True)  # not frozen: the protocol's attributes are plain ones
class _Snapshot:
    snapshot: Snapshot
    projection: Projection
    watermark: int

    @property
    def count(self) -> int:
        """How many segments there are."""
        return self.snapshot.count

    def batches(self) -> Iterator[Batch]:
        """All segments, ids ascending, some thousands at a time."""
        for batch in self.snapshot.batches():
            yield _projected(batch, self.projection)


def _projected(batch: Batch, projection: Projection) -> Batch:
    return replace(batch, vectors=projection.apply(batch.vectors))
