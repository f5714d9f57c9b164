"""Results go back as JSON, and every error as a status with one line."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter
from sqlalchemy.exc import DataError, SQLAlchemyError, StatementError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from e2vsearch import errors
from e2vsearch.errors import E2vsearchError
from e2vsearch.server.executor import ClientDisconnected
from e2vsearch.server.openapi_examples import example_of

OPENAI_PREFIX = "/v1/"
"""Of the routes that speak OpenAI's protocol, errors included."""

CLIENT_DISCONNECTED = 499
"""nginx's number for a client that did not wait; only the log shows it."""

RETRY_AFTER_S = 2
"""A clip is embedded in well under a second: in two, a full queue has room again."""

_STATUSES: tuple[tuple[type[E2vsearchError] | tuple[type[E2vsearchError], ...], int], ...] = (
    # the first that fits counts, so that a kind stands before the kind it belongs to
    (errors.AudioTooLong, 413),
    (errors.AudioUnreachable, 503),
    (errors.AudioUnreadable, 415),
    ((errors.AudioNotFound, errors.AudioNotAFile, errors.AudioForbidden), 410),  # of a stored recording: its file
    ((errors.AudioError, errors.VectorFileError, errors.BadSignal, errors.TranscriptError), 422),
    (errors.NotStored, 404),
    ((errors.PathForbidden, errors.UnlawfulUse), 403),
    ((errors.QueryError, errors.SettingsError), 400),
    (errors.Overloaded, 503),
    (errors.TooSlow, 504),
    # what this collection cannot do as it stands: nothing ingested, saved vectors only, an extra not installed
    ((errors.EncoderError, errors.SpaceMismatch, errors.NoCollection, errors.MissingExtra, errors.AnalysisError), 409),
    ((errors.CatalogError, errors.GenerationError, errors.EngineError), 503),
)

_NAME_LENGTH = 100

_MEANINGS = {
    400: "The filter, a reference or a number makes no sense, or the form cannot be read.",
    401: "This service has a key, and the request has not, or another one.",
    403: "A path outside the folders that this service reads from; emotion by employee (EU AI Act, Art. 5(1)(f)); or, "
    "without a key, a host or origin not its own.",
    404: "Nothing is stored under that id or name.",
    409: "This collection cannot do that as it stands.",
    408: "The body came in too slowly.",
    410: "The recording is stored, and its file is gone.",
    413: "More bytes, or longer audio, than this service takes.",
    415: "Not audio, or not a form.",
    416: "The recording has no such bytes.",
    422: "A field is missing, unknown or out of range; or audio that is empty, cut off or damaged.",
    503: "Too much is in work, or a store of recordings does not answer: come again after Retry-After seconds.",
    504: "It took longer than a request may.",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong."""

    reason: str  # a short stable word
    message: str  # one line with its cure


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The body of every response that is no result."""

    error: Problem


@dataclass(frozen=True, slots=True)
class OpenAIProblem:
    """What went wrong, in OpenAI's words."""

    message: str  # one line with its cure
    type: str  # "invalid_request_error" of what the client can mend, else "server_error"
    param: str | None
    code: str  # a short stable word, the `reason` of other routes


@dataclass(frozen=True, slots=True)
class OpenAIErrorBody:
    """The body of every response below ``/v1/`` that is no result."""

    error: OpenAIProblem


class RequestError(HTTPException):
    """A request that gets a status and one line in place of its result."""

    def __init__(self, status: int, reason: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, message, headers)
        self.reason = reason


def json_response(kind: Any, value: Any, headers: dict[str, str] | None = None, status: int = 200) -> Response:
    """Return a result as JSON."""
    return Response(_adapter(kind).dump_json(value), status, media_type="application/json", headers=headers)


class _ErrorResponse(Response):
    """An error in the shape of the route's protocol, whichever middleware or handler refuses."""

    def __init__(self, status: int, problem: Problem, headers: dict[str, str]) -> None:
        super().__init__(_adapter(ErrorBody).dump_json(ErrorBody(problem)), status, headers, "application/json")
        self._problem = problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(OPENAI_PREFIX):
            kind = "invalid_request_error" if self.status_code < 500 else "server_error"
            found = OpenAIErrorBody(OpenAIProblem(self._problem.message, kind, None, self._problem.reason))
            self.body = _adapter(OpenAIErrorBody).dump_json(found)
            self.headers["content-length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


def error_response(status: int, reason: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error as JSON."""
    headers = dict(headers or {})
    if status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return _ErrorResponse(status, Problem(reason, " ".join(message.split())), headers)


def returns(kind: Any, *statuses: int, status: int = 200, error: Any = ErrorBody) -> dict[str, Any]:
    """Return the arguments of a route that describe a result, with an example, its status, and these errors."""
    example = _adapter(kind).dump_python(example_of(kind), mode="json")
    shown = {status: {"content": {"application/json": {"example": example}}}}
    return {"response_model": kind, "status_code": status, "responses": {**errors_of(*statuses, error=error), **shown}}


def errors_of(*statuses: int, error: Any = ErrorBody) -> dict[int | str, dict[str, Any]]:
    """Return these statuses, and those that every route has, as OpenAPI's `responses`."""
    found: dict[int | str, dict[str, Any]] = {}
    # the model once for each route: FastAPI makes a validator of each, which were half of a service's start
    schema = {"application/json": {"schema": {"$ref": f"#/components/schemas/{error.__name__}"}}}
    of_bodies = {408} if 413 in statuses else set()
    for status in sorted({401, 403, 503, 504, *of_bodies, *statuses}):
        found[status] = {
            "description": _MEANINGS[status],
            **({"model": error} if status == 401 else {"content": schema}),
        }
    found[503]["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return found


def status_of(error: E2vsearchError) -> int:
    """Return the status of an error."""
    return next((status for kinds, status in _STATUSES if isinstance(error, kinds)), 500)


def handle_errors(app: FastAPI) -> None:
    """Add handlers to an application that turn every error into an `ErrorBody`."""
    handlers: dict[type[Exception], Any] = {
        E2vsearchError: _known,
        RequestValidationError: _invalid,
        HTTPException: _http,
        SQLAlchemyError: _database,
        RecursionError: _too_deep,
        ClientDisconnected: _disconnected,
        ClientDisconnect: _disconnected,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _known(_: Request, error: E2vsearchError) -> Response:
    return error_response(status_of(error), error.reason, str(error))


async def _invalid(_: Request, error: RequestValidationError) -> Response:
    # the input is not repeated: it may be a vector, or not be text at all; a field's name is the client's too
    found = error.errors()
    problems = [
        f"{'.'.join(str(part)[:_NAME_LENGTH] for part in each['loc'][1:]) or 'body'}: {each['msg']}"
        for each in found[:3]
    ]
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return error_response(422, "invalid", "; ".join(problems) + more)


async def _http(request: Request, error: HTTPException) -> Response:
    headers = dict(error.headers or {})
    if error.status_code == 405:
        # Starlette names the methods of the first route at that path, and we have a route for each method
        known = [each for router in request.app.state.routers for each in router.routes]
        routes = [each for each in known if each.matches(request.scope)[0] is not Match.NONE]
        headers["Allow"] = ", ".join(sorted({method for each in routes for method in getattr(each, "methods", ())}))
    reason = (
        error.reason if isinstance(error, RequestError) else {404: "no-route", 405: "method"}.get(error.status_code)
    )
    return error_response(error.status_code, reason or "http", error.detail, headers)


async def _database(_: Request, error: SQLAlchemyError) -> Response:
    overflown = isinstance(error, StatementError) and isinstance(error.orig, OverflowError)
    if isinstance(error, DataError) or overflown:
        message = "a number is larger than the database can compare with - write a smaller one"
        return error_response(400, "bad-filter", message)
    return error_response(503, "database", "the database does not answer - e2vsearch doctor, on the server, says why")


async def _too_deep(_: Request, __: RecursionError) -> Response:
    return error_response(400, "bad-filter", "the filter is nested too deeply - write it with fewer parentheses")


async def _disconnected(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_DISCONNECTED)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
