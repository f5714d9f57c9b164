"""The application: every route, behind the guard, counted. Knows how the rooms fit together, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST

from e2vsearch._version import __version__
from e2vsearch.access import AllowedFolders
from e2vsearch.collection import Collection
from e2vsearch.encoders.batcher import Batch
from e2vsearch.errors import EncoderError, MissingExtra, NoCollection
from e2vsearch.server import openapi_examples, page
from e2vsearch.server.auth import AuthMiddleware
from e2vsearch.server.embedder import LimitedEmbedder
from e2vsearch.server.executor import BoundedExecutor
from e2vsearch.server.options import ServiceOptions
from e2vsearch.server.prometheus import Metrics, Observed
from e2vsearch.server.responses import answer, documented, handle_errors
from e2vsearch.server.routes import analysis, audio, query, recordings
from e2vsearch.server.schemas import Health
from e2vsearch.server.state import ServerState
from e2vsearch.server.uploads import Uploads

_log = logging.getLogger("e2vsearch.server")

DESCRIPTION = (
    "Find the calls, and the moments in them, that feel like a reference clip. Scores are exact cosines in the "
    "collection's space; seconds are counted from a recording's first sample; every error is one line with its cure."
)

_TAGS = (
    ("asking", "Search by example, compare, embed."),
    ("stored", "What is stored, as it is stored."),
    ("sound", "To be played and drawn: always decoded here, whatever the recording's own format is."),
    ("findings", "Labels of one's own, classifiers, maps."),
    ("service", "How the service itself fares."),
)


def build(collection: Collection, options: ServiceOptions) -> FastAPI:
    """The application over an open collection, which stays the caller's to close.

    Raises:
        SettingsError: a root that is no folder.
    """
    service = _service(collection, options)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.uploads.sweep)
        await asyncio.to_thread(_warm, service)
        yield
        await asyncio.to_thread(_close, service)

    app = FastAPI(
        title="e2vsearch",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=[{"name": name, "description": meaning} for name, meaning in _TAGS],
        docs_url=None,  # Swagger's page comes from elsewhere, and this may have no way there
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
    )
    app.state.service = service
    handle_errors(app)
    rooms = (query, recordings, audio, analysis)
    app.state.routers = [app.router, *(room.router(service) for room in rooms)]
    for router in app.state.routers[1:]:
        app.include_router(router)
    _add_own_routes(app, service)
    if options.api_key is not None:
        _declare_key(app)
    open_paths = page.add(app) | {"/healthz", "/openapi.json"}
    app.add_middleware(
        AuthMiddleware, key=options.api_key, open_paths=open_paths, max_upload_bytes=options.max_upload_bytes
    )
    app.add_middleware(Observed, metrics=service.metrics)  # the last one added is the outermost
    return app


def _service(collection: Collection, options: ServiceOptions) -> ServerState:
    listening = BoundedExecutor("listening", options.thread_count, options.queue)
    reading = BoundedExecutor("reading", options.thread_count, options.queue)

    def watch(batch: Batch) -> None:
        metrics.batch(batch)

    embedder = LimitedEmbedder(collection.encoder, options.max_audio_s, watch)
    served = collection.with_embed(embedder)
    metrics = Metrics(served, (listening, reading))
    roots = AllowedFolders(options.roots)
    return ServerState(served, embedder, options, roots, listening, reading, Uploads(), metrics)


def _add_own_routes(app: FastAPI, service: ServerState) -> None:
    @app.get(
        "/healthz",
        tags=["service"],
        summary="That it runs",
        response_model=Health,
        responses=openapi_examples.of(Health()),
    )
    async def get_health() -> Response:
        """Needs no key, and answers however much is in work."""
        return answer(Health, Health())

    @app.get(
        "/metrics",
        tags=["service"],
        summary="Counters for Prometheus",
        response_class=Response,
        responses={**documented(), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def get_metrics(_: Request) -> Response:
        """Requests, latencies, queues, batches, encoder time, searches, and the state of the index."""
        return Response(await asyncio.to_thread(service.metrics.text), media_type=CONTENT_TYPE_LATEST)


def _warm(service: ServerState) -> None:
    """Open what the first request would have to wait for."""
    try:
        service.collection.catalog.require_space()
        service.collection.index.status()
        service.embedder.encoder()
    except (NoCollection, EncoderError, MissingExtra) as error:  # ids and vectors can be asked for all the same
        _log.warning("clips cannot be listened to: %s", error)


def _close(service: ServerState) -> None:
    service.listening.close()
    service.reading.close()
    service.embedder.close()
    service.collection.index.builder.join()
    service.uploads.close()


def _declare_key(app: FastAPI) -> None:
    """Say in the OpenAPI document that a key is needed, and where it goes."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        document["security"] = [{"bearer": []}, {"key": []}]
        document["paths"]["/healthz"]["get"]["security"] = []
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _operation_id(route: APIRoute) -> str:
    return route.name
