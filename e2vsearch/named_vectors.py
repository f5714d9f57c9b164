"""The facet `Collection.named_vectors`: other models' vectors on segments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from e2vsearch.catalog import named_vectors
from e2vsearch.catalog.writer import Catalog
from e2vsearch.listing import Listing
from e2vsearch.types import NamedVectors, number_of


class NamedVectorSets:
    """Sets of named vectors, which a query weighs in by `Query.named_vectors`."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def list(self) -> Listing[NamedVectors]:
        """Return every set, with its dimension and how many segments have a vector in it."""
        return Listing(named_vectors.listed(self._catalog), NamedVectors)

    def attach(self, name: str, ids: Sequence[str | int] | NDArray[np.int64], vectors: ArrayLike) -> NamedVectors:
        """Attach vectors of another model to segments, and return the set as it is now.

        Args:
            name: of the set, such as ``text``; it is made if there is none of that name.
            ids: the segments, ``seg:12`` or 12, each once.
            vectors: ``(n, dim)``, one for each; one that a segment has in this set is replaced.

        Raises:
            NotStored: a segment that is not there.
            VectorFileError: vectors that are none, or not one for each id.
            SpaceMismatch: the set has vectors of another dimension.
            SettingsError: the name cannot be used.
        """
        numbers = [int(each) if isinstance(each, int | np.integer) else number_of(each, "seg") for each in ids]
        return named_vectors.attach(self._catalog, name, np.array(numbers, np.int64), vectors)

    def detach(self, name: str) -> int:
        """Delete a set, and return how many vectors it had.

        Raises:
            NotStored: there is none of that name.
        """
        return named_vectors.detach(self._catalog, name)
