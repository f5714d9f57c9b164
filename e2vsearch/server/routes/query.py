"""``/query``, ``/compare``, ``/embed``: by ids, names, vectors and paths, or with files that come along."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response

from e2vsearch.errors import QueryError
from e2vsearch.pipeline import emotion_of
from e2vsearch.search.query import AudioQuery
from e2vsearch.search.rename import with_reference_names
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
from e2vsearch.server.state import NAMES, ServerState, called, gone, is_path
from e2vsearch.server.uploads import Upload
from e2vsearch.types import Comparison, EmbeddedAudio, QueryResult, Space


def router(service: ServerState) -> APIRouter:
    """The routes over a service."""
    routes = APIRouter(tags=["asking"])
    collection = service.collection

    def query(references: Sequence[Any], asked: QueryRequest | UploadedQuery, **more: Any) -> QueryResult:
        shared = {name: getattr(asked, name) for name in ("k", "by", "where", "text", "exact", "explain")}
        result = collection.query(*references, **shared, **more)
        service.metrics.searches.inc()
        return result

    def query_stored(asked: QueryRequest) -> QueryResult:
        names: dict[str, str] = {}
        references, but_not, stations = (
            [_found(service, each, names) for each in given]
            for given in (asked.references, asked.but_not, _stations(asked.arc))
        )
        more: dict[str, Any] = {} if asked.arc is None else {"arc": stations if len(stations) > 1 else stations[0]}
        with ExitStack() as stack:
            for path, name in names.items():
                stack.enter_context(called(Path(path), name))
            result = query(
                _weighed(references, asked.weights),
                asked,
                but_not=_weighed(but_not, asked.but_not_weights),
                emotion=asked.emotion,
                emotion_min=asked.emotion_min,
                per=asked.per,
                include_self=asked.include_self,
                **more,
            )
        return with_reference_names(result, names)

    def query_uploaded(upload: Upload, asked: UploadedQuery) -> QueryResult:
        more: dict[str, Any] = {"arc": upload.path} if asked.arc else {}
        if asked.per_recording is not None:
            more["per"] = {"recording": asked.per_recording}
        with called(upload.path, upload.name):
            result = query([] if asked.arc else [upload.path], asked, **more)
        return with_reference_names(result, {str(upload.path): upload.name})

    def hear(upload: Upload) -> tuple[str, EmbeddedAudio]:
        with called(upload.path, upload.name):
            return upload.name, collection.hear(upload.path)

    def embedded(named: str, heard: EmbeddedAudio) -> Embedding:
        if not heard.moments:
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
        named = (*asked.references, *asked.but_not, *_stations(asked.arc))
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
            return collection.compare_heard((asked.a, service.heard(asked.a)), (asked.b, service.heard(asked.b)))

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
            return answer(Comparison, await turn.run(lambda: collection.compare_heard(hear(a), hear(b)), gone(request)))

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


def _stations(arc: str | list[str] | None) -> list[str]:
    """An arc's stations, each of which has to be allowed by itself, whether they come as a list or as ``a,b``."""
    if isinstance(arc, str):
        return [each.strip() for each in arc.split(",")] if arc.startswith(NAMES) else [arc]
    return arc or []


def _weighed(references: list[AudioQuery], weights: list[float] | None) -> list[Any]:
    return references if weights is None else list(zip(references, weights, strict=True))


def _embedding(space: Space, heard: EmbeddedAudio) -> Embedding:
    moments = []
    for moment in heard.moments:
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
