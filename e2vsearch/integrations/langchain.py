"""A collection as a LangChain retriever.

Example:
    >>> retriever = E2vsearchRetriever(index="index", k=5, where="channel = 1")  # doctest: +SKIP
    >>> retriever.invoke("angry.wav", avoid=["calm.wav"])  # doctest: +SKIP
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from e2vsearch.errors import missing_extra

try:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from pydantic import Field, PrivateAttr
except ImportError as error:
    raise missing_extra("the LangChain retriever", "langchain") from error

from e2vsearch.collection import Collection
from e2vsearch.integrations.documents import DocumentFormat, metadata
from e2vsearch.integrations.retriever import Retriever, template
from e2vsearch.search.query import Query
from e2vsearch.types import By


class E2vsearchRetriever(BaseRetriever):
    """Returns segments of recordings that feel like a reference, as documents.

    The query is a reference, not words: a path or ``file://`` URI, ``seg:14``, ``call:2``, ``emotion:angry``,
    ``label:hesitant``; bytes of an audio file, 16 kHz samples, a vector, a `Reference` with its weight, and lists of
    all those pass through as well. Any field of a query can be changed for one call: ``invoke(query, k=3, where=…)``.

    Attributes:
        collection: an open one, which stays the caller's to close.
        index: else the folder or database URL to open; None: `E2VSEARCH_INDEX`, or ``index``.
        encoder: embeds references; by default the one that the collection was made with.
        device: where it runs.
        roots: folders that paths must be in; None: any.
        k: how many documents.
        by: ``recording``, each with its best segment, or ``segment``.
        where: a filter.
        min_score: documents below are left out.
        query_fields: all other fields of `Query`, see `e2vsearch.integrations.retriever.template`.
        document_format: of each text, ``lines`` or ``rcs``, see `e2vsearch.integrations.documents.DocumentFormat`.
    """

    collection: Collection | None = None
    index: str | Path | None = None
    encoder: str | None = None
    device: str | None = None
    roots: Sequence[str | Path] | None = None
    k: int = 10
    by: By = "recording"
    where: str | None = None
    min_score: float | None = None
    query_fields: Mapping[str, Any] = Field(default_factory=dict)
    document_format: DocumentFormat = "lines"

    _source: Retriever = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Check what a query is made of, and remember what to open; nothing is opened before the first query."""
        super().model_post_init(context)
        self._template({})
        self._source = Retriever(
            self.collection,
            self.index,
            encoder=self.encoder,
            device=self.device,
            roots=self.roots,
            actor="langchain",
            document_format=self.document_format,
        )

    def _template(self, changes: Mapping[str, Any]) -> Query:
        return template(self.query_fields, changes, k=self.k, by=self.by, where=self.where)

    def _get_relevant_documents(
        self,
        query: Any,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - LangChain asks for the parameter
        min_score: float | None = None,
        **changes: Any,
    ) -> list[Document]:
        least = self.min_score if min_score is None else min_score
        found = self._source.query(query, self._template(changes), min_score=least)
        space = self._source.collection.space
        return [
            Document(
                id=hit.segment,
                page_content=self._source.text_of(hit),
                metadata=metadata(hit, space, exact=found.exact),
            )
            for hit in found
        ]

    async def _aget_relevant_documents(
        self, query: Any, *, run_manager: AsyncCallbackManagerForRetrieverRun, **changes: Any
    ) -> list[Document]:
        run = run_manager.get_sync()
        return await asyncio.to_thread(self._get_relevant_documents, query, run_manager=run, **changes)
