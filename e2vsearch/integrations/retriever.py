"""Asking a collection on behalf of a framework: opened once, when it is first asked. Knows no framework.

A framework's query is one string, so that string may be all that `AudioQuery` takes as text: a path, a ``file://`` URI,
``seg:14``, ``call:2``, ``emotion:angry``, ``label:hesitant``. It is never taken for words to look for. All else that a
query can say is an `Asking`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from e2vsearch.access import AllowedFolders
from e2vsearch.collection import Collection
from e2vsearch.errors import PathForbidden, QueryError, SettingsError
from e2vsearch.search import prototypes
from e2vsearch.search.query import AudioQuery
from e2vsearch.search.rename import with_reference_names
from e2vsearch.types import By, QueryResult

STORED = ("seg:", "call:", "emotion:", "label:")
"""How references begin that name something stored, and no file."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked for besides the reference, as `Collection.query` takes it."""

    k: int = 10  # hits
    by: By = "call"  # each with its best moment, or "segment"
    where: str | None = None  # a filter, such as 'agent = "Kim" and channel = 1'
    text: str | None = None  # words that must be said in the moment
    fuse: Mapping[str, Any] | None = None  # side vectors and their weights
    exact: bool = False  # compare every segment, whatever index there is
    min_score: float | None = None  # hits below are left out: fewer than k may come back
    weights: Sequence[float] | None = None  # a number for each reference: the score is their weighted mean
    but_not: AudioQuery | Sequence[Any] | Mapping[str, float] = ()  # what hits should be unlike, with weights or not
    emotion: str | Mapping[str, float] | None = None  # an emotion or label, or several by weight, as one reference more
    emotion_min: float | None = None  # the least probability of these emotions in a moment
    arc: bool = False  # the query is a course: a call, or stations such as "neutral,angry"
    per: Mapping[str, int] | None = None  # at most so many hits that share a recording, a day or a metadata value
    explain: bool = False  # say of each hit why it is one, and how rare such likeness is here

    @classmethod
    def of(cls, retriever: Any, **changes: Any) -> Asking:
        """What a framework's object has set under these names, but for `changes`."""
        names = {field.name for field in fields(cls)} - changes.keys()
        return cls(**{name: getattr(retriever, name) for name in names if hasattr(retriever, name)}, **changes)

    def but(self, **changes: Any) -> Asking:
        """The same but for what is not None."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})


class CollectionSource:
    """Where a framework's answers come from. Safe to ask from several threads."""

    def __init__(
        self,
        collection: Collection | None = None,
        index: str | os.PathLike[str] | None = None,
        *,
        encoder: str | None = None,
        device: str | None = None,
        roots: Sequence[str | os.PathLike[str]] | None = None,
    ) -> None:
        """Take an open collection, or remember which to open.

        Args:
            collection: one that is open; it stays the caller's to close.
            index: else its folder or database URL; by default what `E2VSEARCH_INDEX` or e2vsearch.toml says.
            encoder: what hears references; by default the one the collection was made with.
            device: where it runs.
            roots: folders that paths must be in; None: any. Give them where a model or a stranger writes queries.

        Raises:
            SettingsError: both a collection and an index, or a root that is no folder.
        """
        if collection is not None and index is not None:
            raise SettingsError("give either an open collection or the index to open, not both")
        self._collection = collection
        self._index, self._encoder, self._device = index, encoder, device
        self._roots = None if roots is None else AllowedFolders(roots)
        self._lock = threading.Lock()

    @property
    def collection(self) -> Collection:
        """The collection, opened if it is not yet.

        Raises:
            NoCollection: there is none at that place.
            CatalogError: its database cannot be used.
        """
        with self._lock:
            if self._collection is None:
                self._collection = Collection.open(
                    self._index, create=False, encoder=self._encoder, device=self._device
                )
            return self._collection

    def ask(self, query: Any, asking: Asking) -> QueryResult:
        """The hits for what a framework was given as its query.

        Args:
            query: anything that `AudioQuery` names, or a list of those, which count as one reference; nothing, or
                nothing but blanks, where `asking` has an emotion to look for.
            asking: what is asked for.

        Raises:
            QueryError: it cannot be answered as asked.
            AudioError: a path that names no audio, text that is no path included.
            PathForbidden: a path outside the roots.
        """
        names: dict[str, str] = {}  # what the client calls each file that it may read
        found = self.collection.query(
            *(() if asking.arc else self._references(query, asking, names)),
            trajectory=self._course(query, names) if asking.arc else None,
            avoid=[self._weighed(each, names) for each in _listed(asking.but_not)],
            emotion=asking.emotion,
            min_probability=asking.emotion_min,
            k=asking.k,
            by=asking.by,
            where=asking.where,
            text=asking.text,
            named_vectors=asking.fuse,
            per=asking.per,
            exact=asking.exact,
            explain=asking.explain,
        )
        found = with_reference_names(found, names)
        if asking.min_score is None:
            return found
        return replace(found, hits=tuple(hit for hit in found.hits if hit.score >= asking.min_score))

    def _references(self, query: Any, asking: Asking, names: dict[str, str]) -> list[Any]:
        given = [each for each in references(query) if not (asking.emotion and _is_blank(each))]
        found = [self._weighed(each, names) for each in given]
        if asking.weights is None:
            return found
        if len(asking.weights) != len(found):
            raise QueryError(f"give a weight for each reference: {len(found)}, not {len(asking.weights)}")
        return [(reference, float(weight)) for reference, weight in zip(found, asking.weights, strict=True)]

    def _weighed(self, given: Any, names: dict[str, str]) -> Any:
        """A reference as it is allowed, alone or with its weight."""
        return (self._named(given[0], names), given[1]) if _is_pair(given) else self._named(given, names)

    def _course(self, query: Any, names: dict[str, str]) -> Any:
        """A call, or stations, each of which has to be allowed by itself."""
        stations = references(query)
        if len(stations) > 1:
            return [self._named(each, names) for each in stations]
        [course] = stations
        if self._roots is None or not isinstance(course, str) or "," not in course:
            return self._named(course, names)
        if not course.startswith(STORED):
            with suppress(PathForbidden):  # a file's name may hold a comma
                return self._named(course, names)
        return [self._named(each.strip(), names) for each in course.split(",")]

    def _named(self, reference: AudioQuery, names: dict[str, str]) -> AudioQuery:
        found = self.allowed(reference)
        if self._roots is not None and isinstance(found, Path):
            names[str(found)] = str(reference)
        return found

    def allowed(self, reference: AudioQuery) -> AudioQuery:
        """The reference; where there are roots, a path only if it lies in one of them, as the file it is.

        Raises:
            PathForbidden: it lies in none of them.
            QueryError: it is empty.
        """
        if _is_blank(reference):
            raise QueryError("an empty query names nothing to look for - give a clip's path, or seg:14, call:2 …")
        if self._roots is None or not isinstance(reference, str | os.PathLike):
            return reference
        if isinstance(reference, str) and reference.startswith(STORED):
            return reference
        try:
            return self._roots.allowed(reference)
        except PathForbidden:
            if isinstance(reference, str) and prototypes.is_bare_name(reference):
                target = prototypes.bare_prototype(self.collection.catalog, reference)
                if target is not None:
                    return target.named
            raise
        except (OSError, ValueError) as error:  # longer than a file system's names, or with a NUL in it
            raise PathForbidden(f"{str(reference)[:100]!r} is no file that may be read here") from error


def references(query: Any) -> tuple[Any, ...]:
    """A framework's query as references: a list of paths, ids, bytes or arrays is several, one of numbers a vector.

    Each may come with its weight, as a tuple: ``[("seg:14", 2.0), "seg:20"]``.
    """
    several = (str, os.PathLike, bytes, np.ndarray)
    if _is_pair(query) or not isinstance(query, list | tuple):
        return (query,)
    return tuple(query) if any(isinstance(each, several) or _is_pair(each) for each in query) else (query,)


def _listed(but_not: Any) -> list[Any]:
    """What hits should be unlike: one reference, a list of them, or each with its weight."""
    if isinstance(but_not, Mapping):
        return list(but_not.items())
    return [but_not] if isinstance(but_not, str | os.PathLike | bytes | np.ndarray) else list(but_not)


def _is_pair(given: Any) -> bool:
    """Whether it is a reference with its weight; two numbers are a vector of two dimensions."""
    pair = isinstance(given, tuple) and len(given) == 2
    return pair and isinstance(given[1], Real) and not isinstance(given[0], Real)


def _is_blank(reference: Any) -> bool:
    if isinstance(reference, str):
        return not reference.strip()
    return reference is None or (isinstance(reference, list | tuple) and not reference)
