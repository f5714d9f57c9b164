"""A collection as a LlamaIndex retriever.

Example:
    >>> retriever = E2vsearchRetriever(index="index", k=5)  # doctest: +SKIP
    >>> retriever.retrieve("angry.wav")  # doctest: +SKIP
    >>> retriever.retrieve(QueryBundle("Why are they upset?", custom_embedding_strs=["angry.wav"]))  # doctest: +SKIP
"""

from __future__ import annotations

import asyncio
import base64
import mimetypes
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from e2vsearch.errors import missing_extra

try:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.schema import MediaResource, Node, NodeWithScore, QueryBundle
    from pydantic import AnyUrl
except ImportError as error:
    raise missing_extra("the LlamaIndex retriever", "llama-index") from error

from e2vsearch import audio
from e2vsearch.collection import Collection
from e2vsearch.integrations.documents import DocumentFormat, metadata
from e2vsearch.integrations.retriever import Retriever, template
from e2vsearch.types import By, Hit


class E2vsearchRetriever(BaseRetriever):
    """Returns segments of recordings that feel like a reference, as nodes with text and audio.

    A bundle's ``embedding`` is a vector of the collection's space; without one, its ``custom_embedding_strs`` are
    references, and without those its ``query_str`` is: a path or ``file://`` URI, ``seg:14``, ``call:2``,
    ``emotion:angry``, ``label:hesitant``. So a question for the model and a clip to look for fit in one bundle.
    """

    def __init__(
        self,
        collection: Collection | None = None,
        index: str | os.PathLike[str] | None = None,
        *,
        k: int = 10,
        by: By = "recording",
        where: str | None = None,
        min_score: float | None = None,
        query_fields: Mapping[str, Any] | None = None,
        clips: bool = False,
        document_format: DocumentFormat = "lines",
        encoder: str | None = None,
        device: str | None = None,
        roots: Sequence[str | os.PathLike[str]] | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        """Take an open collection, or remember which to open.

        Args:
            collection: one that is open; it stays the caller's to close.
            index: else its folder or database URL, opened at the first query.
            k: how many hits.
            by: ``recording``, each with its best segment, or ``segment``.
            where: a filter.
            min_score: hits below are left out.
            query_fields: all other fields of `Query`, see `e2vsearch.integrations.retriever.template`.
            clips: put the segment's own sound into each node, as WAV; otherwise the node names the recording's file.
            document_format: of each text, ``lines`` or ``rcs``, see `e2vsearch.integrations.documents.DocumentFormat`.
            encoder: embeds references; by default the one that the collection was made with.
            device: where it runs.
            roots: folders that paths must be in; None: any.
            callback_manager: LlamaIndex's.

        Raises:
            QueryError, TypeError: fields that make no query.
            SettingsError: both a collection and an index, a root that is no folder, or no such format.
        """
        self._template = template(query_fields or {}, k=k, by=by, where=where)
        self._source = Retriever(
            collection,
            index,
            encoder=encoder,
            device=device,
            roots=roots,
            actor="llama-index",
            document_format=document_format,
        )
        self._min_score = min_score
        self._clips = clips
        super().__init__(callback_manager=callback_manager)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        given = query_bundle.embedding if query_bundle.embedding is not None else query_bundle.embedding_strs
        found = self._source.query(given, self._template, min_score=self._min_score)
        return [NodeWithScore(node=self._node(hit, exact=found.exact), score=hit.score) for hit in found]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)

    def _node(self, hit: Hit, *, exact: bool) -> Node:
        space = self._source.collection.space
        kept = metadata(hit, space, exact=exact)
        return Node(
            id_=hit.segment,
            text_resource=MediaResource(text=self._source.text_of(hit)),
            audio_resource=self._audio(hit),
            extra_info=kept,  # its metadata, by the name that its constructor has
            # the text says it all, quoted; LlamaIndex would put these before it as they are, line ends included
            excluded_llm_metadata_keys=list(kept),
            excluded_embed_metadata_keys=list(kept),
        )

    def _audio(self, hit: Hit) -> MediaResource:
        if self._clips:
            wav = audio.encode(self._source.collection.clip(hit.segment))
            return MediaResource(data=base64.b64encode(wav), mimetype="audio/wav")
        mimetype, _ = mimetypes.guess_type(hit.uri)
        if "://" in hit.uri:
            return MediaResource(url=AnyUrl(hit.uri), mimetype=mimetype)
        return MediaResource(path=Path(hit.uri), mimetype=mimetype)
