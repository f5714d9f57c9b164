"""Spans for OpenTelemetry: what a query and an ingest spend their time on, in the traces of the program around them.

Only a program that traces has imported OpenTelemetry by then, so nothing is imported here, and where it is not there a
span is one look into a dictionary. Spans hold counts, seconds and kinds of error, and nothing of a recording: no audio,
vector, name, path, filter or word. An error's text may name a file, so that only its kind is kept.

Attributes of `query` follow OpenTelemetry's conventions for databases, 1.45; those that they have not begin with
``e2vsearch.``. A span is of kind internal, as theirs of a database in the same process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from types import ModuleType, TracebackType
from typing import Any, ParamSpec, Protocol, Self, TypeVar

from e2vsearch._version import __version__
from e2vsearch.errors import E2vsearchError

P = ParamSpec("P")
T = TypeVar("T")
Value = int | float | bool | str
"""A count, seconds, a yes or no; text only where it is one of a few words of ours."""

_NAMES = {
    "system": "db.system.name",
    "operation": "db.operation.name",
    "rows": "db.response.returned_rows",
    "error": "error.type",
}


class Span(Protocol):
    """A stretch of work, as a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def note(self, **attributes: Value | None) -> None:
        """Add attributes; those that are None are left out."""

    def fail(self, error: BaseException) -> None:
        """Mark it as failed, by the kind of error."""


def span(name: str, **attributes: Value | None) -> Span:
    """Return a span, to be entered: a child of the one that this thread is in.

    Example:
        >>> with span("query", k=20) as running:
        ...     running.note(rows=3)
    """
    api = sys.modules.get("opentelemetry.trace")
    return _NO_SPAN if api is None else _Recorded(api, name, attributes)


def spanned(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator that makes each call of a function a span."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> T:
            with span(name):
                return function(*args, **kwargs)

        return called

    return decorate


class _NoSpan:
    """What is not traced."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, **attributes: Value | None) -> None:
        pass

    def fail(self, error: BaseException) -> None:
        pass


_NO_SPAN = _NoSpan()


class _Recorded:
    """A span of OpenTelemetry's API."""

    __slots__ = ("_api", "_attributes", "_entered", "_name", "_span")

    def __init__(self, api: ModuleType, name: str, attributes: dict[str, Value | None]) -> None:
        self._api = api
        self._name = name
        self._attributes = attributes

    def __enter__(self) -> Self:
        tracer = self._api.get_tracer("e2vsearch", __version__)
        self._span: Any = tracer.start_span(self._name, attributes=_named(self._attributes))
        # by itself it would keep the error's text and stack, which may name a file
        quiet = {"end_on_exit": False, "record_exception": False, "set_status_on_exception": False}
        self._entered = self._api.use_span(self._span, **quiet)
        self._entered.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object, /) -> None:
        if error is not None:
            self.fail(error)
        self._entered.__exit__(None, None, None)
        self._span.end()

    def note(self, **attributes: Value | None) -> None:
        self._span.set_attributes(_named(attributes))

    def fail(self, error: BaseException) -> None:
        self.note(error=error.reason if isinstance(error, E2vsearchError) else type(error).__name__)
        self._span.set_status(self._api.StatusCode.ERROR)


def _named(attributes: dict[str, Value | None]) -> dict[str, Value]:
    return {_NAMES.get(name, f"e2vsearch.{name}"): value for name, value in attributes.items() if value is not None}
