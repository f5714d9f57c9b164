"""From a query to vectors: its references resolved, with their weights, or its trajectory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import QueryError
from e2vsearch.search.context import SearchContext
from e2vsearch.search.query import AVOID_WEIGHT, AudioQuery, Query, Trajectory
from e2vsearch.search.reference import NONE, ResolvedReference, from_name, reference_segments, resolve_reference
from e2vsearch.vectors.exact import unit

if TYPE_CHECKING:
    from e2vsearch.search.score import WeightedScore
    from e2vsearch.search.trajectory import SegmentSequence


@dataclass(frozen=True, slots=True)
class ResolvedQuery:
    """A query's references, resolved."""

    wanted: tuple[ResolvedReference, ...]  # their vectors, one below another, are the rows that hits are matched with
    avoided: tuple[ResolvedReference, ...] = ()
    weighted: WeightedScore | None = None  # None: all of `wanted` count as one reference of all their segments
    trajectory: tuple[SegmentSequence, ...] = ()  # one a channel

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Rows of all references to find, ``(q, dim)``."""
        return np.concatenate([reference.vectors for reference in self.wanted])

    @property
    def stored(self) -> NDArray[np.int64]:
        """Stored segments that are references themselves."""
        return np.concatenate([NONE, *(reference.stored for reference in (*self.wanted, *self.avoided))])


def resolve(query: Query, context: SearchContext) -> ResolvedQuery:
    """Return what a query's references stand for.

    Raises:
        QueryError: a reference that cannot be used; NotStored for an id or name that is not there.
        AudioError, EncoderError: a clip that cannot be read or encoded.
    """
    if query.trajectory is not None:
        return _trajectory(query.trajectory, context)
    wanted = [resolve_reference(each.source, context) for each in query.references]
    emotions = {name: weight for name, weight in query.emotions.items() if weight}
    weighted = any(each.weight is not None for each in query.references)
    if not (weighted or query.avoid or (emotions and wanted) or len(emotions) > 1):
        return ResolvedQuery((*wanted, *(from_name(name, context) for name in emotions)))
    if query.named_vectors:
        raise QueryError("named vectors cannot be mixed with weights, several emotions or what to avoid: drop one")
    return _weighted(query, wanted, emotions, context)


def _weighted(
    query: Query, wanted: list[ResolvedReference], emotions: Mapping[str, float], context: SearchContext
) -> ResolvedQuery:
    from e2vsearch.search.score import WeightedPart, WeightedScore

    if any(each.weight is not None for each in query.references):
        weights = [1.0 if each.weight is None else each.weight for each in query.references]
        parts = [WeightedPart(each.name, each.vectors, weight) for each, weight in zip(wanted, weights, strict=True)]
    else:
        parts = [WeightedPart("", np.concatenate([each.vectors for each in wanted]), 1.0)] if wanted else []
    liked = {name: weight for name, weight in emotions.items() if weight > 0}
    if liked:
        mean, length = _mean_reference(liked, context)
        wanted = [*wanted, mean]
        parts.append(WeightedPart(mean.name, mean.vectors, sum(liked.values()), np.array([length])))
    avoided = [
        (resolve_reference(each.source, context), AVOID_WEIGHT if each.weight is None else each.weight)
        for each in query.avoid
    ]
    avoided += [(from_name(name, context), -weight) for name, weight in emotions.items() if weight < 0]
    penalties = tuple(WeightedPart(each.name, each.vectors, weight) for each, weight in avoided)
    score = WeightedScore(tuple(parts), penalties)
    return ResolvedQuery(tuple(wanted), tuple(each for each, _ in avoided), score)


def _mean_reference(names: Mapping[str, float], context: SearchContext) -> tuple[ResolvedReference, float]:
    """Return several names as one reference, and the length of the weighted mean of their unit vectors."""
    found = [from_name(name, context) for name in names]
    units = unit(np.concatenate([each.vectors for each in found]))
    mean = np.average(units, axis=0, weights=np.array(list(names.values())))
    stored = np.concatenate([NONE, *(each.stored for each in found)])
    name = " + ".join(each.name for each in found)
    return ResolvedReference(name, mean[None].astype(np.float32), stored), float(np.linalg.norm(mean))


def _trajectory(given: Trajectory, context: SearchContext) -> ResolvedQuery:
    stages = _stages(given, context)
    if stages is None:
        found = _of_recording(resolve_reference(cast(AudioQuery, given), context), context.catalog)
    else:
        found = _of_stages(stages)
    if max(len(line.vectors) for line in found.trajectory) < 2:
        raise QueryError(
            f"{found.wanted[0].name} is a single segment, and a trajectory has two or more - "
            "name a recording, or stages such as neutral,angry"
        )
    return found


def _stages(given: Any, context: SearchContext) -> list[ResolvedReference] | None:
    """Return the stages of a trajectory that is given by them, None for a recording's."""
    if isinstance(given, str):
        names = [name.strip() for name in given.split(",")]
        if len(names) > 1 and all(names) and not Path(given).exists():
            return [
                resolve_reference(name, context) if name.startswith(("seg:", "call:")) else from_name(name, context)
                for name in names
            ]
        return None
    if isinstance(given, list | tuple) and given and not any(isinstance(each, Real | list | tuple) for each in given):
        return [resolve_reference(each, context) for each in given]
    return None


def _of_stages(stages: Sequence[ResolvedReference]) -> ResolvedQuery:
    from e2vsearch.search.trajectory import SegmentSequence

    means = [
        replace(each, vectors=unit(each.vectors).mean(axis=0)[None].astype(np.float32), segments=()) for each in stages
    ]
    vectors, equal = np.concatenate([each.vectors for each in means]), np.full(len(means), 1 / len(means))
    # stages say nothing of pace, so any of them may last for most of a recording
    return ResolvedQuery(tuple(means), trajectory=(SegmentSequence(vectors, equal, np.arange(len(means)), band=1.0),))


def _of_recording(reference: ResolvedReference, catalog: Catalog) -> ResolvedQuery:
    from e2vsearch.search.trajectory import SegmentSequence, shares

    rows = reference_segments(catalog, reference)
    order = sorted(range(len(rows)), key=lambda at: (rows[at].channel, rows[at].start_s or 0.0, at))
    channels = np.array([rows[at].channel for at in order])
    durations = np.array([(rows[at].end_s or 1.0) - (rows[at].start_s or 0.0) for at in order])
    ordered = ResolvedReference(
        reference.name,
        reference.vectors[order],
        reference.stored[order] if len(reference.stored) == len(order) else reference.stored,
        tuple(reference.segments[at] for at in order) if reference.segments else (),
    )
    lines = [np.flatnonzero(channels == channel) for channel in np.unique(channels)]
    found = (SegmentSequence(ordered.vectors[at], shares(durations[at]), at) for at in lines)
    return ResolvedQuery((ordered,), trajectory=tuple(found))
