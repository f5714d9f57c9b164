"""``/labels``, ``/classify``, ``/map`` and ``/trends`` return what people and analyses found in the collection."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request, Response

from e2vsearch.analysis.labels.types import LabelReport
from e2vsearch.analysis.trends.types import Trends
from e2vsearch.server.responses import json_response, returns
from e2vsearch.server.results import Classification, Labels, MapPoints, Maps, MapView, Removed
from e2vsearch.server.schemas import (
    ClassifyRequest,
    GroupQuery,
    LabelPath,
    LabelRequest,
    MapPath,
    MapQuery,
    OfQuery,
    PeriodQuery,
    SegmentsQuery,
    UploadedClassify,
    WhereQuery,
    fields_of,
    multipart,
)
from e2vsearch.server.state import ServerState, disconnection, named_in_errors


def router(state: ServerState) -> APIRouter:
    """Return the routes over a collection."""
    routes = APIRouter(tags=["analysis"])
    collection = state.collection

    def classified(source: str | Path, name: str, classifier: str | None) -> Classification:
        with named_in_errors(source, name):
            return Classification(list(collection.labels.classify_audio(source, classifier)))

    def view(name: str) -> MapView:
        found = collection.maps.load(name)
        counts = len(found.ids), int((found.cluster < 0).sum()), found.unplaced
        request = found.name, found.by, found.where, found.created_at, found.options
        return MapView(*request, *counts, list(found.clusters), list(found.left_out))

    def points(name: str) -> MapPoints:
        found = collection.maps.load(name)
        ids: list[int] = found.ids.tolist()
        segments, calls = (ids, None) if found.by == "segment" else (None, ids)
        return MapPoints(segments, calls, found.x.tolist(), found.y.tolist(), found.cluster.tolist())

    @routes.post(
        "/classify", summary="Classify a recording or segment", **returns(Classification, 400, 404, 409, 413, 415, 422)
    )
    async def classify(body: ClassifyRequest, request: Request) -> Response:
        """Classify each segment with a classifier that was trained here; nothing is stored."""

        def work() -> Classification:
            return classified(state.resolve_audio(body.reference), body.reference, body.classifier)

        return json_response(Classification, await state.embed(request, work))

    @routes.post(
        "/classify/upload",
        summary="Classify a clip",
        **returns(Classification, 400, 404, 409, 413, 415, 422),
        openapi_extra=multipart(UploadedClassify, "file"),
    )
    async def classify_upload(request: Request) -> Response:
        """Embed the clip, classify it, and remove it."""
        async with state.upload(request, "file") as (ticket, form):
            classifier = fields_of(UploadedClassify, form.fields).classifier
            file = form.files["file"]
            made = await ticket.run(lambda: classified(file.path, file.name, classifier), disconnection(request))
            return json_response(Classification, made)

    @routes.get("/labels", summary="Labels, and the classifiers trained on them", **returns(Labels))
    async def list_labels(request: Request) -> Response:
        """How many examples each has, and how many segments a classifier predicts it for."""

        def work() -> Labels:
            return Labels(list(collection.labels.list()), list(collection.labels.classifiers()))

        return json_response(Labels, await state.read(request, work))

    @routes.post("/labels", summary="Label segments", **returns(LabelReport, 400, 404, 409, 413, 422))
    async def add_label(body: LabelRequest, request: Request) -> Response:
        """Replace the label that a segment had, and report it: a segment has one."""

        def work() -> LabelReport:
            return collection.labels.add(body.label, *body.segments)

        return json_response(LabelReport, await state.read(request, work))

    @routes.delete("/labels/{label}", summary="Remove a label", **returns(Removed, 400, 404, 422))
    async def remove_label(label: LabelPath, request: Request, segment: SegmentsQuery = None) -> Response:
        """From these segments, or from all that have it."""

        def work() -> Removed:
            return Removed(collection.labels.remove(label=label, segments=segment or ()))

        return json_response(Removed, await state.read(request, work))

    @routes.get("/map", summary="The maps that are stored", **returns(Maps, 409))
    async def list_maps(request: Request) -> Response:
        """`e2vsearch map` makes them."""

        def work() -> Maps:

            return Maps(list(collection.maps.list()))

        return json_response(Maps, await state.read(request, work))

    @routes.get("/map/{name}", summary="A map and its clusters", **returns(MapView, 404, 409, 422))
    async def get_map(name: MapPath, request: Request) -> Response:
        """Every cluster with its emotions, over-represented metadata, most central segments and trend."""
        return json_response(MapView, await state.read(request, lambda: view(name)))

    @routes.get("/map/{name}/points", summary="The points of a map", **returns(MapPoints, 404, 409, 422))
    async def get_map_points(name: MapPath, request: Request) -> Response:
        """Return a column each, all of the same length; coordinates are -1 to 1."""
        return json_response(MapPoints, await state.read(request, lambda: points(name)))

    @routes.get(
        "/trends",
        summary="Shares of emotions, labels or clusters over time and between groups",
        **returns(Trends, 400, 403, 404, 409, 422),
    )
    async def get_trends(
        request: Request,
        by: PeriodQuery = "week",
        of: OfQuery = "emotion",
        group: GroupQuery = None,
        where: WhereQuery = None,
        map: MapQuery = None,
    ) -> Response:
        """Each share of segments with a 95 % interval, which takes the segments of a recording for alike."""

        def work() -> Trends:
            return collection.trends(by=None if by == "none" else by, of=of, group=group, where=where, map=map)

        return json_response(Trends, await state.read(request, work))

    return routes
