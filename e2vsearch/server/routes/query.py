"""``/query``, ``/compare``, ``/embed``: by ids, names, vectors and paths, or with files that come along."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from fastapi import APIRouter, Request, Response

from e2vsearch.errors import QueryError
from e2vsearch.search.compare import emotion_of
from e2vsearch.search.query import AudioQuery
from e2vsearch.search.result import QueryResult
from e2vsearch.server import openapi_examples
from e2vsearch.server.responses import answer, documented
from e2vsearch.server.schemas import (
    CompareRequest,
    EmbeddedMoment,
    Embedding,
    EmbedRequest,
    NoFields,
    QueryRequest,
    UploadedQuery,
    fields_of,
    multipart,
)
from e2vsearch.server.state import ServerState, called, gone, is_path
from e2vsearch.server.uploads import Upload
from e2vsearch.types import Comparison, EmbeddedAudio, Space


def router(service: ServerState) -> APIRouter:
    """The routes over a service."""
    routes = APIRouter(tags=["asking"])
    collection = service.collection

    def query_stored(asked: QueryRequest) -> QueryResult:
        names: dict[str, str] = {}
        query = asked.query(lambda given: _found(service, given, names))
        with ExitStack() as stack:
            for path, name in names.items():
                stack.enter_context(called(Path(path), name))
            result = collection.query(query)
        service.metrics.searches.inc()
        return result.with_reference_names(names)

    def query_uploaded(upload: Upload, asked: UploadedQuery) -> QueryResult:
        with called(upload.path, upload.name):
            result = collection.query(asked.query(upload.path))
        service.metrics.searches.inc()
        return result.with_reference_names({str(upload.path): upload.name})

    def hear(upload: Upload) -> tuple[str, EmbeddedAudio]:
        with called(upload.path, upload.name):
            return upload.name, collection.embed(upload.path)

    def embedded(named: str, heard: EmbeddedAudio) -> Embedding:
        if not heard.segments:
            raise QueryError(f"no speech found in {named} - there is nothing to embed")
        return _embedding(collection.space or collection.encoder().space, heard)

    @routes.post(
        "/query",
        summary="Find the calls, or moments, that feel most like a reference",
        response_model=QueryResult,
        responses={**documented(400, 404, 409, 413, 415, 422), **openapi_examples.of(openapi_examples.QUERY_RESULT)},
    )
    async def query_by_reference(asked: QueryRequest, request: Request) -> Response:
        """By stored ids, names, vectors, and paths in the service's roots. Scores are exact cosines."""
        named = asked.sources()
        listens = any(isinstance(each, str) and is_path(each) for each in named)
        lane = service.listen if listens else service.read
        return answer(QueryResult, await lane(request, lambda: query_stored(asked)))

    @routes.post(
        "/query/upload",
        summary="Find the calls, or moments, that feel most like a clip",
        response_model=QueryResult,
        responses={**documented(400, 404, 409, 413, 415, 422), **openapi_examples.of(openapi_examples.QUERY_RESULT)},
        openapi_extra=multipart(UploadedQuery, "file"),
    )
    async def query_by_upload(request: Request) -> Response:
        """The clip is listened to and thrown away; nothing is stored."""
        async with service.uploaded(request, "file") as (turn, form):
            asked = fields_of(UploadedQuery, form.fields)
            return answer(QueryResult, await turn.run(lambda: query_uploaded(form.files["file"], asked), gone(request)))

    @routes.post(
        "/compare",
        summary="How alike two recordings or moments feel",
        response_model=Comparison,
        responses={**documented(400, 404, 409, 413, 415, 422), **openapi_examples.of(openapi_examples.COMPARISON)},
    )
    async def compare(asked: CompareRequest, request: Request) -> Response:
        """`score` compares the two as wholes, `best` the two moments that are most alike.

        Both as the collection compares: `space.projection` names what through.
        """

        def work() -> Comparison:
            return service.compare((asked.a, service.heard(asked.a)), (asked.b, service.heard(asked.b)))

        return answer(Comparison, await service.listen(request, work))

    @routes.post(
        "/compare/upload",
        summary="How alike two clips feel",
        response_model=Comparison,
        responses={**documented(400, 409, 413, 415, 422), **openapi_examples.of(openapi_examples.COMPARISON)},
        openapi_extra=multipart(NoFields, "a", "b"),
    )
    async def compare_uploads(request: Request) -> Response:
        """Both are listened to and thrown away."""
        async with service.uploaded(request, "a", "b") as (turn, form):
            fields_of(NoFields, form.fields)
            a, b = form.files["a"], form.files["b"]
            return answer(Comparison, await turn.run(lambda: service.compare(hear(a), hear(b)), gone(request)))

    @routes.post(
        "/embed",
        summary="The vectors of a recording or moment",
        response_model=Embedding,
        responses={**documented(400, 404, 409, 413, 415, 422), **openapi_examples.of(openapi_examples.EMBEDDING)},
    )
    async def embed(asked: EmbedRequest, request: Request) -> Response:
        """One vector for every spoken span, as the encoder made it."""
        named = asked.reference
        return answer(Embedding, await service.listen(request, lambda: embedded(named, service.heard(named))))

    @routes.post(
        "/embed/upload",
        summary="The vectors of a clip",
        response_model=Embedding,
        responses={**documented(400, 409, 413, 415, 422), **openapi_examples.of(openapi_examples.EMBEDDING)},
        openapi_extra=multipart(NoFields, "file"),
    )
    async def embed_upload(request: Request) -> Response:
        """The clip is listened to and thrown away."""
        async with service.uploaded(request, "file") as (turn, form):
            fields_of(NoFields, form.fields)
            return answer(Embedding, await turn.run(lambda: embedded(*hear(form.files["file"])), gone(request)))

    return routes


def _found(service: ServerState, given: str | list[float], names: dict[str, str]) -> AudioQuery:
    """What a client's word stands for; the name of a file is kept in `names`."""
    if not isinstance(given, str):
        return given
    found = service.reference(given)
    if isinstance(found, Path):
        names[str(found)] = given
    return found


def _embedding(space: Space, heard: EmbeddedAudio) -> Embedding:
    moments = []
    for moment in heard.segments:
        emotion = emotion_of(space, [moment])
        moments.append(
            EmbeddedMoment(
                channel=moment.channel,
                start_s=moment.start_s,
                end_s=moment.end_s,
                emotion=None if emotion is None else emotion.name,
                emotion_score=None if emotion is None else emotion.score,
                arousal=None if emotion is None else emotion.arousal,
                valence=None if emotion is None else emotion.valence,
                level_db=moment.level_db,
                scores={} if moment.scores is None else dict(zip(space.labels, moment.scores.tolist(), strict=True)),
                vector=moment.vector.tolist(),
            )
        )
    return Embedding(str(space), space.dim, moments)
