"""Scores by other models' vectors as well: each set's weight, and what its vectors are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog.named_vectors import EMOTION, fetch, get
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import NotStored, QueryError
from e2vsearch.search.query import NamedVectorWeight
from e2vsearch.search.resolve import ResolvedReference
from e2vsearch.search.score import NamedVectorPart, NamedVectorScore
from e2vsearch.types import NamedVectors, number_of
from e2vsearch.vectors.exact import unit


def named_vector_score(
    catalog: Catalog, weights: Mapping[str, NamedVectorWeight], references: Sequence[ResolvedReference]
) -> NamedVectorScore:
    """Return how the collection's own vectors and named vectors are weighted, with what each set is compared with.

    Raises:
        QueryError: a weight or vector that cannot be used, or no reference for a set of named vectors.
        NotStored: a set of named vectors or a segment that is not there.
    """
    own, parts = 1.0, []
    for name, value in weights.items():
        weight, source = value if isinstance(value, tuple) else (value, None)
        if not isfinite(weight) or weight < 0:
            raise QueryError(f"the weight of {name} must be 0 or more, not {weight}")
        if name == EMOTION:
            if source is not None:
                raise QueryError(f"{EMOTION} takes a weight alone: its reference is the query's own")
            own = float(weight)
            continue
        found = get(catalog, name)
        units = unit(_named_vectors(catalog, found, source, references)).astype(np.float32)
        parts.append(NamedVectorPart(found, float(weight), units))
    if not own + sum(part.weight for part in parts):
        raise QueryError("all weights are 0 - give at least one part a weight, such as text=0.5")
    return NamedVectorScore(own, tuple(parts))


def _named_vectors(
    catalog: Catalog,
    of: NamedVectors,
    source: str | NDArray[Any] | Sequence[float] | None,
    references: Sequence[ResolvedReference],
) -> NDArray[np.float32]:
    """Return the vectors that a set of named vectors is compared with.

    Args:
        catalog: holds the named vectors.
        of: the set.
        source: a vector, ``seg:12`` whose vector it is, or None for what the references' own segments have there.
        references: the query's.

    Returns:
        ``(1, dim)``, or a row for each row of the references; zeros where a segment has no vector in the set.

    Raises:
        QueryError: a vector that cannot be used, or references that have none.
        NotStored: the segment has none.
    """
    if source is None:
        return _own(catalog, of, references)
    if isinstance(source, str):
        number = number_of(source, "seg")
        vectors, present = fetch(catalog, of, np.array([number], np.int64))
        if not present.all():
            raise NotStored(f"{source} has no vector in {of.name!r} - attach one, or name another segment or vector")
    else:
        vectors = np.asarray(source, np.float32).reshape(-1, np.shape(source)[-1] if np.ndim(source) else 1)
        if vectors.shape != (1, of.dim):
            raise QueryError(f"a reference of {of.name} is one vector of {of.dim} numbers, not {np.shape(source)}")
        if not np.isfinite(vectors).all() or not vectors.any():
            raise QueryError(f"the reference of {of.name} has NaN or infinite values, or is all zeros")
    return vectors


def _own(catalog: Catalog, of: NamedVectors, references: Sequence[ResolvedReference]) -> NDArray[np.float32]:
    rows = []
    found = False
    for reference in references:
        row = np.zeros((len(reference.vectors), of.dim), np.float32)
        if len(reference.stored) == len(reference.vectors):  # stored segments, and nothing else
            row, present = fetch(catalog, of, reference.stored)
            found = found or bool(present.any())
        rows.append(row)
    if not found:
        names = ", ".join(reference.name for reference in references)
        raise QueryError(
            f"{names} has no vector in {of.name!r} - give its reference, as in {of.name}=0.5:seg:12, or a vector"
        )
    return np.concatenate(rows)
