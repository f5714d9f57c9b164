"""A collection as a Haystack component.

Example:
    >>> retriever = E2vsearchRetriever(index="index", top_k=5)  # doctest: +SKIP
    >>> retriever.run(query="angry.wav", filters='channel = 1')["documents"]  # doctest: +SKIP
"""

from __future__ import annotations

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
from e2vsearch.integrations.documents import DocumentFormat, metadata
from e2vsearch.integrations.haystack.filters import to_where
from e2vsearch.integrations.retriever import Retriever, template
from e2vsearch.search.query import Reference
from e2vsearch.types import By

__all__ = ["E2vsearchRetriever", "to_where"]


@component
class E2vsearchRetriever:
    """Returns segments of recordings that feel like a reference, as documents.

    References are what comes in as ``query`` (a path or ``file://`` URI, ``seg:14``, ``call:2``, ``emotion:angry``,
    ``label:hesitant``), ``query_embedding`` (a vector of the collection's space) and ``audio`` (the bytes of a clip);
    several of them count as one.

    A pipeline that was written down is read with ``allowed_modules=["e2vsearch.integrations.haystack"]``: since
    version 3 Haystack makes components of other packages only where it is told to.
    """

    def __init__(
        self,
        index: str | None = None,
        *,
        collection: Collection | None = None,
        top_k: int = 10,
        by: By = "recording",
        filters: str | dict[str, Any] | None = None,
        min_score: float | None = None,
        query_fields: dict[str, Any] | None = None,
        encoder: str | None = None,
        device: str | None = None,
        roots: Sequence[str] | None = None,
        document_format: DocumentFormat = "lines",
    ) -> None:
        """Remember what to open; a pipeline opens it in `warm_up`.

        Args:
            index: a collection's folder or database URL; by default what `E2VSEARCH_INDEX` says.
            collection: an open one instead; it stays the caller's to close.
            top_k: how many documents.
            by: ``recording``, each with its best segment, or ``segment``.
            filters: a filter such as ``queue = billing``, or one in Haystack's own grammar.
            min_score: documents below are left out.
            query_fields: all other fields of `Query`, see `e2vsearch.integrations.retriever.template`; those that JSON
                cannot hold, such as arrays, cannot be serialised.
            encoder: embeds references; by default the one that the collection was made with.
            device: where it runs.
            roots: folders that paths must be in; None: any.
            document_format: of each text, ``lines`` or ``rcs``, see `e2vsearch.integrations.documents.DocumentFormat`.

        Raises:
            QueryError, TypeError: fields that make no query.
            SettingsError: both a collection and an index, a root that is no folder, or no such format.
        """
        self.index = index
        self.collection = collection
        self.top_k = top_k
        self.by: By = by
        self.filters = filters
        self.min_score = min_score
        self.query_fields = query_fields or {}
        self.encoder = encoder
        self.device = device
        self.roots = roots
        template(self.query_fields, k=top_k, by=by, where=to_where(filters))
        self.document_format = document_format
        self._source = Retriever(
            collection,
            index,
            encoder=encoder,
            device=device,
            roots=roots,
            actor="haystack",
            document_format=document_format,
        )

    def warm_up(self) -> None:
        """Open the collection and its encoder. The error of one that cannot be opened comes when a clip needs it."""
        collection = self._source.collection
        with contextlib.suppress(EncoderError, MissingExtra):
            collection.encoder()

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` makes the component of; an open collection becomes the index it was opened from.

        Raises:
            SettingsError: the index is a URL with a password, which would end up in a pipeline's file.
        """
        index = self.index if self.collection is None else self.collection.settings.index
        if index is not None and _has_password(index):
            raise SettingsError(
                "a pipeline's file would hold the password of its index - leave index out and set E2VSEARCH_INDEX"
            )
        parameters = ("top_k", "by", "filters", "min_score", "query_fields", "encoder", "device", "roots")
        kept = {name: _serialisable(getattr(self, name)) for name in (*parameters, "document_format")}
        settings: dict[str, Any] = default_to_dict(self, index=_serialisable(index), **kept)
        return settings

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> E2vsearchRetriever:
        """Return the component that `to_dict` describes."""
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
        query_fields: dict[str, Any] | None = None,
    ) -> dict[str, list[Document]]:
        """Return the documents for one reference.

        Args:
            query: a path, a URI or a stored id; never words to look for.
            query_embedding: a vector of the collection's space.
            audio: the bytes of an audio file.
            filters: instead of the component's.
            top_k: instead of the component's.
            query_fields: instead of the component's fields of these names; the others stay.

        Raises:
            QueryError: no reference, or a query that cannot be answered.
            BadFilter: filters that cannot be said in the language of ``--where``.
            AudioError: a path that names no audio.
        """
        changes = {**(query_fields or {}), "k": top_k}
        where = to_where(self.filters if filters is None else filters)
        full = template(self.query_fields, changes, k=self.top_k, by=self.by, where=where)
        given = [each for each in (query, query_embedding, audio and audio.data) if each is not None]
        if not given and not (full.emotion or full.where or full.text):
            raise QueryError(
                "nothing to look for: give the retriever a query, a query_embedding, audio or an emotion, or filters"
            )
        found = self._source.query(given, full, min_score=self.min_score)
        space = self._source.collection.space
        documents = [
            Document(
                id=hit.segment,
                content=self._source.text_of(hit),
                meta=metadata(hit, space, exact=found.exact),
                score=hit.score,
            )
            for hit in found
        ]
        return {"documents": documents}


def _serialisable(value: Any) -> Any:
    """Return a parameter as JSON has it, where it has; references as `template` reads them."""
    if isinstance(value, Reference):
        return {"source": _serialisable(value.source), "weight": value.weight}
    if isinstance(value, Mapping):
        return {key: _serialisable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_serialisable(each) for each in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _has_password(index: str | os.PathLike[str]) -> bool:
    from sqlalchemy.engine import make_url

    text = os.fspath(index)
    return "://" in text and make_url(text).password is not None
