"""``/labels``, ``/classify``, ``/map``: what people and analyses found in the collection."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request, Response

from e2vsearch.analysis.labels.types import LabelReport
from e2vsearch.audio import AudioSource
from e2vsearch.errors import QueryError
from e2vsearch.server import openapi_examples
from e2vsearch.server.responses import answer, documented
from e2vsearch.server.schemas import (
    Classification,
    ClassifyRequest,
    LabelPath,
    LabelRequest,
    Labels,
    MapPath,
    MapPoints,
    Maps,
    MapView,
    Removed,
    SegmentsQuery,
    UploadedClassify,
    fields_of,
    multipart,
)
from e2vsearch.server.state import ServerState, called, gone


def router(service: ServerState) -> APIRouter:
    """The routes over a service."""
    routes = APIRouter(tags=["findings"])
    collection = service.collection

    def classified(source: AudioSource, name: str, classifier: str | None) -> Classification:
        if isinstance(source, Path):
            with called(source, name):
                return Classification(list(collection.labels.classify_audio(source, classifier)))
        return Classification(list(collection.labels.classify_audio(source, classifier)))

    def classify_stored(asked: ClassifyRequest) -> Classification:
        source = service.reference(asked.reference)
        if not isinstance(source, Path) and not source.startswith(("seg:", "call:")):
            raise QueryError(f"{source} is no recording - name seg:NUMBER, call:NUMBER or a file")
        return classified(source, asked.reference, asked.classifier)

    def view(name: str) -> MapView:

        found = collection.maps.load(name)
        none = int((found.cluster < 0).sum())
        return MapView(
            found.name,
            found.by,
            found.where,
            found.created_at,
            found.options,
            len(found.ids),
            none,
            found.unplaced,
            list(found.clusters),
        )

    def points(name: str) -> MapPoints:

        found = collection.maps.load(name)
        ids: list[int] = found.ids.tolist()
        segments, calls = (ids, None) if found.by == "segment" else (None, ids)
        return MapPoints(segments, calls, found.x.tolist(), found.y.tolist(), found.cluster.tolist())

    @routes.post(
        "/classify",
        summary="What a classifier of one's own makes of a recording or moment",
        response_model=Classification,
        responses={**documented(400, 404, 409, 413, 415, 422), **openapi_examples.of(openapi_examples.CLASSIFICATION)},
    )
    async def classify(asked: ClassifyRequest, request: Request) -> Response:
        """Moment by moment; nothing is stored."""
        return answer(Classification, await service.listen(request, lambda: classify_stored(asked)))

    @routes.post(
        "/classify/upload",
        summary="What a classifier of one's own makes of a clip",
        response_model=Classification,
        responses={**documented(400, 404, 409, 413, 415, 422), **openapi_examples.of(openapi_examples.CLASSIFICATION)},
        openapi_extra=multipart(UploadedClassify, "file"),
    )
    async def classify_upload(request: Request) -> Response:
        """The clip is listened to and thrown away."""
        async with service.uploaded(request, "file") as (turn, form):
            classifier = fields_of(UploadedClassify, form.fields).classifier
            file = form.files["file"]
            made = await turn.run(lambda: classified(file.path, file.name, classifier), gone(request))
            return answer(Classification, made)

    @routes.get(
        "/labels",
        summary="Labels of one's own, and the classifiers trained of them",
        response_model=Labels,
        responses={**documented(), **openapi_examples.of(openapi_examples.LABELS)},
    )
    async def list_labels(request: Request) -> Response:
        """How many examples each has, and how many segments a classifier gave it to."""

        def work() -> Labels:
            return Labels(list(collection.labels.list()), list(collection.labels.classifiers()))

        return answer(Labels, await service.read(request, work))

    @routes.post(
        "/labels",
        summary="Give moments a label of one's own",
        response_model=LabelReport,
        responses={**documented(400, 404, 409, 413, 422), **openapi_examples.of(openapi_examples.LABEL_REPORT)},
    )
    async def add_label(asked: LabelRequest, request: Request) -> Response:
        """A moment has one label: another that it had is replaced, and reported."""

        def work() -> LabelReport:
            return collection.labels.add(asked.label, *asked.segments)

        return answer(LabelReport, await service.read(request, work))

    @routes.delete(
        "/labels/{label}",
        summary="Take a label back",
        response_model=Removed,
        responses={**documented(400, 404, 422), **openapi_examples.of(Removed(1))},
    )
    async def remove_label(label: LabelPath, request: Request, segment: SegmentsQuery = None) -> Response:
        """From the segments that are named, or from all that have it."""

        def work() -> Removed:
            return Removed(collection.labels.remove(label=label, segments=segment or ()))

        return answer(Removed, await service.read(request, work))

    @routes.get(
        "/map",
        summary="The maps that are stored",
        response_model=Maps,
        responses={**documented(409), **openapi_examples.of(openapi_examples.MAPS)},
    )
    async def list_maps(request: Request) -> Response:
        """`e2vsearch map` makes them."""

        def work() -> Maps:

            return Maps(list(collection.maps.list()))

        return answer(Maps, await service.read(request, work))

    @routes.get(
        "/map/{name}",
        summary="A map and its clusters",
        response_model=MapView,
        responses={**documented(404, 409, 422), **openapi_examples.of(openapi_examples.MAP)},
    )
    async def get_map(name: MapPath, request: Request) -> Response:
        """Every cluster with its emotions, over-represented metadata, most central moments and trend."""
        return answer(MapView, await service.read(request, lambda: view(name)))

    @routes.get(
        "/map/{name}/points",
        summary="The points of a map",
        response_model=MapPoints,
        responses={**documented(404, 409, 422), **openapi_examples.of(openapi_examples.MAP_POINTS)},
    )
    async def get_map_points(name: MapPath, request: Request) -> Response:
        """A column each, all of the same length; coordinates are -1 to 1."""
        return answer(MapPoints, await service.read(request, lambda: points(name)))

    return routes
