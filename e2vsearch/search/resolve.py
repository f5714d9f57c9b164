"""What a question's references stand for: vectors, weights and courses. Knows names and vectors, ranks nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog import segments
from e2vsearch.catalog.named_vectors import fetch
from e2vsearch.catalog.writer import Catalog
from e2vsearch.encoders import embedding_files
from e2vsearch.errors import AudioNotFound, NotStored, QueryError
from e2vsearch.files import local_path
from e2vsearch.projections.base import unit
from e2vsearch.search import prototypes
from e2vsearch.search.prototypes import canonical_name
from e2vsearch.search.query import AudioQuery, Query, Trajectory, WeightedReference
from e2vsearch.types import EmbeddedSegment, NamedVectors, number_of, segment_id

if TYPE_CHECKING:
    from e2vsearch.collection import Collection
    from e2vsearch.search.score import WeightedScore
    from e2vsearch.search.trajectory import SegmentSequence


UNWANTED = 0.5
"""Weight of an example of what is not wanted, unless one is given: half of its likeness is taken off."""

_NONE: NDArray[np.int64] = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class ResolvedQuery:
    """A query's references, resolved."""

    wanted: tuple[ResolvedReference, ...]  # their vectors, one below another, are the rows that hits are matched with
    unwanted: tuple[ResolvedReference, ...] = ()
    mixture: WeightedScore | None = None  # None: all of `wanted` count as one reference of all their segments
    courses: tuple[SegmentSequence, ...] = ()

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Rows of all that is wanted, ``(q, dim)``."""
        return np.concatenate([reference.vectors for reference in self.wanted])

    @property
    def itself(self) -> NDArray[np.int64]:
        """Stored segments that were named themselves."""
        return np.concatenate([_NONE, *(reference.itself for reference in (*self.wanted, *self.unwanted))])


def resolve(collection: Collection, asked: Query) -> ResolvedQuery:
    """What a question's references stand for.

    Raises:
        QueryError: one that cannot be asked for; NotStored for an id or name that is not there.
        AudioError, EncoderError: one that cannot be heard or encoded.
    """
    if asked.arc is not None:
        return _arc(collection, asked.arc)
    given = [_weighed(each) for each in asked.references]
    wanted = [resolve_reference(each, collection) for each, _ in given]
    unwanted = [_weighed(each) for each in asked.but_not]
    named = {name: weight for name, weight in asked.emotions.items() if weight}
    weighed = any(weight is not None for _, weight in given)
    if not (weighed or unwanted or (named and wanted) or len(named) > 1):
        return ResolvedQuery((*wanted, *(_target(collection, name) for name in named)))
    if asked.fuse:
        raise QueryError(
            "side vectors cannot be mixed with weights, several emotions or what is unwanted yet: drop one"
        )
    from e2vsearch.search.score import WeightedPart, WeightedScore

    if weighed:
        pairs = zip(wanted, given, strict=True)
        parts = [
            WeightedPart(each.named, each.vectors, 1.0 if weight is None else weight) for each, (_, weight) in pairs
        ]
    else:
        parts = [WeightedPart("", np.concatenate([each.vectors for each in wanted]), 1.0)] if wanted else []
    liked = {name: weight for name, weight in named.items() if weight > 0}
    if liked:
        mean, weight, length = _mean(collection, liked)
        wanted.append(mean)
        parts.append(WeightedPart(mean.named, mean.vectors, weight, np.array([length])))
    disliked = [
        (resolve_reference(each, collection), UNWANTED if weight is None else weight) for each, weight in unwanted
    ]
    disliked += [(_target(collection, name), -weight) for name, weight in named.items() if weight < 0]
    off = tuple(WeightedPart(each.named, each.vectors, weight) for each, weight in disliked)
    return ResolvedQuery(tuple(wanted), tuple(each for each, _ in disliked), WeightedScore(tuple(parts), off))


def _weighed(given: WeightedReference) -> tuple[AudioQuery, float | None]:
    """A reference and its weight, None where none was given.

    Raises:
        QueryError: a weight that is not above 0.
    """
    pair: Any = given
    # a pair of two numbers is a vector of two dimensions
    if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], Real)) or isinstance(pair[0], Real):
        return cast(AudioQuery, given), None
    weight = float(pair[1])
    if not isfinite(weight) or weight <= 0:
        raise QueryError(f"a weight is above 0, not {weight:g} - what hits should be unlike goes under but_not (--not)")
    return pair[0], weight


def _mean(collection: Collection, names: Mapping[str, float]) -> tuple[ResolvedReference, float, float]:
    """Several names as one reference, its weight, and how long the weighted mean of their unit vectors is."""
    found = [_target(collection, name) for name in names]
    weights = np.array(list(names.values()))
    mean = np.average(unit(np.concatenate([each.vectors for each in found])), axis=0, weights=weights)
    stored = np.concatenate([_NONE, *(each.itself for each in found)])
    named = " + ".join(each.named for each in found)
    return (
        ResolvedReference(named, mean[None].astype(np.float32), stored),
        float(weights.sum()),
        float(np.linalg.norm(mean)),
    )


def _target(collection: Collection, name: str) -> ResolvedReference:
    target = prototypes.prototype(
        collection.catalog, canonical_name(collection.catalog, name), collection.lens().projection
    )
    return ResolvedReference(target.named, target.vector[None], target.examples)


def _arc(collection: Collection, arc: Trajectory) -> ResolvedQuery:
    """The courses of a call, or the one of several stations."""
    stations = _stations(arc)
    if stations is not None:
        found = _of_stations([resolve_reference(station, collection) for station in stations])
    else:
        found = _of_recording(collection.catalog, resolve_reference(cast(AudioQuery, arc), collection))
    if max(len(line.vectors) for line in found.courses) < 2:
        raise QueryError(
            f"{found.wanted[0].named} is a single moment, and a course has two or more - "
            "name a call, or stations such as neutral,angry"
        )
    return found


def _of_stations(references: Sequence[ResolvedReference]) -> ResolvedQuery:
    from e2vsearch.search.trajectory import SegmentSequence

    means = [replace(each, vectors=_mean_of(each.vectors), moments=()) for each in references]
    vectors, equal = np.concatenate([each.vectors for each in means]), np.full(len(means), 1 / len(means))
    # stations say nothing of pace, so any of them may last for most of a call
    course = SegmentSequence(vectors, equal, np.arange(len(means)), band=1.0)
    return ResolvedQuery(tuple(means), courses=(course,))


def _mean_of(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = unit(vectors).mean(axis=0)[None].astype(np.float32)
    return mean


def _of_recording(catalog: Catalog, reference: ResolvedReference) -> ResolvedQuery:
    from e2vsearch.search import trajectory

    rows = reference_segments(catalog, reference)
    order = sorted(range(len(rows)), key=lambda at: (rows[at].channel, rows[at].start_s or 0.0, at))
    channels = np.array([rows[at].channel for at in order])
    lengths = np.array([(rows[at].end_s or 1.0) - (rows[at].start_s or 0.0) for at in order])
    ordered = ResolvedReference(
        reference.named,
        reference.vectors[order],
        reference.itself[order] if len(reference.itself) == len(order) else reference.itself,
        tuple(reference.moments[at] for at in order) if reference.moments else (),
    )
    lines = [np.flatnonzero(channels == channel) for channel in np.unique(channels)]
    found = (trajectory.SegmentSequence(ordered.vectors[at], trajectory.shares(lengths[at]), at) for at in lines)
    return ResolvedQuery((ordered,), courses=tuple(found))


def _stations(arc: Trajectory) -> Sequence[AudioQuery] | None:
    """The stations of a course that is given by them, None for a recording's."""
    given: Any = arc
    if isinstance(arc, str):
        names = [name.strip() for name in arc.split(",")]
        return names if len(names) > 1 and all(names) and not Path(arc).exists() else None
    if isinstance(given, list | tuple) and not any(isinstance(each, Real | list | tuple) for each in given):
        return given or None
    return None


@dataclass(frozen=True, slots=True)
class ResolvedReference:
    """A query, resolved."""

    named: str
    vectors: NDArray[np.float32]  # (n, dim), one a segment, as the collection's projection shows it
    itself: NDArray[np.int64]  # stored segments that are the reference itself, left out of its hits
    moments: tuple[EmbeddedSegment, ...] = ()  # what was heard, one a vector; nothing where nothing had to be


def resolve_reference(query: AudioQuery, collection: Collection) -> ResolvedReference:
    """The vectors that a query stands for.

    Raises:
        QueryError: it cannot be answered; NotStored for an id, label or emotion that is not there.
        AudioError, VectorFileError: a file that cannot be read.
        EncoderError: audio, in a collection of vectors that no encoder here can make.
    """
    if isinstance(query, str) and query.startswith(("seg:", "call:")):
        return _stored(query, collection)
    if isinstance(query, str) and query.startswith(("label:", "emotion:")):
        return _from_prototype(prototypes.prototype(collection.catalog, query, collection.lens().projection))
    if isinstance(query, str) and prototypes.is_bare_name(query) and not Path(query).exists():
        return _bare(query, collection)
    if isinstance(query, str | os.PathLike):
        return _file(local_path(query), collection)
    if isinstance(query, bytes):
        return _heard("audio bytes", query, collection)
    array = np.asarray(query)
    dim = collection.require_space().dim
    # no audio that short can be heard (1024 samples are 64 ms), so the length tells a vector from samples
    if array.ndim in (1, 2) and array.size and array.shape[-1] == dim:
        vectors = np.atleast_2d(array).astype(np.float32)
        if not np.isfinite(vectors).all():
            raise QueryError("the reference vector has NaN or infinite values")
        return ResolvedReference(f"{len(vectors)} vector(s)", _projected(vectors, collection), np.empty(0, np.int64))
    if not isinstance(query, np.ndarray):
        raise QueryError(f"a vector of {array.size} numbers does not fit this collection of {dim}-d vectors")
    return _heard("audio samples", query, collection)


def _stored(identifier: str, collection: Collection) -> ResolvedReference:
    catalog = collection.catalog
    if identifier.startswith("seg:"):
        ids = np.array([number_of(identifier, "seg")], np.int64)
    else:
        number = number_of(identifier, "call")
        ids, _ = catalog.segments_of([number])
        if not ids.size and any(catalog.recordings([number])):
            raise QueryError(f"{identifier} has no speech to compare with")
    batch = collection.feed().fetch(ids)
    if not batch.ids.size:
        raise NotStored(
            f"{identifier} is not in {collection.place.named} - e2vsearch query shows ids in its json format"
        )
    return ResolvedReference(identifier, batch.vectors, batch.ids)


def _from_prototype(target: prototypes.Prototype) -> ResolvedReference:
    return ResolvedReference(target.named, target.vector[None], target.examples)


def _bare(word: str, collection: Collection) -> ResolvedReference:
    target = prototypes.bare_prototype(collection.catalog, word, collection.lens().projection)
    if target is not None:
        return _from_prototype(target)
    raise AudioNotFound(
        f"{word!r} does not exist: check the path, or name what this collection knows: "
        f"{', '.join(prototypes.known_names(collection.catalog)) or 'it has no emotions or labels'}"
    )


def _file(path: Path, collection: Collection) -> ResolvedReference:
    if path.suffix.lower() == ".npy" or (path.is_dir() and embedding_files.is_saved(path)):
        vectors = embedding_files.read_vectors(path, collection.require_space().dim)
        return ResolvedReference(str(path), _projected(vectors, collection), np.empty(0, np.int64))
    return _heard(str(path), path, collection)


def _heard(
    named: str, source: str | os.PathLike[str] | bytes | NDArray[Any], collection: Collection
) -> ResolvedReference:
    heard = collection.hear(source)
    if not heard.segments:
        raise QueryError(f"no speech found in {named} - query with a clip in which somebody speaks")
    vectors = np.stack([moment.vector for moment in heard.segments])
    return ResolvedReference(named, _projected(vectors, collection), np.empty(0, np.int64), heard.segments)


def _projected(vectors: NDArray[np.float32], collection: Collection) -> NDArray[np.float32]:
    """The encoder's vectors as the collection compares them."""
    return collection.lens().projection.apply(vectors)


@dataclass(frozen=True, slots=True)
class ReferenceSegment:
    """What one of the reference's vectors is of."""

    named: str
    channel: int = 0
    start_s: float | None = None
    end_s: float | None = None


def reference_segments(catalog: Catalog, reference: ResolvedReference) -> list[ReferenceSegment]:
    """What each vector of a reference is of."""
    if reference.moments:
        return [ReferenceSegment(reference.named, each.channel, each.start_s, each.end_s) for each in reference.moments]
    if is_stored(reference):
        found = segments.segment_columns(catalog, segments=reference.itself.tolist())
        columns = (found.ids.tolist(), found.channels.tolist(), found.start_s.tolist(), found.end_s.tolist())
        at = {number: ReferenceSegment(segment_id(number), *rest) for number, *rest in zip(*columns, strict=True)}
        return [at.get(number, ReferenceSegment(segment_id(number))) for number in reference.itself.tolist()]
    return [ReferenceSegment(reference.named) for _ in reference.vectors]


def is_stored(reference: ResolvedReference) -> bool:
    """Return whether a reference is stored segments and nothing else."""
    return reference.named.startswith(("seg:", "call:")) and len(reference.itself) == len(reference.vectors)


def resolve_named_vector(
    catalog: Catalog,
    side: NamedVectors,
    source: str | NDArray[Any] | Sequence[float] | None,
    references: Sequence[ResolvedReference],
) -> NDArray[np.float32]:
    """Return the unit vectors that a named vector's reference stands for, a row for each of the reference's own."""
    if source is None:
        return unit(_own(catalog, side, references)).astype(np.float32)
    if isinstance(source, str):
        number = number_of(source, "seg")
        vectors, present = fetch(catalog, side, np.array([number], np.int64))
        if not present.all():
            raise NotStored(f"{source} has no vector in {side.name!r} - attach one, or name another segment or vector")
    else:
        vectors = np.asarray(source, np.float32).reshape(-1, np.shape(source)[-1] if np.ndim(source) else 1)
        if vectors.shape != (1, side.dim):
            raise QueryError(f"a reference of {side.name} is one vector of {side.dim} numbers, not {np.shape(source)}")
        if not np.isfinite(vectors).all() or not vectors.any():
            raise QueryError(f"the reference of {side.name} has NaN or infinite values, or is all zeros")
    return unit(vectors).astype(np.float32)


def _own(catalog: Catalog, side: NamedVectors, references: Sequence[ResolvedReference]) -> NDArray[np.float32]:
    """What the reference's own segments have in a side, a row for each; zeros where they have none."""
    rows = []
    found = False
    for reference in references:
        row = np.zeros((len(reference.vectors), side.dim), np.float32)
        if len(reference.itself) == len(reference.vectors):  # stored segments, and nothing else
            row, present = fetch(catalog, side, reference.itself)
            found = found or bool(present.any())
        rows.append(row)
    if not found:
        named = ", ".join(reference.named for reference in references)
        raise QueryError(
            f"{named} has no vector in {side.name!r} - give its reference, as in {side.name}=0.5:seg:12, or a vector"
        )
    return np.concatenate(rows)
