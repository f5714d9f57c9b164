"""JSON of the service becomes the library's own dataclasses again, and its errors the library's errors.

pydantic would do it, and the client needs none of it: results hold numbers, text, dates, and one another. A field that
this version has not is passed over, and one that an older service does not send has its default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from e2vsearch import errors
from e2vsearch.errors import E2vsearchError, QueryError, ServiceError

T = TypeVar("T")

_OWN_REASONS: dict[str, type[E2vsearchError]] = {"invalid": QueryError}
"""Of errors that only the service has; all others are a `ServiceError`."""


def rebuild(kind: type[T], value: Any) -> T:
    """Return the dataclass, or any type that its fields have, that this JSON is of.

    Raises:
        ServiceError: it is no such thing.

    Example:
        >>> from e2vsearch.types import SharedEmotion
        >>> rebuild(SharedEmotion, {"emotion": "sad", "reference": 1, "segment": 0.5})
        SharedEmotion(emotion='sad', reference=1.0, segment=0.5)
    """
    try:
        return cast(T, _rebuilt(kind, value))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        name = getattr(kind, "__name__", kind)
        raise ServiceError(f"the answer is no {name} - is this the address of e2vsearch serve?") from error


def error_of(status: int, body: Any) -> E2vsearchError:
    """Return the library's error for a response that is no result.

    Args:
        status: of HTTP.
        body: its JSON, None where it was not JSON.
    """
    problem = body.get("error") if isinstance(body, dict) else None
    if not isinstance(problem, dict) or not isinstance(problem.get("message"), str):
        return ServiceError(f"HTTP status {status} without a reason - is this the address of e2vsearch serve?")
    reason = str(problem.get("reason"))
    return (_kinds() | _OWN_REASONS).get(reason, ServiceError)(problem["message"])


@cache
def _kinds() -> dict[str, type[E2vsearchError]]:
    found = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, E2vsearchError)]
    return {each.reason: each for each in found}


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _rebuilt(kind: Any, value: Any) -> Any:
    if kind is Any:
        return value
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None:
            return None
        members = [each for each in arguments if each is not NoneType]
        return _rebuilt(members[0], value) if len(members) == 1 else value  # of several, all are plain
    if origin is Literal:
        return value
    if origin is None:
        return _plain(kind, value)
    if issubclass(origin, Mapping):
        keys, values = arguments
        return {_key(keys, key): _rebuilt(values, each) for key, each in value.items()}
    if origin is tuple and arguments[-1] is not Ellipsis:
        return tuple(_rebuilt(each, item) for each, item in zip(arguments, value, strict=True))
    items = [_rebuilt(arguments[0], each) for each in value]
    return tuple(items) if origin in (tuple, Sequence) else items


def _plain(kind: Any, value: Any) -> Any:
    if is_dataclass(kind):
        hints = _hints(cast(type, kind))
        given = {each.name: _rebuilt(hints[each.name], value[each.name]) for each in fields(kind) if each.name in value}
        return kind(**given)  # type: ignore[operator]
    if kind is datetime:
        return datetime.fromisoformat(value)
    if kind is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, kind):
        raise TypeError
    return value


def _key(kind: Any, key: str) -> Any:
    return int(key) if kind is int else key  # JSON has text for keys
