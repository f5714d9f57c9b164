"""A collection as a Haystack component. Knows Haystack's documents, nothing of how they are found.

>>> retriever = E2vsearchRetriever(index="index", top_k=5)  # doctest: +SKIP
>>> retriever.run(query="angry.wav", filters='channel = 1')["documents"]  # doctest: +SKIP
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from e2vsearch.errors import missing_extra

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.dataclasses import ByteStream
except ImportError as error:
    raise missing_extra("the Haystack retriever", "haystack") from error

from e2vsearch.collection import Collection
from e2vsearch.errors import EncoderError, MissingExtra, QueryError, SettingsError
from e2vsearch.integrations.documents import describe, metadata
from e2vsearch.integrations.haystack.filters import to_where
from e2vsearch.integrations.retriever import Asking, CollectionSource
from e2vsearch.types import By

__all__ = ["E2vsearchRetriever", "to_where"]


@component
class E2vsearchRetriever:
    """Moments of calls that feel like a reference, as documents.

    References are what comes in as ``query`` (a path or ``file://`` URI, ``seg:14``, ``call:2``, ``emotion:angry``,
    ``label:hesitant``), ``query_embedding`` (a vector of the collection's space) and ``audio`` (the bytes of a clip);
    several of them count as one. Filters and ``top_k`` of a run replace those of the component.

    A pipeline that was written down is read with ``allowed_modules=["e2vsearch.integrations.haystack"]``: since
    version 3 Haystack makes components of other packages only where it is told to.
    """

    def __init__(
        self,
        index: str | None = None,
        *,
        collection: Collection | None = None,
        top_k: int = 10,
        by: By = "call",
        filters: str | dict[str, Any] | None = None,
        text: str | None = None,
        fuse: Mapping[str, Any] | None = None,
        exact: bool = False,
        min_score: float | None = None,
        but_not: Any = (),
        emotion: str | dict[str, float] | None = None,
        emotion_min: float | None = None,
        arc: bool = False,
        per: dict[str, int] | None = None,
        explain: bool = False,
        encoder: str | None = None,
        device: str | None = None,
        roots: Sequence[str] | None = None,
    ) -> None:
        """Remember what to open; a pipeline opens it in `warm_up`.

        Args:
            index: a collection's folder or database URL; by default what `E2VSEARCH_INDEX` says.
            collection: an open one instead; it stays the caller's to close.
            top_k: how many documents.
            by: ``call``, each with its best moment, or ``segment``.
            filters: a filter such as ``agent = "Kim"``, or one in Haystack's own grammar.
            text: words that must be said in the moment.
            fuse: side vectors and their weights; those given as arrays cannot be serialised.
            exact: compare every segment, whatever index there is.
            min_score: documents below are left out.
            but_not: references that documents should be unlike: a list, or ``{"calm.wav": 0.3}`` with weights.
            emotion: an emotion or label, or several by weight, as one reference more; it needs no other.
            emotion_min: the least probability of these emotions in a moment.
            arc: the query is a course: a call, or stations such as ``neutral,angry``.
            per: at most so many documents that share a value: ``{"recording": 1, "agent": 2}``.
            explain: say why, and how rare such likeness is, in each document's content and meta.
            encoder: what hears references; by default the one the collection was made with.
            device: where it runs.
            roots: folders that paths must be in; None: any.
        """
        self.index = index
        self.collection = collection
        self.top_k = top_k
        self.by: By = by
        self.filters = filters
        self.text = text
        self.fuse = fuse
        self.exact = exact
        self.min_score = min_score
        self.but_not = but_not
        self.emotion = emotion
        self.emotion_min = emotion_min
        self.arc = arc
        self.per = per
        self.explain = explain
        self.encoder = encoder
        self.device = device
        self.roots = roots
        self._source = CollectionSource(collection, index, encoder=encoder, device=device, roots=roots)

    def warm_up(self) -> None:
        """Open the collection and its encoder. One that cannot be opened is told of when a clip needs it."""
        collection = self._source.collection
        with contextlib.suppress(EncoderError, MissingExtra):
            collection.encoder()

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` makes the component of again; an open collection becomes the index it was opened from.

        Raises:
            SettingsError: the index is a URL with a password, which would end up in a pipeline's file.
        """
        index = self.index if self.collection is None else self.collection.settings.index
        if index is not None and _has_password(index):
            raise SettingsError(
                "a pipeline's file would hold the password of its index - leave index out and set E2VSEARCH_INDEX"
            )
        settings: dict[str, Any] = default_to_dict(
            self,
            index=None if index is None else os.fspath(index),
            top_k=self.top_k,
            by=self.by,
            filters=self.filters,
            text=self.text,
            fuse=self.fuse,
            exact=self.exact,
            min_score=self.min_score,
            but_not=self.but_not if isinstance(self.but_not, str | Mapping) else list(self.but_not),
            emotion=self.emotion,
            emotion_min=self.emotion_min,
            arc=self.arc,
            per=self.per,
            explain=self.explain,
            encoder=self.encoder,
            device=self.device,
            roots=None if self.roots is None else [os.fspath(root) for root in self.roots],
        )
        return settings

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> E2vsearchRetriever:
        """The component that `to_dict` describes."""
        made: E2vsearchRetriever = default_from_dict(cls, data)
        return made

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str | None = None,
        query_embedding: list[float] | None = None,
        audio: ByteStream | None = None,
        filters: str | dict[str, Any] | None = None,
        top_k: int | None = None,
        text: str | None = None,
        but_not: list[str] | None = None,
        emotion: dict[str, float] | None = None,
    ) -> dict[str, list[Document]]:
        """The documents for one reference.

        Args:
            query: a path, a URI or a stored id; never words to look for.
            query_embedding: a vector of the collection's space.
            audio: the bytes of an audio file.
            filters: instead of the component's.
            top_k: instead of the component's.
            text: instead of the component's.
            but_not: instead of the component's.
            emotion: instead of the component's.

        Raises:
            QueryError: no reference, or a query that cannot be answered as asked.
            BadFilter: filters that cannot be said in the language of ``--where``.
            AudioError: a path that names no audio.
        """
        sound = None if audio is None else audio.data
        given = [each for each in (query, query_embedding, sound) if each is not None]
        if not given and not (self.emotion or emotion):
            raise QueryError("nothing to look for: give the retriever a query, a query_embedding, audio or an emotion")
        where = to_where(self.filters if filters is None else filters)
        asking = Asking.of(self, k=self.top_k, where=where).but(k=top_k, text=text, but_not=but_not, emotion=emotion)
        found = self._source.ask(given[0] if len(given) == 1 else given or None, asking)
        space = self._source.collection.space
        documents = [
            Document(
                id=hit.segment,
                content=describe(hit, space),
                meta=metadata(hit, space, exact=found.exact),
                score=hit.score,
            )
            for hit in found
        ]
        return {"documents": documents}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str | None = None,
        query_embedding: list[float] | None = None,
        audio: ByteStream | None = None,
        filters: str | dict[str, Any] | None = None,
        top_k: int | None = None,
        text: str | None = None,
        but_not: list[str] | None = None,
        emotion: dict[str, float] | None = None,
    ) -> dict[str, list[Document]]:
        """`run` in a thread of its own, so that a pipeline's loop goes on."""
        answered: dict[str, list[Document]] = await asyncio.to_thread(
            self.run, query, query_embedding, audio, filters, top_k, text, but_not, emotion
        )
        return answered


def _has_password(index: str | os.PathLike[str]) -> bool:
    from sqlalchemy.engine import make_url

    text = os.fspath(index)
    return "://" in text and make_url(text).password is not None
