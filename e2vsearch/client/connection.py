"""The two clients: the same calls, sent by httpx, one waiting for the answer and one awaiting it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import httpx

from e2vsearch._version import __version__
from e2vsearch.client import calls
from e2vsearch.client.calls import Call, Stored
from e2vsearch.errors import ServiceError, SettingsError, TooSlow
from e2vsearch.search.query import AudioQuery, Query, Reference
from e2vsearch.search.result import QueryResult
from e2vsearch.types import Comparison, Status

if TYPE_CHECKING:
    from e2vsearch.analysis.labels.types import LabelReport
    from e2vsearch.analysis.timeline import Timeline
    from e2vsearch.server.results import (
        Classification,
        Embedding,
        Filters,
        Labels,
        RecordingPage,
        RecordingSegments,
        Removed,
        SegmentRecording,
        Suggestions,
    )

T = TypeVar("T")

TIMEOUT_S = 70.0
"""The service's own deadline, 60 s, comes first, and says more."""

RETRIES = 2
"""Attempts to connect again. What was sent is never sent twice: the service may have labelled or trained by then."""


def _options(url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """Return the arguments that both of httpx's clients take.

    Raises:
        SettingsError: no address, or no time.
    """
    if httpx.URL(url).scheme not in ("http", "https"):
        raise SettingsError(f"{url!r} is no address of a service - write http://127.0.0.1:8080")
    if not timeout_s > 0:
        raise SettingsError(f"timeout_s is {timeout_s}: give more than 0")
    headers = {"User-Agent": f"e2vsearch/{__version__}"}
    headers |= {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    return {"base_url": url, "headers": headers, "timeout": timeout_s}


@contextmanager
def _translated(url: httpx.URL) -> Iterator[None]:
    """Have httpx's errors be the library's."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise TooSlow(f"{url} did not answer in time - raise timeout_s, or send less audio") from error
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        raise ServiceError(f"{url} cannot be asked ({why}) - is e2vsearch serve running there?") from error


class Client:
    """A collection behind `e2vsearch serve`. Safe to use from several threads; close it, or use it in ``with``."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: of the service, ``http://127.0.0.1:8080``.
            api_key: the service's, if it has one.
            timeout_s: of connecting, and of each wait for more of an answer.
            transport: another way to send; by default one that tries `RETRIES` times to connect.

        Raises:
            SettingsError: no address, or no time.
        """
        transport = transport or httpx.HTTPTransport(retries=RETRIES)
        self._http = httpx.Client(**_options(url, api_key, timeout_s), transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def query(self, *references: AudioQuery | Reference | Query, **fields: Any) -> QueryResult:
        """Return what `Collection.query` does; files are read here, and sent.

        Raises:
            QueryError: it cannot be answered, or the service takes no such combination.
            ServiceError: the service does not answer.
            E2vsearchError: any other that the service answers with.
        """
        return self._sent(calls.query(Query.of(*references, **fields)))

    def compare(self, a: AudioQuery, b: AudioQuery) -> Comparison:
        """Return how alike two clips, or two stored recordings or segments, feel."""
        return self._sent(calls.compare(a, b))

    def embed(self, source: AudioQuery) -> Embedding:
        """Return the segments of a clip, or of what is stored, with their vectors."""
        return self._sent(calls.embed(source))

    def classify(self, source: AudioQuery, classifier: str | None = None) -> Classification:
        """Return a classifier's predictions, by default of the one that was trained last."""
        return self._sent(calls.classify(source, classifier))

    def recordings(
        self,
        *,
        where: str | None = None,
        text: str | None = None,
        order: Literal["id", "newest"] = "id",
        limit: int = 100,
        after: str | None = None,
    ) -> RecordingPage:
        """Return a page of recordings; its `next` is `after` of the page that follows."""
        return self._sent(calls.recordings(where, text, order, limit, after))

    def recording(self, name: Stored) -> RecordingSegments:
        """Return one recording with its segments."""
        return self._sent(calls.recording(name))

    def timeline(self, name: Stored) -> Timeline:
        """Return one recording as it is looked at: channels, dynamics, course."""
        return self._sent(calls.timeline(name))

    def segment(self, name: Stored) -> SegmentRecording:
        """Return one segment and its recording."""
        return self._sent(calls.segment(name))

    def filters(self) -> Filters:
        """Return what a filter can name."""
        return self._sent(calls.filters())

    def status(self) -> Status:
        """Return what the collection holds, and how its index fares."""
        return self._sent(calls.status())

    def labels(self) -> Labels:
        """Return labels, and the classifiers trained on them."""
        return self._sent(calls.labels())

    def add_label(self, label: str, *segments: Stored) -> LabelReport:
        """Give segments a label, in place of the one that they had."""
        return self._sent(calls.add_label(label, segments))

    def remove_label(self, label: str, *segments: Stored) -> Removed:
        """Take a label from these segments, or from all that have it."""
        return self._sent(calls.remove_label(label, segments))

    def suggest_labels(self, k: int = 10, *, classifier: str | None = None, where: str | None = None) -> Suggestions:
        """Return segments to label next, the most informative first."""
        return self._sent(calls.suggest_labels(k, classifier, where))

    def _sent(self, call: Call[T]) -> T:
        with _translated(self._http.base_url):
            response = self._http.request(**call.arguments())
        return call.result(response)


class AsyncClient:
    """The same for asyncio. Close it, or use it in ``async with``."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Connect to nothing yet; see `Client`."""
        transport = transport or httpx.AsyncHTTPTransport(retries=RETRIES)
        self._http = httpx.AsyncClient(**_options(url, api_key, timeout_s), transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def query(self, *references: AudioQuery | Reference | Query, **fields: Any) -> QueryResult:
        """Return what `Collection.query` does, see `Client.query`."""
        return await self._sent(lambda: calls.query(Query.of(*references, **fields)))

    async def compare(self, a: AudioQuery, b: AudioQuery) -> Comparison:
        """Return how alike two clips, or two stored recordings or segments, feel."""
        return await self._sent(lambda: calls.compare(a, b))

    async def embed(self, source: AudioQuery) -> Embedding:
        """Return the segments of a clip, or of what is stored, with their vectors."""
        return await self._sent(lambda: calls.embed(source))

    async def classify(self, source: AudioQuery, classifier: str | None = None) -> Classification:
        """Return a classifier's predictions, by default of the one that was trained last."""
        return await self._sent(lambda: calls.classify(source, classifier))

    async def recordings(
        self,
        *,
        where: str | None = None,
        text: str | None = None,
        order: Literal["id", "newest"] = "id",
        limit: int = 100,
        after: str | None = None,
    ) -> RecordingPage:
        """Return a page of recordings; its `next` is `after` of the page that follows."""
        return await self._sent(lambda: calls.recordings(where, text, order, limit, after))

    async def recording(self, name: Stored) -> RecordingSegments:
        """Return one recording with its segments."""
        return await self._sent(lambda: calls.recording(name))

    async def timeline(self, name: Stored) -> Timeline:
        """Return one recording as it is looked at: channels, dynamics, course."""
        return await self._sent(lambda: calls.timeline(name))

    async def segment(self, name: Stored) -> SegmentRecording:
        """Return one segment and its recording."""
        return await self._sent(lambda: calls.segment(name))

    async def filters(self) -> Filters:
        """Return what a filter can name."""
        return await self._sent(calls.filters)

    async def status(self) -> Status:
        """Return what the collection holds, and how its index fares."""
        return await self._sent(calls.status)

    async def labels(self) -> Labels:
        """Return labels, and the classifiers trained on them."""
        return await self._sent(calls.labels)

    async def add_label(self, label: str, *segments: Stored) -> LabelReport:
        """Give segments a label, in place of the one that they had."""
        return await self._sent(lambda: calls.add_label(label, segments))

    async def remove_label(self, label: str, *segments: Stored) -> Removed:
        """Take a label from these segments, or from all that have it."""
        return await self._sent(lambda: calls.remove_label(label, segments))

    async def suggest_labels(
        self, k: int = 10, *, classifier: str | None = None, where: str | None = None
    ) -> Suggestions:
        """Return segments to label next, the most informative first."""
        return await self._sent(lambda: calls.suggest_labels(k, classifier, where))

    async def _sent(self, prepare: Callable[[], Call[T]]) -> T:
        call = await asyncio.to_thread(prepare)  # it may read a file of 50 MB
        with _translated(self._http.base_url):
            response = await self._http.request(**call.arguments())
        return call.result(response)
