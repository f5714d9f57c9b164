"""The application is every route, behind `AuthMiddleware`, and counted and logged outside of that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST

from e2vsearch import retention
from e2vsearch._version import __version__
from e2vsearch.access import AllowedFolders
from e2vsearch.audio import prepare
from e2vsearch.collection import Collection
from e2vsearch.errors import EncoderError, MissingExtra, NoCollection
from e2vsearch.ingest.prometheus import QueueMetrics
from e2vsearch.projections.base import RAW
from e2vsearch.scrub import Scrub
from e2vsearch.server import page
from e2vsearch.server.auth import AuthMiddleware
from e2vsearch.server.bodies import BodyMiddleware
from e2vsearch.server.embedder import LimitedEmbedder
from e2vsearch.server.executor import BoundedExecutor
from e2vsearch.server.options import ServiceOptions
from e2vsearch.server.prometheus import Metrics, ObservabilityMiddleware
from e2vsearch.server.responses import errors_of, handle_errors, json_response, returns
from e2vsearch.server.results import Health
from e2vsearch.server.routes import analysis, audio, embeddings, labels, maps, query, recordings, tasks
from e2vsearch.server.state import ServerState
from e2vsearch.server.tasks import Tasks
from e2vsearch.server.uploads import Uploads

_log = logging.getLogger("e2vsearch.server")

DESCRIPTION = (
    "Find the recordings, and the segments in them, that feel like a reference clip. Scores are exact cosines in the "
    "collection's space; seconds are counted from a recording's first sample; every error is one line with its cure."
)

_TAGS = {
    "query": "Search by example, compare, embed.",
    "recordings": "What is stored, as it is stored.",
    "audio": "To be played and drawn: always decoded here, whatever the recording's own format is.",
    "analysis": "Labels, classifiers, maps.",
    "tasks": "Work that takes longer than a request may: started, asked about, stopped.",
    "openai": "The encoder as one more model behind a gateway: OpenAI's embeddings API, with audio for text.",
    "service": "The state of the service itself.",
}

EMBEDDING_NICE = 15
"""Of the threads that embed clips: who asks for what is stored need not wait for the cores behind them.

`benchmarks/serve.py`, 50 clients on the service's own two cores: queries by id took 14 ms (p95 177) in place of 41
(285), segments' sound 39 ms (175) in place of 82 (377), and no fewer clips were embedded, 26.6 a second (25.1).
"""

_KEY = (  # described only: `AuthMiddleware` compares the key, before any route is matched
    Security(HTTPBearer(scheme_name="bearer", auto_error=False)),
    Security(APIKeyHeader(scheme_name="key", name="X-API-Key", auto_error=False)),
)


def build(collection: Collection, options: ServiceOptions) -> FastAPI:
    """Return the application over an open collection, which stays the caller's to close.

    Raises:
        SettingsError: a root that is no folder.
    """
    state = _state(collection, options)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(state.uploads.open)
        await asyncio.to_thread(_warm, state)
        with retention.running(collection.catalog, collection.index, collection.playback), state.scrub.running():
            yield
        await asyncio.to_thread(state.close)

    app = FastAPI(
        title="e2vsearch",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=[{"name": name, "description": meaning} for name, meaning in _TAGS.items()],
        docs_url=None,  # Swagger's page comes from elsewhere, and this may have no way there
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
    )
    app.state.server = state
    handle_errors(app)
    secured = _KEY if options.api_key is not None else ()
    rooms = (query, recordings, audio, analysis, labels, maps, tasks, embeddings)
    app.state.routers = [app.router, *(room.router(state) for room in rooms)]
    for router in app.state.routers[1:]:
        app.include_router(router, dependencies=secured)

    @app.get("/healthz", tags=["service"], summary="That it runs", **returns(Health))
    async def get_health() -> Response:
        """Needs no key, and answers however much is in work."""
        return json_response(Health, Health())

    @app.get(
        "/metrics",
        tags=["service"],
        summary="Counters for Prometheus",
        response_class=Response,
        responses={**errors_of(), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        dependencies=secured,
    )
    async def get_metrics() -> Response:
        """Return requests, latencies, queues, batches, encoder time, searches, and the index's and the jobs' state."""
        return Response(await asyncio.to_thread(state.metrics.text), media_type=CONTENT_TYPE_LATEST)

    open_paths = page.add(app) | {"/healthz", "/openapi.json"}
    app.add_middleware(
        BodyMiddleware,
        open_paths=open_paths,
        body_s=options.body_s,
        timeout_s=options.timeout_s,
        max_upload_bytes=options.max_upload_bytes,
        uploads=options.queue + options.thread_count,
    )
    app.add_middleware(AuthMiddleware, key=options.api_key, open_paths=open_paths)
    app.add_middleware(ObservabilityMiddleware, metrics=state.metrics)  # the last one added is the outermost
    return app


def _state(collection: Collection, options: ServiceOptions) -> ServerState:
    metrics = Metrics()
    embedder = LimitedEmbedder(collection.encoder, options.max_audio_s, metrics.batch)
    limited = collection.used_by("http", embedder)
    embedding = BoundedExecutor("embedding", options.thread_count, options.queue, EMBEDDING_NICE)
    reading = BoundedExecutor("reading", options.thread_count, options.queue)
    uploads = Uploads()
    scrub = Scrub(collection.location, collection.index.folder(RAW.revision))
    metrics.watch((embedding, reading), lambda: uploads.receiving, lambda: limited.index.status(), lambda: scrub.faults)
    metrics.add(QueueMetrics(collection.catalog))
    roots = AllowedFolders(options.roots)
    return ServerState(limited, options, roots, embedder, embedding, reading, uploads, metrics, Tasks(), scrub)


def _warm(state: ServerState) -> None:
    """Open what the first request would have to wait for."""
    prepare(b"")  # the process that decodes, so that the first clip does not wait for it
    try:
        state.collection.catalog.require_space()
        state.collection.index.status()
        state.embedder.encoder()
    except (NoCollection, EncoderError, MissingExtra) as error:  # queries by id and vector need no encoder
        _log.warning("clips cannot be embedded: %s", error)


def _operation_id(route: APIRoute) -> str:
    return route.name
