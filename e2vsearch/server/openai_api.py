"""The bodies of OpenAI's embeddings API, with audio in place of text, as gateways for RAG tools send and read them."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from e2vsearch.server.responses import RequestError

MAX_INPUTS = 100
"""Clips of one request."""


_HOW = "send audio as data:audio/wav;base64,..."
_URI = re.compile(r"data:[^,]{0,200};base64,")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,20}://")

_TEXT: dict[str, Any] = {"type": "string", "description": "`data:audio/wav;base64,...`"}
_PART: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {"const": "input_audio"},
        "input_audio": {
            "type": "object",
            "properties": {"data": {"type": "string", "format": "byte"}, "format": {"type": "string"}},
            "required": ["data"],
        },
    },
    "required": ["type", "input_audio"],
}
_CONTENT: dict[str, Any] = {
    "type": "object",
    "properties": {"content": {"type": "array", "items": _PART, "minItems": 1, "maxItems": 1}},
    "required": ["content"],
}
_ITEM: dict[str, Any] = {"anyOf": [_TEXT, _PART, _CONTENT]}
_INPUT: dict[str, Any] = {
    "anyOf": [*_ITEM["anyOf"], {"type": "array", "items": _ITEM, "minItems": 1, "maxItems": MAX_INPUTS}],
    "description": "One clip or several; what a clip's bytes are is told from themselves. Text and URLs are refused.",
}


class EmbeddingsRequest(BaseModel):
    """Clips to embed."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"model": "light", "input": "data:audio/wav;base64,UklGRiQ..."}]},
    )

    model: str = Field(min_length=1, max_length=256, description="The collection's encoder, as `/v1/models` names it.")
    input: Annotated[Any, WithJsonSchema(_INPUT)]
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="`base64`: little-endian float32, as OpenAI's own clients ask for."
    )
    dimensions: int | None = Field(None, description="Only the encoder's own: vectors are not cut.")
    user: str | None = Field(None, max_length=1024, description="Taken, and not used.")

    def clips(self) -> list[bytes]:
        """Return the bytes of each clip.

        Raises:
            RequestError: one of them is no audio in base64: text, tokens, a URL.
        """
        given = self.input if isinstance(self.input, list) else [self.input]
        if not 1 <= len(given) <= MAX_INPUTS:
            raise RequestError(422, "invalid", f"input: {len(given)} clips - send 1 to {MAX_INPUTS} in a request")
        return [_bytes(each, f"input {number}") for number, each in enumerate(given)]


@dataclass(frozen=True, slots=True)
class VectorObject:
    """The vector of one clip."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str  # a string where `encoding_format` is base64


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, of which audio has none."""

    prompt_tokens: int = 0
    total_tokens: int = 0


@dataclass(frozen=True, slots=True)
class VectorList:
    """The vectors of a request, in its order."""

    object: Literal["list"]
    data: list[VectorObject]
    model: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Model:
    """An encoder."""

    id: str
    object: Literal["model"]
    created: int  # OpenAI has a date here; an encoder has a revision, and 0 stands for none
    owned_by: str


@dataclass(frozen=True, slots=True)
class ModelList:
    """The one encoder that a collection is pinned to."""

    object: Literal["list"]
    data: list[Model]


def vector_list(vectors: Sequence[NDArray[np.float32]], model: str, encoding: Literal["float", "base64"]) -> VectorList:
    """Return vectors ``(dim,)`` as OpenAI does."""
    data = [
        VectorObject("embedding", index, _packed(vector) if encoding == "base64" else vector.tolist())
        for index, vector in enumerate(vectors)
    ]
    return VectorList("list", data, model, Usage())


def _packed(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


def _bytes(given: Any, name: str) -> bytes:
    """Return the bytes of one clip: a data URI, a part of a message, or a message of one part."""
    if isinstance(given, dict) and set(given) == {"content"}:
        parts = given["content"]
        if not isinstance(parts, list) or len(parts) != 1:
            raise RequestError(422, "invalid", f"{name}: its content is not one part - a vector is of one clip")
        (given,) = parts
    if isinstance(given, str):
        found = _URI.match(given)
        if found is not None:
            return _decoded(given[found.end() :], name)
        if given.startswith("data:"):
            raise RequestError(422, "invalid", f"{name}: a data URI without ;base64, in it - {_HOW}")
        if _URL.match(given):
            raise RequestError(422, "url", f"{name}: a URL, and none is fetched - {_HOW}")
        raise RequestError(422, "text", f"{name}: text, and this encoder takes speech only - {_HOW}")
    if isinstance(given, dict) and given.get("type") == "input_audio":
        audio = given.get("input_audio")
        data = audio.get("data") if isinstance(audio, dict) else None
        if isinstance(data, str):
            found = _URI.match(data)
            return _decoded(data[found.end() :] if found else data, name)
    kind = "tokens" if isinstance(given, int | list) else "no audio"
    raise RequestError(422, "invalid", f"{name}: {kind} - {_HOW}")


def _decoded(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(422, "invalid", f"{name}: this is not base64 - {_HOW}") from error
