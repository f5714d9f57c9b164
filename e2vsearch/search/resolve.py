"""From a query to vectors: what its references stand for, with their weights or trajectory.

A reference is a file, bytes, samples, a vector, a stored id, or the name of an emotion or label.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from e2vsearch.audio import AudioSource
from e2vsearch.catalog.segments import segment_columns
from e2vsearch.catalog.writer import Catalog
from e2vsearch.encoders import embedding_files
from e2vsearch.errors import AudioNotFound, NotStored, QueryError
from e2vsearch.files import local_path
from e2vsearch.search.context import SearchContext
from e2vsearch.search.prototypes import Prototype, canonical_name, known_names, prototype
from e2vsearch.search.query import AVOID_WEIGHT, AudioQuery, Query, Trajectory, identifier_of
from e2vsearch.types import MAX_NAME, EmbeddedSegment, number_of, segment_id
from e2vsearch.vectors.exact import unit

if TYPE_CHECKING:
    from e2vsearch.search.score import WeightedScore
    from e2vsearch.search.trajectory import SegmentSequence

NONE: NDArray[np.int64] = np.empty(0, np.int64)
"""No segments."""


@dataclass(frozen=True, slots=True)
class ResolvedReference:
    """One reference, resolved."""

    name: str
    vectors: NDArray[np.float32]  # (n, dim), one a segment, projected
    stored: NDArray[np.int64]  # segments that are the reference itself, left out of its hits
    segments: tuple[EmbeddedSegment, ...] = ()  # what was embedded, one a vector; nothing where nothing had to be

    @property
    def is_stored(self) -> bool:
        """Whether it is stored segments and nothing else."""
        return self.name.startswith(("seg:", "call:")) and len(self.stored) == len(self.vectors)


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


def resolve_reference(source: AudioQuery, context: SearchContext) -> ResolvedReference:
    """Return the vectors that a reference stands for.

    Raises:
        QueryError: it cannot be used; NotStored for an id, label or emotion that is not there.
        AudioError, VectorFileError: a file that cannot be read.
        EncoderError: audio, in a collection of vectors that no encoder here can make.
    """
    identifier = identifier_of(source)
    if identifier is not None:
        return _from_stored(identifier, context)
    if isinstance(source, str) and source.startswith(("label:", "emotion:")):
        return from_prototype(prototype(context.catalog, source, context.view.projection))
    if isinstance(source, str | os.PathLike):
        if not os.fspath(source):
            raise QueryError("the name of a reference is empty: name a file, or an id such as seg:1")
        return _from_file(source, context)
    if isinstance(source, bytes):
        return _from_audio("audio bytes", source, context)
    array = _numbers(source)
    dim = context.catalog.require_space().dim
    # no audio that short can be embedded (1024 samples are 64 ms), so the length tells a vector from samples
    if array.ndim in (1, 2) and array.size and array.shape[-1] == dim:
        vectors = np.atleast_2d(array).astype(np.float32)
        if not np.isfinite(vectors).all():
            raise QueryError("the reference vector has NaN or infinite values")
        return ResolvedReference(f"{len(vectors)} vector(s)", context.view.projection.apply(vectors), NONE)
    if not isinstance(source, np.ndarray):
        raise QueryError(f"a vector of {array.size} numbers does not fit this collection of {dim}-d vectors")
    return _from_audio("audio samples", source, context)


def _numbers(source: Any) -> NDArray[Any]:
    """Return samples, a vector or vectors as an array."""
    try:
        array = np.asarray(source)
    except ValueError:  # of several things, such as samples and their rate
        array = np.empty((), object)
    if array.ndim == 0 or array.dtype.kind not in "biuf":
        raise QueryError(
            "a reference is a file, an id such as seg:1, a name such as emotion:angry, 16 kHz samples or a vector, not "
            f"{type(source).__name__} - give several as query(*references)"
        )
    return array


def from_name(name: str, context: SearchContext) -> ResolvedReference:
    """Return the reference that the name of an emotion or a label stands for: ``angry``, ``label:hesitant``.

    Raises:
        NotStored: it is neither, or nothing here is named so.
        QueryError: it stands for no emotion, "unsure" or "too short".
    """
    known = canonical_name(context.catalog, name)
    return from_prototype(prototype(context.catalog, known, context.view.projection))


def from_prototype(found: Prototype) -> ResolvedReference:
    """Return a prototype as a reference."""
    return ResolvedReference(found.name, found.vector[None], found.examples)


def _from_stored(identifier: str, context: SearchContext) -> ResolvedReference:
    catalog = context.catalog
    if identifier.startswith("seg:"):
        ids = np.array([number_of(identifier, "seg")], np.int64)
    else:
        number = number_of(identifier, "call")
        ids, _ = catalog.segments_of([number])
        if not ids.size and any(catalog.recordings([number])):
            raise QueryError(f"{identifier} has no speech to compare with")
    batch = context.view.source.fetch(ids)
    if not batch.ids.size:
        raise NotStored(f"{identifier} is not in {catalog.name} - e2vsearch query and show print ids")
    return ResolvedReference(identifier, batch.vectors, batch.ids)


def _from_file(named: str | os.PathLike[str], context: SearchContext) -> ResolvedReference:
    path = local_path(named)
    if path.suffix.lower() == ".npy" or (path.is_dir() and embedding_files.is_saved(path)):
        vectors = embedding_files.read_vectors(path, context.catalog.require_space().dim)
        return ResolvedReference(str(path), context.view.projection.apply(vectors), NONE)
    if isinstance(named, str) and not path.exists():
        suggest_name(named, context.catalog)
    return _from_audio(str(path), path, context)


def suggest_name(word: str, catalog: Catalog) -> None:
    """Refuse a path that does not exist and reads like a name.

    Raises:
        AudioNotFound: it does; with the name's spelling where there is one.
    """
    if not word or len(word) > MAX_NAME or set("/\\:.~") & set(word) or not word.isprintable():
        return
    known = known_names(catalog)
    kinds = [each for each in known if each.partition(":")[2].casefold() == word.strip().casefold()]
    if kinds:
        raise AudioNotFound(f"{word}: no such file - did you mean {kinds[0]}?")
    words = "" if word.isalnum() else f"; words that are said are found with text ({word!r})"
    raise AudioNotFound(f"{word}: no such file - known names: {', '.join(known) or 'none'}{words}")


def _from_audio(name: str, source: AudioSource, context: SearchContext) -> ResolvedReference:
    embedded = context.embed(source)
    if not embedded.segments:
        raise QueryError(f"no speech found in {name} - query with a clip in which somebody speaks")
    vectors = np.stack([segment.vector for segment in embedded.segments])
    return ResolvedReference(name, context.view.projection.apply(vectors), NONE, embedded.segments)


@dataclass(frozen=True, slots=True)
class ReferenceSegment:
    """The segment that one row of a reference's vectors was made of."""

    name: str
    channel: int = 0
    start_s: float | None = None
    end_s: float | None = None


def reference_segments(catalog: Catalog, reference: ResolvedReference) -> list[ReferenceSegment]:
    """Return what each vector of a reference is of."""
    if reference.segments:
        return [ReferenceSegment(reference.name, each.channel, each.start_s, each.end_s) for each in reference.segments]
    if reference.is_stored:
        found = segment_columns(catalog, segments=reference.stored.tolist())
        columns = (found.ids.tolist(), found.channels.tolist(), found.start_s.tolist(), found.end_s.tolist())
        at = {number: ReferenceSegment(segment_id(number), *rest) for number, *rest in zip(*columns, strict=True)}
        return [at.get(number, ReferenceSegment(segment_id(number))) for number in reference.stored.tolist()]
    return [ReferenceSegment(reference.name) for _ in reference.vectors]
