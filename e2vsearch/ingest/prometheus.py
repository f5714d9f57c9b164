"""What a worker does, for Prometheus: counters of its own, and the queue that all share. Knows no audio and no HTTP
but the port that `serving` opens on this machine alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from e2vsearch.catalog import queue
from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.errors import ServiceError, missing_extra

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from e2vsearch.ingest.queue import Done


_FRESH_S = 5.0  # a scrape asks the database for the queue no more often than this
_HOST = "127.0.0.1"  # the numbers name no recording, and are still nobody's business beyond this machine


class WorkerMetrics:
    """Counts what a worker is `done` with; call it with each.

    Raises:
        MissingExtra: prometheus-client is not installed.
    """

    def __init__(self, catalog: CatalogReader) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge
        except ImportError as error:
            raise missing_extra("--metrics-port", "serve") from error
        self._registry = registry = CollectorRegistry()
        self._recordings = Counter(
            "e2vsearch_worker_recordings", "Recordings that were taken, by what became of them.", ["outcome"],
            registry=registry,
        )  # fmt: skip
        self._failures = Counter(
            "e2vsearch_worker_failures", "Recordings that failed, by cause.", ["reason"], registry=registry
        )
        self._audio = Counter("e2vsearch_worker_audio_seconds", "Audio that was listened to.", registry=registry)
        self._work = Counter(
            "e2vsearch_worker_work_seconds", "Time spent on it, summed over recordings side by side.", registry=registry
        )
        self._factor = Gauge(
            "e2vsearch_worker_real_time_factor", "Seconds of work a second of audio, of all so far.", registry=registry
        )
        self._audio_s = self._work_s = 0.0
        registry.register(_Queue(catalog))

    def __call__(self, done: Done) -> None:
        """Count one recording."""
        self._recordings.labels(done.outcome).inc()
        if done.reason is not None:
            self._failures.labels(done.reason).inc()
        if done.audio_s:
            self._audio.inc(done.audio_s)
            self._work.inc(done.seconds)
            self._audio_s += done.audio_s
            self._work_s += done.seconds
            self._factor.set(self._work_s / self._audio_s)

    def text(self) -> str:
        """All of it in Prometheus's text format."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry).decode()

    @contextmanager
    def serving(self, port: int) -> Iterator[int]:
        """Answer scrapes at ``http://127.0.0.1:port/metrics`` meanwhile; gives the port, which 0 leaves to the system.

        Raises:
            ServiceError: the port is taken.
        """
        from prometheus_client import start_http_server

        try:
            server, thread = start_http_server(port, _HOST, self._registry)
        except OSError as error:
            raise ServiceError(
                f"port {port} of {_HOST} cannot be used ({error.strerror or error}) - name another --metrics-port"
            ) from error
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Queue:
    """The queue at the moment of a scrape."""

    def __init__(self, catalog: CatalogReader) -> None:
        self._catalog = catalog
        self._found: list[Metric] = []
        self._asked = -_FRESH_S

    def describe(self) -> list[Any]:
        """Nothing: registering must not ask the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Its depth as it was a moment ago; nothing while the database is away."""
        if time.monotonic() - self._asked > _FRESH_S:
            self._found, self._asked = list(self._now()), time.monotonic()
        yield from self._found

    def _now(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        try:
            depth = queue.depth(self._catalog)
        except SQLAlchemyError:
            return
        states = GaugeMetricFamily("e2vsearch_queue_recordings", "Recordings in the queue.", labels=["state"])
        for state, count in (("queued", depth.queued), ("leased", depth.leased), ("dead_letter", depth.dead_letters)):
            states.add_metric([state], count)
        yield states
        age = "Age of the one that is queued or in work for longest."
        yield GaugeMetricFamily("e2vsearch_queue_oldest_seconds", age, value=depth.oldest_s)
        yield GaugeMetricFamily("e2vsearch_queue_lost", "In work, but the lease has run out.", value=depth.expired)
