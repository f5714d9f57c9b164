"""Requests, batches and the state of the index are counted for Prometheus, and every response is logged.

The log has the method, the route as it is declared (no id, no filter, no name), the status and milliseconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from e2vsearch.encoders.batcher import Batch
from e2vsearch.errors import E2vsearchError
from e2vsearch.server.executor import BoundedExecutor
from e2vsearch.server.responses import CLIENT_DISCONNECTED, error_response
from e2vsearch.types import IndexStatus

_access = logging.getLogger("e2vsearch.server.access")
_log = logging.getLogger("e2vsearch.server")

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",  # no page from elsewhere embeds these voices
    "Content-Security-Policy": "default-src 'none'; media-src 'self'; frame-ancestors 'none'",
    "Cache-Control": "no-store",  # people's voices and emotions
}
"""Headers of every response that does not set them itself."""

_METHODS = frozenset(("GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"))  # a client may send any word
_LATENCIES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_CLIPS = (1, 2, 4, 8, 16, 32, 64)
_INDEX_FRESH_S = 10.0  # a scrape reads the index's state from the database no more often than this


class Metrics:
    """The counters of one application."""

    def __init__(self) -> None:
        """Register them in a registry of their own."""
        self._registry = of = CollectorRegistry()
        self.requests = Counter("e2vsearch_requests", "Responses.", ["method", "route", "status"], registry=of)
        self.seconds = Histogram(
            "e2vsearch_request_seconds", "From request to response.", ["route"], buckets=_LATENCIES_S, registry=of
        )
        self._clips = Histogram("e2vsearch_batch_clips", "Clips encoded in one call.", buckets=_CLIPS, registry=of)
        self._joined = Histogram("e2vsearch_batch_requests", "Requests of one call.", buckets=_CLIPS, registry=of)
        self._audio = Counter("e2vsearch_encoded_audio_seconds", "Speech that was encoded.", registry=of)
        self._encoding = Counter("e2vsearch_encoder_seconds", "Time spent encoding it.", registry=of)
        self.searches = Counter("e2vsearch_searches", "Queries that were searched for.", registry=of)

    def watch(
        self,
        executors: Iterable[BoundedExecutor],
        receiving: Callable[[], int],
        index_status: Callable[[], IndexStatus],
        faults: Callable[[], list[str] | None],
    ) -> None:
        """Show executors, uploads on their way in, an index and what is damaged as they are at every scrape."""
        self._registry.register(_Gauges(tuple(executors), receiving, index_status, faults))

    def add(self, collector: Collector) -> None:
        """Show what a further collector has, at every scrape."""
        self._registry.register(collector)

    def batch(self, batch: Batch) -> None:
        """Count a batch of the encoder."""
        self._clips.observe(batch.clips)
        self._joined.observe(batch.requests)
        self._audio.inc(batch.audio_s)
        self._encoding.inc(batch.seconds)

    def text(self) -> bytes:
        """Return all of it in Prometheus's text format; reads the database, so not for the event loop."""
        return generate_latest(self._registry)


class _Gauges(Collector):
    def __init__(
        self,
        executors: tuple[BoundedExecutor, ...],
        receiving: Callable[[], int],
        index_status: Callable[[], IndexStatus],
        faults: Callable[[], list[str] | None],
    ) -> None:
        self._executors = executors
        self._receiving = receiving
        self._index_status = index_status
        self._faults = faults
        self._index: list[Metric] = []
        self._read_at = -_INDEX_FRESH_S

    def describe(self) -> list[Metric]:
        """Return nothing: registering must not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield queues as they are, and the index as it was at most ten seconds ago."""
        waiting = GaugeMetricFamily("e2vsearch_waiting", "Requests let in that have no thread.", labels=["lane"])
        working = GaugeMetricFamily("e2vsearch_working", "Threads at work.", labels=["lane"])
        for executor in self._executors:
            waiting.add_metric([executor.name], executor.waiting)
            working.add_metric([executor.name], executor.working)
        receiving = GaugeMetricFamily("e2vsearch_receiving", "Uploads on their way in.", value=self._receiving())
        yield from (waiting, working, receiving)
        faults = self._faults()
        if faults is not None:
            meaning = "What the daily check of the database found damaged."
            yield GaugeMetricFamily("e2vsearch_database_faults", meaning, value=len(faults))
        if time.monotonic() - self._read_at > _INDEX_FRESH_S:
            self._index, self._read_at = list(self._of_index()), time.monotonic()
        yield from self._index

    def _of_index(self) -> Iterator[Metric]:
        try:
            state = self._index_status()
        except E2vsearchError:  # nothing ingested yet
            return
        for name, value, meaning in (
            ("generation_segments", state.n, "Segments in the index on disk."),
            ("tail_segments", state.tail, "Segments that came after it, compared one by one."),
            ("tombstones", state.tombstones, "Segments of it that were removed."),
            ("damaged", state.damage is not None, "1: not used, searches are exact all the same."),
            ("due", state.due is not None, "1: a build is due."),
        ):
            yield GaugeMetricFamily(f"e2vsearch_index_{name}", meaning, value=float(value))
        if state.recall is not None:
            yield GaugeMetricFamily("e2vsearch_index_recall", "Measured at its build.", value=state.recall)


class ObservabilityMiddleware:
    """ASGI middleware that counts and logs every response, and adds the headers that all have.

    `prometheus-fastapi-instrumentator` counts clients that went away as 500, takes any method that a client makes up as
    one more time series, and matches every route a second time; the log and the headers would need this all the same.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
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
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if isinstance(error, OSError) and status:  # the client went away while it was being sent to
                status = CLIENT_DISCONNECTED
            else:
                _log.exception("a request to %s failed: please report it", _route(scope))
                if status:
                    raise  # half of the response is out: the connection must break, not end
                message = f"unexpected {type(error).__name__} - the service's log has more; please report it"
                await error_response(500, "internal", message)(scope, receive, watched)
        finally:
            spent, status = time.perf_counter() - started, status or CLIENT_DISCONNECTED
            method, route = scope["method"] if scope["method"] in _METHODS else "OTHER", _route(scope)
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(spent)
            _access.info("%s %s %d %.0f ms", method, route, status, spent * 1000)


def _route(scope: Scope) -> str:
    return str(getattr(scope.get("route"), "path", "-"))
