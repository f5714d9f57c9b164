"""A collection as a LangChain retriever. Knows LangChain's documents, nothing of how they are found.

>>> retriever = E2vsearchRetriever(index="index", k=5, where="channel = 1")  # doctest: +SKIP
>>> retriever.invoke("angry.wav")  # doctest: +SKIP
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
    from pydantic import PrivateAttr
except ImportError as error:
    raise missing_extra("the LangChain retriever", "langchain") from error

from e2vsearch.collection import Collection
from e2vsearch.integrations.documents import describe, metadata
from e2vsearch.integrations.retriever import Asking, CollectionSource
from e2vsearch.types import By


class E2vsearchRetriever(BaseRetriever):
    """Moments of calls that feel like a reference, as documents.

    The query is a reference, not words: a path or ``file://`` URI, ``seg:14``, ``call:2``, ``emotion:angry``,
    ``label:hesitant``; bytes of an audio file, 16 kHz samples, a vector, and lists of all those pass through as well.
    What is set here can be set anew in each ``invoke(query, k=3, where=…)``.
    """

    collection: Collection | None = None  # an open one, which stays the caller's to close
    index: str | Path | None = None  # else the folder or database URL to open; None: E2VSEARCH_INDEX, or "index"
    encoder: str | None = None
    device: str | None = None
    roots: Sequence[str | Path] | None = None  # folders that paths must be in; None: any

    k: int = 10
    by: By = "call"
    where: str | None = None
    text: str | None = None  # words that must be said in the moment
    fuse: Mapping[str, Any] | None = None
    exact: bool = False
    min_score: float | None = None
    weights: Sequence[float] | None = None  # a number for each reference of a list
    but_not: Any = ()  # references that hits should be unlike: a list, or {"calm.wav": 0.3} with weights
    emotion: str | Mapping[str, float] | None = None  # {"frustrated": 1, "shouting": -0.5}; alone with the query ""
    emotion_min: float | None = None  # the least probability of these emotions
    arc: bool = False  # the query is a course: a call, or stations such as "neutral,angry"
    per: Mapping[str, int] | None = None  # {"recording": 1, "agent": 2}
    explain: bool = False  # why, percentile: in each document's text and metadata

    _source: CollectionSource = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Remember what to open; nothing is opened before the first query."""
        super().model_post_init(context)
        self._source = CollectionSource(
            self.collection, self.index, encoder=self.encoder, device=self.device, roots=self.roots
        )

    def _get_relevant_documents(
        self,
        query: Any,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - LangChain asks for the parameter
        **changes: Any,
    ) -> list[Document]:
        return self._ask(query, changes)

    async def _aget_relevant_documents(
        self,
        query: Any,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002 - LangChain asks for the parameter
        **changes: Any,
    ) -> list[Document]:
        return await asyncio.to_thread(self._ask, query, changes)

    def _ask(self, query: Any, changes: Mapping[str, Any]) -> list[Document]:
        found = self._source.ask(query, Asking.of(self).but(**changes))
        space = self._source.collection.space
        return [
            Document(
                id=hit.segment,
                page_content=describe(hit, space),
                metadata=metadata(hit, space, exact=found.exact),
            )
            for hit in found
        ]
