"""``/recordings``, ``/segments``, ``/filters``, ``/status``: what is stored, as it is stored."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from e2vsearch.catalog import recordings
from e2vsearch.catalog.filters import FIELDS, LABEL_FIELDS, RECORDING_FIELDS
from e2vsearch.server import openapi_examples
from e2vsearch.server.responses import answer, documented
from e2vsearch.server.schemas import (
    AfterQuery,
    Filters,
    LimitQuery,
    RecordingPage,
    RecordingPath,
    RecordingSegments,
    SegmentPath,
    SegmentRecording,
    WhereQuery,
)
from e2vsearch.server.state import ServerState
from e2vsearch.types import Status, number_of

_VALUES = 50  # of one metadata key that are offered to pick from


def router(service: ServerState) -> APIRouter:
    """The routes over a service."""
    routes = APIRouter(tags=["stored"])
    collection = service.collection

    def page(where: str | None, limit: int, after: str | None) -> RecordingPage:
        number = number_of(named("call", after), "call") if after else 0
        found = recordings.page(collection.catalog, limit + 1, number, where)
        return RecordingPage(found[:limit], found[limit - 1].id if len(found) > limit else None)

    def filters() -> Filters:

        names = [*FIELDS, *RECORDING_FIELDS, *LABEL_FIELDS]
        values = recordings.metadata_values(collection.catalog, _VALUES)
        emotions = list(collection.space.labels) if collection.space is not None else []
        return Filters(names, values, emotions, [label.name for label in collection.labels.list()])

    @routes.get(
        "/recordings",
        summary="Recordings, a page at a time",
        response_model=RecordingPage,
        responses={**documented(400, 422), **openapi_examples.of(openapi_examples.RECORDING_PAGE)},
    )
    async def list_recordings(
        request: Request, where: WhereQuery = None, limit: LimitQuery = 100, after: AfterQuery = None
    ) -> Response:
        """In order of their ids; `next` is `after` of the page that follows."""
        return answer(RecordingPage, await service.read(request, lambda: page(where, limit, after)))

    @routes.get(
        "/recordings/{id}",
        summary="One recording with its segments",
        response_model=RecordingSegments,
        responses={**documented(404, 422), **openapi_examples.of(openapi_examples.RECORDING_SEGMENTS)},
    )
    async def get_recording(id: RecordingPath, request: Request) -> Response:
        """Segments are in order of time, channels apart."""
        call = named("call", id)

        def work() -> RecordingSegments:
            return RecordingSegments(collection.recordings(call)[0], list(collection.segments(call)))

        return answer(RecordingSegments, await service.read(request, work))

    @routes.get(
        "/segments/{id}",
        summary="One segment, and the recording that it is of",
        response_model=SegmentRecording,
        responses={**documented(404, 422), **openapi_examples.of(openapi_examples.SEGMENT_RECORDING)},
    )
    async def get_segment(id: SegmentPath, request: Request) -> Response:
        """A segment is one spoken span of one channel."""

        def work() -> SegmentRecording:
            segment = collection.segments(named("seg", id))[0]
            return SegmentRecording(segment, collection.recordings(segment.recording)[0])

        return answer(SegmentRecording, await service.read(request, work))

    @routes.get(
        "/filters",
        summary="What a filter can name",
        response_model=Filters,
        responses={**documented(), **openapi_examples.of(openapi_examples.FILTERS)},
    )
    async def get_filters(request: Request) -> Response:
        """The fields of every collection, and this one's metadata with its most frequent values."""
        return answer(Filters, await service.read(request, filters))

    @routes.get(
        "/status",
        summary="What the collection is, how much it holds, and how its index fares",
        response_model=Status,
        responses={**documented(), **openapi_examples.of(openapi_examples.STATUS)},
    )
    async def get_status(request: Request) -> Response:
        """The same as `e2vsearch status` prints."""
        return answer(Status, await service.read(request, collection.status))

    return routes


def named(kind: str, identifier: str) -> str:
    """``"14"`` and ``"seg:14"`` → ``"seg:14"``."""
    return f"{kind}:{identifier.rpartition(':')[2]}"
