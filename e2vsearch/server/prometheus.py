"""What is counted, for Prometheus and for the log. Knows routes and durations, nothing of what was asked or answered.

The log says method, route as it is declared (no id, no filter, no name of anybody), status and milliseconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from e2vsearch.collection import Collection
from e2vsearch.encoders.batcher import Batch
from e2vsearch.errors import E2vsearchError
from e2vsearch.server.auth import HEADERS
from e2vsearch.server.executor import BoundedExecutor
from e2vsearch.server.responses import CLIENT_GONE, refusal

_access = logging.getLogger("e2vsearch.server.access")

_log = logging.getLogger("e2vsearch.server")

_METHODS = frozenset(("GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"))  # anything may be sent as one

_LATENCIES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_CLIPS = (1, 2, 4, 8, 16, 32, 64)

_INDEX_FRESH_S = 10.0  # a scrape asks the database for the index's state no more often than this


class Metrics:
    """Counters of one application."""

    def __init__(self, collection: Collection, lanes: Iterable[BoundedExecutor]) -> None:
        """Registers them in a registry of its own."""
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "e2vsearch_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "e2vsearch_request_seconds", "From request to answer.", ["route"], buckets=_LATENCIES_S, registry=registry
        )
        self._clips = Histogram(
            "e2vsearch_batch_clips", "Clips encoded in one call.", buckets=_CLIPS, registry=registry
        )
        self._joined = Histogram(
            "e2vsearch_batch_requests", "Requests that share a call.", buckets=_CLIPS, registry=registry
        )
        self._heard = Counter("e2vsearch_encoded_audio_seconds", "Speech that was encoded.", registry=registry)
        self._encoding = Counter("e2vsearch_encoder_seconds", "Time spent encoding it.", registry=registry)
        self.searches = Counter("e2vsearch_searches", "Queries that were searched for.", registry=registry)
        registry.register(_State(collection, tuple(lanes)))

    def batch(self, batch: Batch) -> None:
        """Count a batch of the encoder."""
        self._clips.observe(batch.clips)
        self._joined.observe(batch.requests)
        self._heard.inc(batch.audio_s)
        self._encoding.inc(batch.seconds)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All of it in Prometheus's text format. Asks the database, so not for the event loop."""
        return generate_latest(self._registry)


class _State(Collector):
    """What is true at the moment of a scrape."""

    def __init__(self, collection: Collection, lanes: tuple[BoundedExecutor, ...]) -> None:
        self._collection = collection
        self._lanes = lanes
        self._index: list[Metric] = []
        self._asked = -_INDEX_FRESH_S

    def describe(self) -> list[Metric]:
        """Nothing: registering must not ask the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Queues as they are, the index as it was a moment ago."""
        waiting = GaugeMetricFamily("e2vsearch_waiting", "Requests let in that have no thread.", labels=["lane"])
        working = GaugeMetricFamily("e2vsearch_working", "Threads at work.", labels=["lane"])
        for lane in self._lanes:
            waiting.add_metric([lane.name], lane.waiting)
            working.add_metric([lane.name], lane.working)
        yield from (waiting, working)
        if time.monotonic() - self._asked > _INDEX_FRESH_S:
            self._index, self._asked = list(_index(self._collection)), time.monotonic()
        yield from self._index


def _index(collection: Collection) -> Iterator[Metric]:
    try:
        state = collection.index.engine.status()
    except E2vsearchError:  # nothing ingested yet
        return
    for name, value, meaning in (
        ("generation_segments", state.n, "Segments in the index on disk."),
        ("tail_segments", state.tail, "Segments that came after it, compared one by one."),
        ("tombstones", state.tombstones, "Segments of it that are gone."),
        ("damaged", state.damage is not None, "1: not used, searches are exact all the same."),
        ("due", state.due is not None, "1: a build is due."),
    ):
        yield GaugeMetricFamily(f"e2vsearch_index_{name}", meaning, value=float(value))
    if state.recall is not None:
        yield GaugeMetricFamily("e2vsearch_index_recall", "Measured at its build.", value=state.recall)


class Observed:
    """An ASGI application whose every answer is counted, logged and given the headers that all have."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS:
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if isinstance(error, OSError) and status:  # the client went away while it was being sent to
                status = CLIENT_GONE
            else:
                _log.exception("a request to %s failed: please report it", _route(scope))
                if not status:
                    message = f"unexpected {type(error).__name__} - the service's log has more; please report it"
                    await refusal(500, "internal", message)(scope, receive, watched)
                else:
                    raise  # half an answer is out: the connection must break, not end
        finally:
            spent = time.perf_counter() - started
            method, route = scope["method"] if scope["method"] in _METHODS else "OTHER", _route(scope)
            self._metrics.request(method, route, status or CLIENT_GONE, spent)
            _access.info("%s %s %d %.0f ms", method, route, status or CLIENT_GONE, spent * 1000)


def _route(scope: Scope) -> str:
    return str(getattr(scope.get("route"), "path", "-"))
