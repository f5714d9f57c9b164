"""Asking a collection on behalf of a framework: opened once, when it is first asked. Knows no framework.

A framework's query is one string, so that string may be all that `AudioQuery` takes as text: a path, a ``file://`` URI,
``seg:14``, ``call:2``, ``emotion:angry``, ``label:hesitant``. It is never taken for words to look for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from e2vsearch.collection import AudioQuery, Collection, QueryResult, targets
from e2vsearch.collection.results import By
from e2vsearch.collection.roots import Roots
from e2vsearch.errors import PathForbidden, QueryError, SettingsError

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

    def but(self, **changes: Any) -> Asking:
        """The same but for what is not None."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})


class Source:
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
        self._roots = None if roots is None else Roots(roots)
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
            query: anything that `AudioQuery` names, or a list of those, which count as one reference.
            asking: what is asked for.

        Raises:
            QueryError: it cannot be answered as asked.
            AudioError: a path that names no audio, text that is no path included.
            PathForbidden: a path outside the roots.
        """
        found = self.collection.query(
            *(self.allowed(each) for each in references(query)),
            k=asking.k,
            by=asking.by,
            where=asking.where,
            text=asking.text,
            fuse=asking.fuse,
            exact=asking.exact,
        )
        if asking.min_score is None:
            return found
        return replace(found, hits=tuple(hit for hit in found.hits if hit.score >= asking.min_score))

    def allowed(self, reference: AudioQuery) -> AudioQuery:
        """The reference; where there are roots, a path only if it lies in one of them, as the file it is.

        Raises:
            PathForbidden: it lies in none of them.
            QueryError: it is empty.
        """
        if isinstance(reference, str) and not reference.strip():
            raise QueryError("an empty query names nothing to look for - give a clip's path, or seg:14, call:2 …")
        if self._roots is None or not isinstance(reference, str | os.PathLike):
            return reference
        if isinstance(reference, str) and reference.startswith(STORED):
            return reference
        try:
            return self._roots.allowed(reference)
        except PathForbidden:
            if isinstance(reference, str) and targets.is_bare(reference):
                target = targets.bare(self.collection.catalog, reference)
                if target is not None:
                    return target.named
            raise
        except (OSError, ValueError) as error:  # longer than a file system's names, or with a NUL in it
            raise PathForbidden(f"{str(reference)[:100]!r} is no file that may be read here") from error


def references(query: Any) -> tuple[AudioQuery, ...]:
    """A framework's query as references: a list of paths, ids, bytes or arrays is several, one of numbers a vector."""
    several = (str, os.PathLike, bytes, np.ndarray)
    if isinstance(query, list | tuple) and any(isinstance(each, several) for each in query):
        return tuple(query)
    return (query,)
