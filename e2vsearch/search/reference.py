"""From one reference to vectors: a file, bytes, samples, a vector, a stored id, the name of an emotion or label."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog.named_vectors import fetch
from e2vsearch.catalog.segments import segment_columns
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import AudioNotFound, NotStored, QueryError
from e2vsearch.files import local_path
from e2vsearch.search.context import SearchContext
from e2vsearch.search.query import AudioQuery, identifier_of
from e2vsearch.types import MAX_NAME, EmbeddedSegment, NamedVectors, number_of, segment_id
from e2vsearch.vectors.exact import unit

if TYPE_CHECKING:
    from e2vsearch.audio import AudioSource
    from e2vsearch.search.prototypes import Prototype

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
        from e2vsearch.search.prototypes import prototype

        return from_prototype(prototype(context.catalog, source, context.view.projection))
    if isinstance(source, str | os.PathLike):
        return _from_file(source, context)
    if isinstance(source, bytes):
        return _from_audio("audio bytes", source, context)
    array = np.asarray(source)
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


def from_name(name: str, context: SearchContext) -> ResolvedReference:
    """Return the reference that the name of an emotion or a label stands for: ``angry``, ``label:hesitant``.

    Raises:
        NotStored: it is neither, or nothing here is named so.
        QueryError: it stands for no emotion, "unsure" or "too short".
    """
    from e2vsearch.search.prototypes import canonical_name, prototype

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
        raise NotStored(f"{identifier} is not in {catalog.name} - e2vsearch query shows ids in its json format")
    return ResolvedReference(identifier, batch.vectors, batch.ids)


def _from_file(named: str | os.PathLike[str], context: SearchContext) -> ResolvedReference:
    path = local_path(named)
    from e2vsearch.encoders import embedding_files

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
    from e2vsearch.search.prototypes import known_names

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
    """What one row of a reference's vectors is of."""

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


def resolve_named_vector(
    catalog: Catalog,
    of: NamedVectors,
    source: str | NDArray[Any] | Sequence[float] | None,
    references: Sequence[ResolvedReference],
) -> NDArray[np.float32]:
    """Return the unit vectors that a set of named vectors is compared with.

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
        return unit(_own(catalog, of, references)).astype(np.float32)
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
    return unit(vectors).astype(np.float32)


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
