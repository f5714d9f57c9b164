"""A collection as the source of a framework's answers: opened at the first query, confined to folders where it must be.

A framework's query is one string, so that string may be all that `AudioQuery` takes as text: a path, a ``file://`` URI,
``seg:14``, ``call:2``, ``emotion:angry``, ``label:hesitant``. It is never taken for words to look for. Everything else
is in a `template`: a `Query` that waits for its references.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

from e2vsearch.access import AllowedFolders
from e2vsearch.audio import Signal
from e2vsearch.collection import Collection
from e2vsearch.errors import E2vsearchError, PathForbidden, QueryError, SettingsError
from e2vsearch.integrations.documents import DocumentFormat, check_format, text_of
from e2vsearch.pipeline import Embed
from e2vsearch.search.prototypes import canonical_name
from e2vsearch.search.query import AudioQuery, Query, Reference, Trajectory
from e2vsearch.search.resolve import suggest_name
from e2vsearch.search.result import QueryResult
from e2vsearch.types import Comparison, Hit

STORED = ("seg:", "call:", "emotion:", "label:")
"""How references begin that name something stored, and no file."""

PENDING = Reference("")
"""Stands in a `template` for the references to come."""


def template(fields: Mapping[str, Any], changes: Mapping[str, Any] | None = None, /, **own: Any) -> Query:
    """Return a query that waits for its references, which `Retriever.query` puts in.

    Args:
        fields: of `Query`, also as JSON has them: ``{"source": "calm.wav", "weight": 0.3}`` is a reference with its
            weight, and ``trajectory`` is true where the references to come are one. None is a field's default.
        changes: fields for this query alone; None leaves a field as it is.
        **own: fields that a framework's object has as parameters of its own.

    Raises:
        QueryError: it makes no sense by itself.
        TypeError: a field that there is not, that is given twice or otherwise.

    Example:
        >>> template({"avoid": ["seg:5"]}, k=3).avoid
        (Reference(source='seg:5', weight=None),)
    """
    if twice := fields.keys() & own.keys():
        raise TypeError(
            f"{', '.join(sorted(twice))} is a parameter by itself: leave it out of the query's other fields"
        )
    given = {name: value for name, value in {**own, **fields}.items() if value is not None}
    given |= {name: value for name, value in (changes or {}).items() if value is not None}
    is_trajectory = given.pop("trajectory", False)
    if "references" in given or not isinstance(is_trajectory, bool):
        raise TypeError("references and trajectories are the query itself: set trajectory to true where it is one")
    if "avoid" in given:
        given["avoid"] = references(given["avoid"])
    if "named_vectors" in given:
        named = given["named_vectors"].items()
        given["named_vectors"] = {name: tuple(each) if isinstance(each, list) else each for name, each in named}
    return Query.of(trajectory="", **given) if is_trajectory else Query.of(PENDING, **given)


def references(given: Any) -> tuple[Reference, ...]:
    """Return a framework's query as references.

    Args:
        given: a reference, or a list of them: paths, ids, bytes, arrays, hits, each alone, as a `Reference` or as
            ``{"source": …, "weight": …}``. A list of numbers is one vector, None is nothing.
    """
    if given is None:
        return ()
    several = isinstance(given, list | tuple) and not all(isinstance(each, Real | list | tuple) for each in given)
    found = given if several else [given]
    return tuple(Reference(**each) if isinstance(each, Mapping) else Reference.of(each) for each in found)


class Retriever:
    """Answers queries of frameworks from one collection; several threads may use it."""

    def __init__(
        self,
        collection: Collection | None = None,
        index: str | os.PathLike[str] | None = None,
        *,
        encoder: str | None = None,
        device: str | None = None,
        roots: Sequence[str | os.PathLike[str]] | None = None,
        actor: str = "python",
        document_format: DocumentFormat = "lines",
    ) -> None:
        """Take an open collection, or remember which to open.

        Args:
            collection: one that is open; it stays the caller's to close.
            index: else its folder or database URL; by default what `E2VSEARCH_INDEX` or e2vsearch.toml says.
            encoder: embeds references; by default the one that the collection was made with.
            device: where it runs.
            roots: folders that paths must be in; None: any. Give them where a model or a stranger writes queries.
            actor: who asks, for the collection's audit log.
            document_format: of the text of documents, see `DocumentFormat`.

        Raises:
            SettingsError: both a collection and an index, a root that is no folder, or no such format.
        """
        check_format(document_format)
        if collection is not None and index is not None:
            raise SettingsError("give either an open collection or the index to open, not both")
        self._collection = collection
        self._index, self._encoder, self._device = index, encoder, device
        self._roots = None if roots is None else AllowedFolders(roots)
        self.actor = actor
        self.document_format: DocumentFormat = document_format
        self._lock = threading.Lock()

    def text_of(self, hit: Hit) -> str:
        """Return the text of a hit's document."""
        return text_of(hit, self.collection.space, self.document_format)

    @property
    def collection(self) -> Collection:
        """The collection, opened if it is not yet.

        Raises:
            NoCollection: there is none at that place.
            CatalogError: its database cannot be used.
        """
        with self._lock:
            if self._collection is None:
                self._collection = Collection.open(self._index, encoder=self._encoder, device=self._device)
            return self._collection

    def query(
        self, given: Any, query: Query, *, min_score: float | None = None, embed: Embed | None = None
    ) -> QueryResult:
        """Return the hits for what a framework was given as its query.

        Args:
            given: what `references` takes; nothing, or blanks, where `query` has an emotion to find, or a filter or
                words alone.
            query: a `template`; `given` takes the place of its references, or of its trajectory if it has one.
            min_score: hits below are left out: fewer than k may come back.
            embed: embeds clips in place of the collection's own way, within a caller's limits.

        Raises:
            QueryError: it cannot be answered.
            AudioError: a path that names no audio, text that is no path included.
            PathForbidden: a path outside the roots.
        """
        names: dict[str, str] = {}
        found = references(given)
        if query.trajectory is not None:
            query = replace(query, trajectory=self._trajectory(found, names))
        else:
            if (query.emotion or query.where or query.text) and all(_is_blank(each.source) for each in found):
                found = ()
            wanted, avoid = (tuple(self._allowed(each, names) for each in some) for some in (found, query.avoid))
            query = replace(query, references=wanted, avoid=avoid)
        collection = self.collection.used_by(self.actor, embed)
        with _client_names(names):
            result = collection.query(query).with_reference_names(names)
        if min_score is None:
            return result
        return replace(result, hits=tuple(hit for hit in result.hits if hit.score is None or hit.score >= min_score))

    def compare(self, a: AudioQuery, b: AudioQuery) -> Comparison:
        """Return how alike two recordings feel, see `Collection.compare`.

        Raises:
            PathForbidden: a path outside the roots.
        """
        names: dict[str, str] = {}
        with _client_names(names):
            found = self.collection.used_by(self.actor).compare(
                *(self._allowed(Reference(each), names).source for each in (a, b))
            )
        named = [replace(each, name=names.get(each.name, each.name)) for each in (found.a, found.b)]
        return replace(found, a=named[0], b=named[1])

    def _allowed(self, reference: Reference, names: dict[str, str]) -> Reference:
        """Return a reference; where there are roots, a path only if it lies in one of them, as the file that it is.

        Args:
            reference: one of the client's.
            names: gets the client's name of that file.

        Raises:
            PathForbidden: a path that lies in none of the roots.
            AudioNotFound: it reads like the name of an emotion or a label.
            QueryError: it is empty.
        """
        source = reference.source
        if _is_blank(source):
            raise QueryError("an empty query names nothing to look for - give a clip's path, or seg:14, call:2 …")
        if self._roots is None or not isinstance(source, str | os.PathLike):
            return reference
        if isinstance(source, str) and source.startswith(STORED):
            return reference
        try:
            path = self._file(self._roots, source, names)
        except PathForbidden:
            if isinstance(source, str):
                suggest_name(source, self.collection.catalog)
            raise
        return replace(reference, source=path)

    def clip(self, segment: str) -> Signal:
        """Return the sound of ``seg:123``, ``(1, samples)`` at 16 kHz.

        Raises:
            NotStored, AudioError: there is no such segment, or its file is gone or damaged.
            PathForbidden: its file lies outside the roots.
        """
        if self._roots is not None:
            (stored,) = self.collection.segments(segment)
            (recording,) = self.collection.recordings(stored.recording)
            self._roots.stored(recording.uri)
        return self.collection.clip(segment)

    def _file(self, roots: AllowedFolders, source: str | os.PathLike[str], names: dict[str, str]) -> Path:
        try:
            path = roots.allowed(source)
        except (OSError, ValueError) as error:  # longer than a file system's names, or with a NUL in it
            raise PathForbidden(f"{str(source)[:100]!r} is no file that may be read here") from error
        names[str(path)] = os.fspath(source)
        return path

    def _trajectory(self, found: Sequence[Reference], names: dict[str, str]) -> Trajectory:
        """Return a recording, or stages, each of which is allowed by itself."""
        if any(each.weight is not None for each in found):
            raise QueryError("the stages of a trajectory have no weights: leave them out")
        source = found[0].source if len(found) == 1 else None
        if self._roots is not None and isinstance(source, str) and "," in source:
            if not source.startswith(STORED):
                with suppress(PathForbidden):  # a file's name may hold a comma
                    return self._file(self._roots, source, names)
            stages = [stage.strip() for stage in source.split(",")]
            catalog = self.collection.catalog
            return [each if each.startswith(("seg:", "call:")) else canonical_name(catalog, each) for each in stages]
        allowed = [self._allowed(each, names).source for each in found or references("")]
        return allowed if len(allowed) > 1 else allowed[0]


@contextmanager
def _client_names(names: Mapping[str, str]) -> Iterator[None]:
    """Name files in errors as the client does, and not by where they lie here."""
    try:
        yield
    except E2vsearchError as error:
        message = str(error)
        for path, name in names.items():
            message = message.replace(path, name)
        if message == str(error):
            raise
        raise type(error)(message) from error


def _is_blank(source: Any) -> bool:
    if isinstance(source, str):
        return not source.strip()
    return source is None or (isinstance(source, list | tuple) and not source)
