"""What goes back: results as JSON, and every error as a status with one line. Knows statuses, nothing of routes."""

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

from e2vsearch import errors
from e2vsearch.errors import E2vsearchError
from e2vsearch.server.executor import ClientGone

CLIENT_GONE = 499
"""nginx's number for a client that did not wait; nobody sees it but the log."""

RETRY_AFTER_S = 2
"""A clip is listened to in well under a second: in two, a full queue has room again."""

_STATUSES: tuple[tuple[type[E2vsearchError] | tuple[type[E2vsearchError], ...], int], ...] = (
    # the first that fits counts, so that a kind stands before the kind it belongs to
    (errors.AudioTooLong, 413),
    (errors.AudioUnreadable, 415),
    ((errors.AudioNotFound, errors.AudioNotAFile, errors.AudioForbidden), 410),  # of a stored recording: its file
    ((errors.AudioError, errors.VectorFileError, errors.BadSignal, errors.TranscriptError), 422),
    (errors.NotStored, 404),
    (errors.PathForbidden, 403),
    ((errors.QueryError, errors.SettingsError), 400),
    (errors.Overloaded, 503),
    (errors.TooSlow, 504),
    # what this collection cannot do as it stands: nothing ingested, saved vectors only, an extra not installed
    ((errors.EncoderError, errors.SpaceMismatch, errors.NoCollection, errors.MissingExtra, errors.AnalysisError), 409),
    ((errors.CatalogError, errors.GenerationError), 503),
)

_MEANINGS = {
    400: "It cannot be answered as asked: the filter, a reference or a number makes no sense.",
    401: "This service has a key, and the request has not, or another one.",
    403: "A path outside the folders that this service reads from; or, without a key, a host or origin not its own.",
    404: "Nothing is stored under that id or name.",
    409: "This collection cannot do that as it stands.",
    410: "The recording is stored, and its file is gone.",
    413: "More bytes, or longer audio, than this service takes.",
    415: "Not audio, or not a form.",
    416: "The recording has no such bytes.",
    422: "A field is missing, unknown or out of range; or audio that is empty, cut off or damaged.",
    503: "Too much is in work: come again after Retry-After seconds.",
    504: "It took longer than a request may.",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong."""

    reason: str  # a short stable word
    message: str  # one line with its cure


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The body of every answer that is no result."""

    error: Problem


class Refused(HTTPException):
    """An answer other than the one that was asked for."""

    def __init__(self, status: int, reason: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, message, headers)
        self.reason = reason


def answer(kind: Any, value: Any, headers: dict[str, str] | None = None) -> Response:
    """A result as JSON."""
    return Response(_adapter(kind).dump_json(value), media_type="application/json", headers=headers)


def refusal(status: int, reason: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error as JSON."""
    body = ErrorBody(Problem(reason, " ".join(message.split())))
    headers = dict(headers or {})
    if status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return Response(_adapter(ErrorBody).dump_json(body), status, headers, "application/json")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Those statuses as OpenAPI's `responses`."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted({401, 403, 503, 504, *statuses}):
        found[status] = {"model": ErrorBody, "description": _MEANINGS[status]}
    found[503]["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return found


def status_of(error: E2vsearchError) -> int:
    """The status that an error means."""
    return next((status for kinds, status in _STATUSES if isinstance(error, kinds)), 500)


def handle_errors(app: FastAPI) -> None:
    """Have `app` answer every error with an `ErrorBody`."""
    handlers: dict[type[Exception], Any] = {
        E2vsearchError: _ours,
        RequestValidationError: _invalid,
        HTTPException: _http,
        SQLAlchemyError: _database,
        RecursionError: _too_deep,
        ClientGone: _gone,
        ClientDisconnect: _gone,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _ours(_: Request, error: E2vsearchError) -> Response:
    return refusal(status_of(error), error.reason, str(error))


async def _invalid(_: Request, error: RequestValidationError) -> Response:
    # what was sent is not repeated: it may be a vector, or not be text at all
    told = [f"{'.'.join(str(part) for part in each['loc'][1:]) or 'body'}: {each['msg']}" for each in error.errors()]
    return refusal(422, "invalid", "; ".join(told[:3]) + (f"; and {len(told) - 3} more" if len(told) > 3 else ""))


async def _http(request: Request, error: HTTPException) -> Response:
    headers = dict(error.headers or {})
    if error.status_code == 405:
        # Starlette names the methods of the first route at that path, and we have a route for each method
        known = [each for router in request.app.state.routers for each in router.routes]
        routes = [each for each in known if each.matches(request.scope)[0] is not Match.NONE]
        headers["Allow"] = ", ".join(sorted({method for each in routes for method in getattr(each, "methods", ())}))
    reason = error.reason if isinstance(error, Refused) else {404: "no-route", 405: "method"}.get(error.status_code)
    return refusal(error.status_code, reason or "http", error.detail, headers)


async def _database(_: Request, error: SQLAlchemyError) -> Response:
    overflown = isinstance(error, StatementError) and isinstance(error.orig, OverflowError)
    if isinstance(error, DataError) or overflown:
        return refusal(400, "bad-filter", "a number is larger than the database can compare with - write a smaller one")
    return refusal(503, "database", "the database does not answer - e2vsearch doctor, on the server, says why")


async def _too_deep(_: Request, __: RecursionError) -> Response:
    return refusal(400, "bad-filter", "the filter is nested too deeply - write it with fewer parentheses")


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
