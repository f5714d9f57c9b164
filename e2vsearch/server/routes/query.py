"""``/query``, ``/compare`` and ``/embed`` take ids, names, vectors and paths, or files that are uploaded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response

from e2vsearch.errors import QueryError
from e2vsearch.search.compare import emotion_of
from e2vsearch.search.query import AudioQuery
from e2vsearch.search.rename import with_reference_names
from e2vsearch.server.responses import json_response, returns
from e2vsearch.server.schemas import (
    CompareRequest,
    Embedding,
    EmbeddingSegment,
    EmbedRequest,
    NoFields,
    QueryOptions,
    QueryRequest,
    UploadedQuery,
    fields_of,
    multipart,
)
from e2vsearch.server.state import NAMES, ServerState, disconnection, is_path, named_in_errors
from e2vsearch.server.uploads import Upload
from e2vsearch.types import Comparison, EmbeddedAudio, QueryResult, Space


def router(state: ServerState) -> APIRouter:
    """Return the routes over a collection."""
    routes = APIRouter(tags=["query"])
    collection = state.collection

    def query(references: Sequence[Any], body: QueryOptions, **more: Any) -> QueryResult:
        shared = {name: getattr(body, name) for name in QueryOptions.model_fields}
        result = collection.query(*references, **shared, **more)
        state.metrics.searches.inc()
        return result

    def query_stored(body: QueryRequest) -> QueryResult:
        names: dict[str, str] = {}
        references, but_not, stations = (
            [_resolved(state, each, names) for each in given]
            for given in (body.references, body.but_not, _stations(body.arc))
        )
        more: dict[str, Any] = {} if body.arc is None else {"arc": stations if len(stations) > 1 else stations[0]}
        with ExitStack() as stack:
            for path, name in names.items():
                stack.enter_context(named_in_errors(Path(path), name))
            result = query(
                _weighted(references, body.weights),
                body,
                but_not=_weighted(but_not, body.but_not_weights),
                emotion=body.emotion,
                emotion_min=body.emotion_min,
                per=body.per,
                include_self=body.include_self,
                **more,
            )
        return with_reference_names(result, names)

    def query_uploaded(upload: Upload, body: UploadedQuery) -> QueryResult:
        more: dict[str, Any] = {"arc": upload.path} if body.arc else {}
        if body.per_recording is not None:
            more["per"] = {"recording": body.per_recording}
        with named_in_errors(upload.path, upload.name):
            result = query([] if body.arc else [upload.path], body, **more)
        return with_reference_names(result, {str(upload.path): upload.name})

    def embed_uploaded(upload: Upload) -> tuple[str, EmbeddedAudio]:
        with named_in_errors(upload.path, upload.name):
            return upload.name, collection.hear(upload.path)

    def embedding(name: str, audio: EmbeddedAudio) -> Embedding:
        if not audio.moments:
            raise QueryError(f"no speech found in {name} - there is nothing to embed")
        return _embedding(collection.space or collection.encoder().space, audio)

    @routes.post(
        "/query",
        summary="Find the recordings, or segments, that feel most like a reference",
        **returns(QueryResult, 400, 404, 409, 413, 415, 422),
    )
    async def query_by_reference(body: QueryRequest, request: Request) -> Response:
        """By stored ids, names, vectors, and paths in the service's roots. Scores are exact cosines."""
        references = (*body.references, *body.but_not, *_stations(body.arc))
        any_path = any(isinstance(each, str) and is_path(each) for each in references)
        run = state.embed if any_path else state.read
        return json_response(QueryResult, await run(request, lambda: query_stored(body)))

    @routes.post(
        "/query/upload",
        summary="Find the recordings, or segments, that feel most like a clip",
        **returns(QueryResult, 400, 404, 409, 413, 415, 422),
        openapi_extra=multipart(UploadedQuery, "file"),
    )
    async def query_by_upload(request: Request) -> Response:
        """Embed the clip and remove it; nothing is stored."""
        async with state.upload(request, "file") as (ticket, form):
            body, clip = fields_of(UploadedQuery, form.fields), form.files["file"]
            result = await ticket.run(lambda: query_uploaded(clip, body), disconnection(request))
            return json_response(QueryResult, result)

    @routes.post(
        "/compare",
        summary="How alike two recordings or segments feel",
        **returns(Comparison, 400, 404, 409, 413, 415, 422),
    )
    async def compare(body: CompareRequest, request: Request) -> Response:
        """`score` compares the two as wholes, `best` the two segments that are most alike.

        Both through the projection that `space.projection` names.
        """

        def work() -> Comparison:
            return collection.compare_heard((body.a, state.embedded(body.a)), (body.b, state.embedded(body.b)))

        return json_response(Comparison, await state.embed(request, work))

    @routes.post(
        "/compare/upload",
        summary="How alike two clips feel",
        **returns(Comparison, 400, 409, 413, 415, 422),
        openapi_extra=multipart(NoFields, "a", "b"),
    )
    async def compare_uploads(request: Request) -> Response:
        """Embed both and remove them."""
        async with state.upload(request, "a", "b") as (ticket, form):
            fields_of(NoFields, form.fields)

            def work() -> Comparison:
                return collection.compare_heard(embed_uploaded(form.files["a"]), embed_uploaded(form.files["b"]))

            return json_response(Comparison, await ticket.run(work, disconnection(request)))

    @routes.post(
        "/embed", summary="The vectors of a recording or segment", **returns(Embedding, 400, 404, 409, 413, 415, 422)
    )
    async def embed(body: EmbedRequest, request: Request) -> Response:
        """One vector for each segment, as the encoder made it."""

        def work() -> Embedding:
            return embedding(body.reference, state.embedded(body.reference))

        return json_response(Embedding, await state.embed(request, work))

    @routes.post(
        "/embed/upload",
        summary="The vectors of a clip",
        **returns(Embedding, 400, 409, 413, 415, 422),
        openapi_extra=multipart(NoFields, "file"),
    )
    async def embed_upload(request: Request) -> Response:
        """Embed the clip and remove it."""
        async with state.upload(request, "file") as (ticket, form):
            fields_of(NoFields, form.fields)

            def work() -> Embedding:
                return embedding(*embed_uploaded(form.files["file"]))

            return json_response(Embedding, await ticket.run(work, disconnection(request)))

    return routes


def _resolved(state: ServerState, reference: str | list[float], names: dict[str, str]) -> AudioQuery:
    """Return what a client's reference stands for, and keep the name of a file in `names`."""
    if not isinstance(reference, str):
        return reference
    found = state.resolve(reference)
    if isinstance(found, Path):
        names[str(found)] = reference
    return found


def _stations(arc: str | list[str] | None) -> list[str]:
    """Return a trajectory's stations, whether they come as a list or as ``a,b``: each has to be allowed by itself."""
    if isinstance(arc, str):
        return [each.strip() for each in arc.split(",")] if arc.startswith(NAMES) else [arc]
    return arc or []


def _weighted(references: list[AudioQuery], weights: list[float] | None) -> list[Any]:
    return references if weights is None else list(zip(references, weights, strict=True))


def _embedding(space: Space, audio: EmbeddedAudio) -> Embedding:
    segments = []
    for segment in audio.moments:
        emotion = emotion_of(space, [segment])
        segments.append(
            EmbeddingSegment(
                channel=segment.channel,
                start_s=segment.start_s,
                end_s=segment.end_s,
                emotion=None if emotion is None else emotion.name,
                emotion_score=None if emotion is None else emotion.score,
                arousal=None if emotion is None else emotion.arousal,
                valence=None if emotion is None else emotion.valence,
                level_db=segment.level_db,
                scores={} if segment.scores is None else dict(zip(space.labels, segment.scores.tolist(), strict=True)),
                vector=segment.vector.tolist(),
            )
        )
    return Embedding(str(space), space.dim, segments)
