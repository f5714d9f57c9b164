"""What a query may be: a file, bytes, an array, a vector, a stored id, a name. Turns each into vectors of the space."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog.records import number_of
from e2vsearch.collection import targets
from e2vsearch.collection.results import Moment
from e2vsearch.encoders import saved
from e2vsearch.errors import AudioNotFound, NotStored, QueryError

if TYPE_CHECKING:
    from e2vsearch.collection.opened import Collection

AudioQuery = str | os.PathLike[str] | bytes | NDArray[Any] | Sequence[float]
"""A path or ``file://`` URI of audio or of an ``.npy`` vector, ``seg:123`` or ``call:45``, ``label:hesitant`` or
``emotion:angry`` (just ``angry`` too, where there is no such file), the bytes of an audio file, 16 kHz samples, or a
vector ``(dim,)`` or vectors ``(n, dim)`` of the space."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A query, resolved."""

    named: str
    vectors: NDArray[np.float32]  # (n, dim), one a segment, as the collection's projection shows it
    itself: NDArray[np.int64]  # stored segments that are the reference itself, left out of its hits
    moments: tuple[Moment, ...] = ()  # what was heard, one a vector; nothing where nothing had to be


def resolve(query: AudioQuery, collection: Collection) -> Reference:
    """The vectors that a query stands for.

    Raises:
        QueryError: it cannot be answered; NotStored for an id, label or emotion that is not there.
        AudioError, VectorFileError: a file that cannot be read.
        EncoderError: audio, in a collection of vectors that no encoder here can make.
    """
    if isinstance(query, str) and query.startswith(("seg:", "call:")):
        return _stored(query, collection)
    if isinstance(query, str) and query.startswith(("label:", "emotion:")):
        return _target(targets.named(collection.catalog, query, collection.lens().projection))
    if isinstance(query, str) and targets.is_bare(query) and not Path(query).exists():
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
        return Reference(f"{len(vectors)} vector(s)", _projected(vectors, collection), np.empty(0, np.int64))
    if not isinstance(query, np.ndarray):
        raise QueryError(f"a vector of {array.size} numbers does not fit this collection of {dim}-d vectors")
    return _heard("audio samples", query, collection)


def local_path(path: str | os.PathLike[str]) -> Path:
    """The file that a path or a ``file://`` URI names.

    Raises:
        QueryError: a URI of another scheme.
    """
    text = os.fspath(path)
    scheme, separator, _ = text.partition("://")
    if separator and scheme.isalnum():
        if scheme.lower() != "file":
            raise QueryError(f"{text}: only files and file:// URIs can be read - download it first")
        return Path(unquote(urlsplit(text).path))
    return Path(text).expanduser()


def _stored(identifier: str, collection: Collection) -> Reference:
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
    return Reference(identifier, batch.vectors, batch.ids)


def _target(target: targets.Target) -> Reference:
    return Reference(target.named, target.vector[None], target.examples)


def _bare(word: str, collection: Collection) -> Reference:
    target = targets.bare(collection.catalog, word, collection.lens().projection)
    if target is not None:
        return _target(target)
    raise AudioNotFound(
        f"{word!r} does not exist: check the path, or name what this collection knows: "
        f"{', '.join(targets.known(collection.catalog)) or 'it has no emotions or labels'}"
    )


def _file(path: Path, collection: Collection) -> Reference:
    if path.suffix.lower() == ".npy" or (path.is_dir() and saved.is_saved(path)):
        vectors = saved.read_vectors(path, collection.require_space().dim)
        return Reference(str(path), _projected(vectors, collection), np.empty(0, np.int64))
    return _heard(str(path), path, collection)


def _heard(named: str, source: str | os.PathLike[str] | bytes | NDArray[Any], collection: Collection) -> Reference:
    heard = collection.hear(source)
    if not heard.moments:
        raise QueryError(f"no speech found in {named} - query with a clip in which somebody speaks")
    vectors = np.stack([moment.vector for moment in heard.moments])
    return Reference(named, _projected(vectors, collection), np.empty(0, np.int64), heard.moments)


def _projected(vectors: NDArray[np.float32], collection: Collection) -> NDArray[np.float32]:
    """The encoder's vectors as the collection compares them."""
    return collection.lens().projection.apply(vectors)
