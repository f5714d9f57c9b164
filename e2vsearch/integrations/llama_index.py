"""A collection as a LlamaIndex retriever. Knows LlamaIndex's nodes, nothing of how they are found.

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
from e2vsearch.integrations.documents import describe, metadata
from e2vsearch.integrations.retriever import Asking, CollectionSource
from e2vsearch.types import By, Hit


class E2vsearchRetriever(BaseRetriever):
    """Moments of calls that feel like a reference, as nodes with text and audio.

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
        by: By = "call",
        where: str | None = None,
        text: str | None = None,
        fuse: Mapping[str, Any] | None = None,
        exact: bool = False,
        min_score: float | None = None,
        weights: Sequence[float] | None = None,
        but_not: Any = (),
        emotion: str | Mapping[str, float] | None = None,
        emotion_min: float | None = None,
        arc: bool = False,
        per: Mapping[str, int] | None = None,
        explain: bool = False,
        clips: bool = False,
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
            by: ``call``, each with its best moment, or ``segment``.
            where: a filter.
            text: words that must be said in the moment.
            fuse: side vectors and their weights.
            exact: compare every segment, whatever index there is.
            min_score: hits below are left out.
            weights: a number for each reference of a bundle that has several.
            but_not: references that hits should be unlike: a list, or ``{"calm.wav": 0.3}`` with weights.
            emotion: an emotion or label, or several by weight, as one reference more; alone with the query ``""``.
            emotion_min: the least probability of these emotions in a moment.
            arc: the query is a course: a call, or stations such as ``neutral,angry``.
            per: at most so many hits that share a value: ``{"recording": 1, "agent": 2}``.
            explain: say why, and how rare such likeness is, in each node's text and metadata.
            clips: put the moment's own sound into each node, as WAV; otherwise the node names the call's file.
            encoder: what hears references; by default the one the collection was made with.
            device: where it runs.
            roots: folders that paths must be in; None: any.
            callback_manager: LlamaIndex's.
        """
        self._source = CollectionSource(collection, index, encoder=encoder, device=device, roots=roots)
        self._asking = Asking(
            k, by, where, text, fuse, exact, min_score, weights, but_not, emotion, emotion_min, arc, per, explain
        )
        self._clips = clips
        super().__init__(callback_manager=callback_manager)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        query = query_bundle.embedding if query_bundle.embedding is not None else query_bundle.embedding_strs
        found = self._source.ask(query, self._asking)
        return [NodeWithScore(node=self._node(hit, exact=found.exact), score=hit.score) for hit in found]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)

    def _node(self, hit: Hit, *, exact: bool) -> Node:
        space = self._source.collection.space
        kept = metadata(hit, space, exact=exact)
        return Node(
            id_=hit.segment,
            text_resource=MediaResource(text=describe(hit, space)),
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
