"""Prototypes: the one vector that stands for an emotion or a label in a collection.

A label's is the mean of its examples. Where only a classifier or the encoder names segments (a label that came with an
imported classifier, or an emotion), it is the mean of the segments of the highest probability, weighted by it. Of an
emotion these are the ones named so or, where none is, those without a name whose likeliest class it is or in which it
stands out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog import labels as rows
from e2vsearch.catalog.writer import Catalog
from e2vsearch.emotions import NAMELESS
from e2vsearch.errors import NotStored, QueryError
from e2vsearch.projections.base import RAW, Projection
from e2vsearch.vectors.exact import unit

SUREST = 100
"""Segments that stand for an emotion, at most."""

A_RECORDING = 3
"""Of these, from one recording at most: one long call must not define an emotion."""

_LOOKED_AT = 10 * SUREST  # the surest segments, before each recording's are cut down


@dataclass(frozen=True, slots=True)
class Prototype:
    """An emotion or label, resolved."""

    name: str  # "label:hesitant"
    vector: NDArray[np.float32]  # (dim,), a mean of unit vectors
    examples: NDArray[np.int64]  # stored segments that a person gave the label to: they are the query itself


def prototype(catalog: Catalog, query: str, projection: Projection = RAW) -> Prototype:
    """Return what ``label:NAME`` or ``emotion:NAME`` stands for, projected.

    Raises:
        NotStored: there is no such label or emotion, or no segment is named so.
        QueryError: it is what stands for no emotion, "unsure" or "too short".
    """
    kind, _, name = query.partition(":")
    found = (_label if kind == "label" else _emotion)(catalog, name.strip(), projection)
    if found is not None:
        return found
    if kind == "emotion" and _spelt(catalog, name) is not None:
        raise NotStored(f"no segment is named {name.strip()!r} here - query with a clip of it instead")
    if kind == "emotion":
        refuse_nameless(name)
    there = [each for each in known_names(catalog) if each.startswith(f"{kind}:")]
    raise NotStored(f"there is no {kind} {name.strip()!r} - known: {', '.join(there) or f'no {kind} at all'}")


def refuse_nameless(name: str) -> None:
    """See that a name is an emotion's, not "unsure" or "too short".

    Raises:
        QueryError: it is.
    """
    plain = name.strip().casefold()
    if plain in NAMELESS:
        raise QueryError(
            f"{plain!r} is no emotion to search by, it names segments without a clear one - "
            f"list them with --where 'emotion = \"{plain}\"'"
        )


def known_names(catalog: Catalog) -> tuple[str, ...]:
    """Return every emotion and label of the collection, as ``emotion:angry``."""
    emotions = catalog.space.labels if catalog.space is not None else ()
    return (*(f"emotion:{name}" for name in emotions), *(f"label:{name}" for name in rows.names(catalog)))


def _label(catalog: Catalog, name: str, projection: Projection) -> Prototype | None:
    examples = rows.examples(catalog, [name])
    if examples:
        vector = unit(projection.apply(np.stack([each.vector for each in examples]))).mean(axis=0)
        stored = np.array([each.segment for each in examples if each.segment is not None], np.int64)
        return Prototype(f"label:{name}", vector.astype(np.float32), stored)
    return _surest(catalog, f"label:{name}", rows.confident_label(catalog, name, _LOOKED_AT), projection)


def _emotion(catalog: Catalog, name: str, projection: Projection) -> Prototype | None:
    spelt = _spelt(catalog, name)
    if spelt is None:
        return None
    return _surest(catalog, f"emotion:{spelt}", rows.confident_emotion(catalog, spelt, _LOOKED_AT), projection)


def _spelt(catalog: Catalog, name: str) -> str | None:
    """Return the space's own spelling of an emotion."""
    emotions = catalog.space.labels if catalog.space is not None else ()
    return next((each for each in emotions if each.casefold() == name.strip().casefold()), None)


def _surest(catalog: Catalog, name: str, found: rows.Confident, projection: Projection) -> Prototype | None:
    of: dict[int, int] = {}
    scores: dict[int, float] = {}
    columns = (found.ids.tolist(), found.recordings.tolist(), found.scores.tolist())
    for number, recording, score in zip(*columns, strict=True):
        of[recording] = of.get(recording, 0) + 1
        if of[recording] <= A_RECORDING and len(scores) < SUREST:
            scores[number] = score
    batch = catalog.feed().fetch(np.array(list(scores), np.int64))
    weights = np.array([scores[number] for number in batch.ids.tolist()])
    if not weights.sum() > 0:
        return None
    vector = np.average(unit(projection.apply(batch.vectors)), axis=0, weights=weights)
    return Prototype(name, vector.astype(np.float32), np.empty(0, np.int64))


def canonical_name(catalog: Catalog, name: str) -> str:
    """Return ``emotion:angry`` for ``angry``; a label of one's own comes before an emotion of that name.

    Raises:
        NotStored: it is neither.
        QueryError: it is what stands for no emotion, "unsure" or "too short".
    """
    known = known_names(catalog)
    kinds = (name,) if name.startswith(("emotion:", "label:")) else (f"label:{name}", f"emotion:{name}")
    for kind in kinds:
        for each in known:
            if each == kind or (each.startswith("emotion:") and each.casefold() == kind.casefold()):
                return each
    refuse_nameless(name.removeprefix("emotion:"))
    raise NotStored(f"there is no emotion or label {name!r} - known: {', '.join(known) or 'none at all'}")
