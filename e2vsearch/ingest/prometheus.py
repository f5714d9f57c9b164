"""Prometheus metrics of a worker: its own counters, and the queue that all share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from e2vsearch.catalog import queue
from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.errors import CatalogError, ServiceError, missing_extra

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from e2vsearch.ingest.worker import JobReport


_FRESH_S = 5.0  # between two queries of the database, however often it is scraped

_HOST = "127.0.0.1"  # the metrics name no recording, and still concern this machine alone


class WorkerMetrics:
    """Counts what became of a worker's jobs; it is called with each report.

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
            "e2vsearch_worker_recordings", "Jobs that were leased, by outcome.", ["outcome"],
            registry=registry,
        )  # fmt: skip
        self._failures = Counter(
            "e2vsearch_worker_failures", "Recordings that failed, by cause.", ["reason"], registry=registry
        )
        self._audio = Counter("e2vsearch_worker_audio_seconds", "Audio that was decoded.", registry=registry)
        self._work = Counter(
            "e2vsearch_worker_work_seconds", "Time spent on it, summed over recordings side by side.", registry=registry
        )
        self._factor = Gauge(
            "e2vsearch_worker_real_time_factor", "Seconds of work a second of audio, of all so far.", registry=registry
        )
        self._audio_s = self._work_s = 0.0
        registry.register(QueueMetrics(catalog))

    def __call__(self, report: JobReport) -> None:
        """Count one recording."""
        self._recordings.labels(report.outcome).inc()
        if report.reason is not None:
            self._failures.labels(report.reason).inc()
        if report.audio_s:
            self._audio.inc(report.audio_s)
            self._work.inc(report.seconds)
            self._audio_s += report.audio_s
            self._work_s += report.seconds
            self._factor.set(self._work_s / self._audio_s)

    def text(self) -> str:
        """Return all metrics in Prometheus's text format."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry).decode()

    @contextmanager
    def serving(self, port: int) -> Iterator[int]:
        """Serve ``http://127.0.0.1:port/metrics`` meanwhile, and yield the port, which 0 leaves to the system.

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


class QueueMetrics:
    """The state of the queue when it is scraped: a collector of prometheus-client."""

    def __init__(self, catalog: CatalogReader) -> None:
        self._catalog = catalog
        self._found: list[Metric] = []
        self._queried_s = -_FRESH_S

    def describe(self) -> list[Any]:
        """Return nothing: registering must not query the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield its depth, at most 5 s old; nothing while the database is unavailable."""
        if time.monotonic() - self._queried_s > _FRESH_S:
            self._found, self._queried_s = list(self._now()), time.monotonic()
        yield from self._found

    def _now(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        try:
            depth = queue.depth(self._catalog)
        except (CatalogError, SQLAlchemyError):
            return
        states = GaugeMetricFamily("e2vsearch_queue_recordings", "Recordings in the queue.", labels=["state"])
        for state, count in (("queued", depth.queued), ("leased", depth.leased), ("dead_letter", depth.dead_letters)):
            states.add_metric([state], count)
        yield states
        age = "Age of the job that is queued or leased for longest."
        yield GaugeMetricFamily("e2vsearch_queue_oldest_seconds", age, value=depth.oldest_s)
        yield GaugeMetricFamily("e2vsearch_queue_lost", "Leased, but the lease has run out.", value=depth.expired)
