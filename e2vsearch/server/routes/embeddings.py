"""``/v1/embeddings`` and ``/v1/models`` speak OpenAI's protocol: to a gateway the encoder is one more model."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from e2vsearch.audio.sources import BYTES_NAME
from e2vsearch.errors import Cancelled
from e2vsearch.pipeline import clip_vector
from e2vsearch.server.bodies import EMBEDDINGS, check_structure
from e2vsearch.server.executor import stop_requested, too_slow
from e2vsearch.server.openai_api import (
    EmbeddingsRequest,
    Model,
    ModelList,
    VectorList,
    vector_list,
)
from e2vsearch.server.responses import OPENAI_PREFIX, OpenAIErrorBody, RequestError, json_response, returns
from e2vsearch.server.schemas import invalid
from e2vsearch.server.state import ServerState, disconnection, named_in_errors

_SCHEMA = EmbeddingsRequest.model_json_schema()
_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": _SCHEMA}}}}
_MAX_ITEMS = 2000  # commas: one in each data URI, and between fields


def router(state: ServerState) -> APIRouter:
    """Return the routes over a collection."""
    routes = APIRouter(tags=["openai"])
    collection = state.collection

    def encoder_name() -> str:
        return (collection.space or collection.encoder().space).encoder

    def embed(body: bytes) -> VectorList:
        asked = _parsed(body)
        space = collection.space or collection.encoder().space
        if asked.model != space.encoder:
            message = f"there is no model {asked.model!r} here - ask for {space.encoder}"
            raise RequestError(404, "model_not_found", message)
        if asked.dimensions not in (None, space.dim):
            raise RequestError(400, "dimensions", f"{space.encoder} has {space.dim} dimensions - leave it out")
        over = stop_requested()
        vectors = []
        for number, clip in enumerate(asked.clips()):
            if over():
                raise Cancelled
            with named_in_errors(BYTES_NAME, name := f"input {number}"):
                vectors.append(clip_vector(collection.embed(clip), name))
        return vector_list(vectors, space.encoder, asked.encoding_format)

    @routes.post(
        EMBEDDINGS,
        summary="The vectors of clips, as OpenAI's API has them",
        **returns(VectorList, 400, 404, 409, 413, 415, 422, error=OpenAIErrorBody),
        openapi_extra=_BODY,
    )
    async def create_embeddings(request: Request) -> Response:
        """Return one vector for each clip, as the encoder made it: of several segments their mean, weighted by length.

        A clip of several voices, a channel each, has no one vector: send its channels by themselves. Nothing is stored.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise RequestError(415, "not-json", "send application/json with model and input in it")
        until = asyncio.get_running_loop().time() + state.options.timeout_s
        state.embedding.check()
        try:
            async with asyncio.timeout_at(until):
                body = await request.body()
        except TimeoutError as error:
            raise too_slow() from error
        with state.embedding.ticket(until - asyncio.get_running_loop().time()) as ticket:
            return json_response(VectorList, await ticket.run(lambda: embed(body), disconnection(request)))

    @routes.get(
        f"{OPENAI_PREFIX}models",
        summary="The encoder, as OpenAI's API names models",
        **returns(ModelList, 409, error=OpenAIErrorBody),
    )
    async def list_models(request: Request) -> Response:
        """Return the one model that `/v1/embeddings` takes."""
        model = Model(await state.read(request, encoder_name), "model", 0, "e2vsearch")
        return json_response(ModelList, ModelList("list", [model]))

    return routes


def _parsed(body: bytes) -> EmbeddingsRequest:
    """Return the request, parsed in the thread that embeds: 60 MB of base64 would hold up all others."""
    check_structure(body, _MAX_ITEMS)
    try:
        return EmbeddingsRequest.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from error
