"""``/recordings``, ``/segments``, ``/filters`` and ``/status`` return what is stored."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from e2vsearch.analysis.timeline import Timeline
from e2vsearch.catalog import recordings
from e2vsearch.catalog.filters import DYNAMICS_FIELDS, FIELDS, LABEL_FIELDS, RECORDING_FIELDS
from e2vsearch.catalog.near_values import why_nothing
from e2vsearch.server.parameters import (
    AfterQuery,
    LimitQuery,
    OrderQuery,
    RecordingPath,
    SegmentPath,
    TextQuery,
    WhereQuery,
)
from e2vsearch.server.responses import json_response, returns
from e2vsearch.server.results import Filters, RecordingPage, RecordingSegments, SegmentRecording
from e2vsearch.server.state import ServerState
from e2vsearch.types import Status, number_of

_VALUES = 50  # of one metadata key that are offered to pick from


def router(state: ServerState) -> APIRouter:
    """Return the routes over a collection."""
    routes = APIRouter(tags=["recordings"])
    collection = state.collection

    def page(order: str, where: str | None, text: str | None, limit: int, after: str | None) -> RecordingPage:
        after = with_prefix("call", after) if after else None
        emotions = None
        if order == "newest":
            calls = collection.calls(limit + 1, where=where, text=text, after=after)
            found = [each.recording for each in calls]
            emotions = {each.recording.id: each.emotions for each in calls[:limit]}
        else:
            found = recordings.page(collection.catalog, limit + 1, number_of(after or "call:0", "call"), where, text)
        hint = None if found or after else why_nothing(collection.catalog, where, text)
        return RecordingPage(found[:limit], found[limit - 1].id if len(found) > limit else None, emotions, hint)

    def filters() -> Filters:

        names = [*FIELDS, *RECORDING_FIELDS, *DYNAMICS_FIELDS, *LABEL_FIELDS]
        values = recordings.metadata_values(collection.catalog, _VALUES)
        emotions = list(collection.space.labels) if collection.space is not None else []
        labels = [label.name for label in collection.labels.list()]
        return Filters(names, values, emotions, labels, recordings.left_out(collection.catalog))

    @routes.get("/recordings", summary="Recordings, a page at a time", **returns(RecordingPage, 400, 404, 422))
    async def list_recordings(
        request: Request,
        where: WhereQuery = None,
        text: TextQuery = None,
        order: OrderQuery = "id",
        limit: LimitQuery = 100,
        after: AfterQuery = None,
    ) -> Response:
        """In order of their ids, or the newest first; `next` is `after` of the page that follows."""
        return json_response(RecordingPage, await state.read(request, lambda: page(order, where, text, limit, after)))

    @routes.get("/recordings/{id}", summary="One recording with its segments", **returns(RecordingSegments, 404, 422))
    async def get_recording(id: RecordingPath, request: Request) -> Response:
        """Segments are in order of time, channels apart."""
        recording = with_prefix("call", id)

        def work() -> RecordingSegments:
            return RecordingSegments(collection.recordings(recording)[0], list(collection.segments(recording)))

        return json_response(RecordingSegments, await state.read(request, work))

    @routes.get("/recordings/{id}/timeline", summary="One recording as it is looked at", **returns(Timeline, 404, 422))
    async def get_timeline(id: RecordingPath, request: Request) -> Response:
        """Return its channels with their segments, who spoke when, and how it went."""
        recording = with_prefix("call", id)
        return json_response(Timeline, await state.read(request, lambda: collection.timeline(recording)))

    @routes.get("/segments/{id}", summary="One segment and its recording", **returns(SegmentRecording, 404, 422))
    async def get_segment(id: SegmentPath, request: Request) -> Response:
        """Return one stretch of speech in one channel."""

        def work() -> SegmentRecording:
            segment = collection.segments(with_prefix("seg", id))[0]
            return SegmentRecording(segment, collection.recordings(segment.recording)[0])

        return json_response(SegmentRecording, await state.read(request, work))

    @routes.get("/filters", summary="What a filter can name", **returns(Filters))
    async def get_filters(request: Request) -> Response:
        """Return the fields of every collection, and this one's metadata with its most frequent values."""
        return json_response(Filters, await state.read(request, filters))

    @routes.get("/status", summary="What the collection holds, and the state of its index", **returns(Status))
    async def get_status(request: Request) -> Response:
        """Return the same as `e2vsearch status` prints."""
        return json_response(Status, await state.read(request, collection.status))

    return routes


def with_prefix(kind: str, identifier: str) -> str:
    """``"14"`` and ``"seg:14"`` → ``"seg:14"``."""
    return f"{kind}:{identifier.rpartition(':')[2]}"
