"""``/labels`` lists, gives, takes back and suggests labels, trains classifiers on them, and applies these."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from e2vsearch.analysis.labels.train import FEW_EXAMPLES, FEW_GROUPS, LEAST_EXAMPLES
from e2vsearch.analysis.labels.types import Classified, ClassifierReport, LabelReport
from e2vsearch.errors import Cancelled
from e2vsearch.server.executor import stop_requested
from e2vsearch.server.parameters import ClassifierQuery, LabelPath, SegmentsQuery, SegmentWhereQuery, SuggestionsQuery
from e2vsearch.server.responses import json_response, returns
from e2vsearch.server.results import LabelNeeds, Labels, Removed, Suggestions
from e2vsearch.server.schemas import ApplyRequest, LabelRequest, TrainRequest
from e2vsearch.server.state import ServerState

_NEEDS = LabelNeeds(LEAST_EXAMPLES, FEW_EXAMPLES, FEW_GROUPS)


def router(state: ServerState) -> APIRouter:
    """Return the routes over a collection."""
    routes = APIRouter(prefix="/labels", tags=["analysis"])
    collection = state.collection

    @routes.get("", summary="Labels, and the classifiers trained on them", **returns(Labels))
    async def list_labels(request: Request) -> Response:
        """How many examples each has, and how many segments a classifier predicts it for."""

        def work() -> Labels:
            return Labels(list(collection.labels.list()), list(collection.labels.classifiers()), _NEEDS)

        return json_response(Labels, await state.read(request, work))

    @routes.post("", summary="Label segments", **returns(LabelReport, 400, 404, 409, 413, 422))
    async def add_label(body: LabelRequest, request: Request) -> Response:
        """Replace the label that a segment had, and report it: a segment has one."""

        def work() -> LabelReport:
            return collection.labels.add(body.label, *body.segments)

        return json_response(LabelReport, await state.read(request, work))

    @routes.delete("/{label}", summary="Remove a label", **returns(Removed, 400, 404, 422))
    async def remove_label(label: LabelPath, request: Request, segment: SegmentsQuery = None) -> Response:
        """From these segments, or from all that have it."""

        def work() -> Removed:
            return Removed(collection.labels.remove(label=label, segments=segment or ()))

        return json_response(Removed, await state.read(request, work))

    @routes.get("/suggestions", summary="Segments to label next", **returns(Suggestions, 400, 404, 409, 422))
    async def list_suggestions(
        request: Request, k: SuggestionsQuery = 10, classifier: ClassifierQuery = None, where: SegmentWhereQuery = None
    ) -> Response:
        """Return the most informative first, each with why; none that is labelled."""

        def work() -> Suggestions:
            return Suggestions(list(collection.labels.suggest(k, classifier, where)))

        return json_response(Suggestions, await state.embed(request, work))

    @routes.post("/train", summary="Train a classifier", **returns(ClassifierReport, 400, 404, 409, 413, 422))
    async def train_classifier(body: TrainRequest, request: Request) -> Response:
        """On every example, as the next version of its name; the figures are cross-validated over recordings."""

        def work() -> ClassifierReport:
            return collection.labels.train(
                body.classifier, labels=body.labels, speaker_keys=body.speaker_keys, seed=body.seed
            )

        return json_response(ClassifierReport, await state.embed(request, work))

    @routes.post("/classify", summary="Classify the collection", **returns(Classified, 400, 403, 404, 409, 413, 422))
    async def classify_collection(body: ApplyRequest, request: Request) -> Response:
        """Store what the classifier predicts, in place of what its versions predicted before.

        Labels that people gave stay. Where the time of a request is not enough, nothing is stored.
        """

        def work() -> Classified:
            over = stop_requested()

            def check(_: int, __: int) -> None:
                if over():
                    raise Cancelled

            return collection.labels.classify(body.classifier, body.where, min_score=body.min_score, progress=check)

        return json_response(Classified, await state.embed(request, work))

    return routes
