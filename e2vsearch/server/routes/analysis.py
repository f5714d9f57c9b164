"""``/classify`` and ``/trends`` return what analyses find in a clip and in the collection."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request, Response

from e2vsearch.analysis.trends.types import Trends
from e2vsearch.server.parameters import GroupQuery, MapQuery, OfQuery, PeriodQuery, WhereQuery
from e2vsearch.server.responses import json_response, returns
from e2vsearch.server.results import Classification
from e2vsearch.server.schemas import ClassifyRequest, UploadedClassify, fields_of, multipart
from e2vsearch.server.state import ServerState, disconnection, named_in_errors


def router(state: ServerState) -> APIRouter:
    """Return the routes over a collection."""
    routes = APIRouter(tags=["analysis"])
    collection = state.collection

    def classified(source: str | Path, name: str, classifier: str | None) -> Classification:
        with named_in_errors(source, name):
            return Classification(list(collection.labels.classify_audio(source, classifier)))

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
        """Each share of segments with a 95 % interval, which takes recordings as the sample."""

        def work() -> Trends:
            return collection.trends(by=None if by == "none" else by, of=of, group=group, where=where, map=map)

        return json_response(Trends, await state.read(request, work))

    return routes
