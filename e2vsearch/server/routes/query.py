"""``/query``, ``/compare`` and ``/embed`` take ids, names, vectors and paths, or files that are uploaded."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from fastapi import APIRouter, Request, Response

from e2vsearch.errors import QueryError
from e2vsearch.pipeline import emotion_of
from e2vsearch.search.query import AudioQuery, Query
from e2vsearch.search.result import QueryResult
from e2vsearch.server.responses import json_response, returns
from e2vsearch.server.results import Embedding, EmbeddingSegment
from e2vsearch.server.schemas import (
    CompareRequest,
    EmbedRequest,
    NoFields,
    QueryRequest,
    UploadedQuery,
    fields_of,
    multipart,
)
from e2vsearch.server.state import ServerState, disconnection, is_path, named_in_errors
from e2vsearch.server.uploads import Upload
from e2vsearch.types import Comparison, EmbeddedAudio, Space


def router(state: ServerState) -> APIRouter:
    """Return the routes over a collection."""
    routes = APIRouter(tags=["query"])
    collection = state.collection

    def query_stored(body: QueryRequest) -> QueryResult:
        names: dict[str, str] = {}
        return answer(body.query(lambda reference: _resolved(state, reference, names)), names)

    def query_uploaded(upload: Upload, body: UploadedQuery) -> QueryResult:
        names = {str(upload.path): upload.name}
        return answer(body.query(upload.path, lambda reference: _resolved(state, reference, names)), names)

    def answer(query: Query, names: dict[str, str]) -> QueryResult:
        with ExitStack() as stack:
            for path, name in names.items():
                stack.enter_context(named_in_errors(Path(path), name))
            result = collection.query(query)
        state.metrics.searches.inc()
        return result.with_reference_names(names)

    def embed_uploaded(upload: Upload) -> tuple[str, EmbeddedAudio]:
        with named_in_errors(upload.path, upload.name):
            return upload.name, collection.embed(upload.path)

    def embedding(name: str, audio: EmbeddedAudio) -> Embedding:
        if not audio.segments:
            raise QueryError(f"no speech found in {name} - there is nothing to embed")
        return _embedding(collection.space or collection.encoder().space, audio)

    @routes.post(
        "/query",
        summary="Find the recordings, or segments, that feel most like a reference",
        **returns(QueryResult, 400, 404, 409, 413, 415, 422),
    )
    async def query_by_reference(body: QueryRequest, request: Request) -> Response:
        """By stored ids, names, vectors, and paths in the service's roots. Scores are exact cosines."""
        references = body.sources()
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
            return state.compare(*((name, state.resolve_audio(name)) for name in (body.a, body.b)))

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
                return state.compare(*((clip.name, clip.path) for clip in (form.files["a"], form.files["b"])))

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


def _embedding(space: Space, audio: EmbeddedAudio) -> Embedding:
    segments = []
    for segment in audio.segments:
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
