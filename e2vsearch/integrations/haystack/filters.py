"""Translation of Haystack's filter grammar into the language of ``--where``.

Where the two disagree Haystack's meaning is kept: ``!=`` and ``not in`` hold for what has no value at all. A field is
named as in a document's ``meta`` (``meta.channel``, ``meta.emotion``), the recording's own metadata as
``meta.metadata.queue`` or just ``meta.queue``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from e2vsearch.errors import BadFilter

_DATE_FIELDS = ("date", "added")
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?")
_NOTHING, _ANYTHING = "segment is null", "segment is not null"  # every segment has an id


def to_where(filters: str | Mapping[str, Any] | None) -> str | None:
    """Return the filter as `Collection.query` takes it; text is one already.

    Example:
        >>> to_where({"field": "meta.queue", "operator": "==", "value": "billing"})
        '`queue` = "billing"'

    Raises:
        BadFilter: no filter in Haystack's grammar, or one that ``--where`` cannot say.
    """
    if filters is None or isinstance(filters, str):
        return filters or None
    return _translated(filters) if filters else None


def _translated(node: Any) -> str:
    if not isinstance(node, Mapping) or "operator" not in node:
        raise BadFilter(f"{node!r} is no Haystack filter: it has an operator, and either conditions or a field")
    return _comparison(node) if "field" in node else _logic(node)


def _logic(node: Mapping[str, Any]) -> str:
    operator, conditions = node["operator"], node.get("conditions")
    if operator not in ("AND", "OR", "NOT"):
        raise BadFilter(f"Haystack filters are joined by AND, OR or NOT, not by {operator!r}")
    if not isinstance(conditions, list) or not conditions:
        raise BadFilter(f"{operator} needs a list of conditions")
    joined = (" or " if operator == "OR" else " and ").join(_translated(each) for each in conditions)
    return f"not ({joined})" if operator == "NOT" else f"({joined})"


def _comparison(node: Mapping[str, Any]) -> str:
    if "value" not in node:
        raise BadFilter(f"the condition on {node['field']!r} has no value")
    operator = node["operator"]
    if operator not in _OPERATORS:
        raise BadFilter(f"there is no Haystack operator {operator!r} - there are {', '.join(_OPERATORS)}")
    return _OPERATORS[operator](_name(node["field"]), node["value"])


def _equal(name: str, value: Any) -> str:
    return f"`{name}` is null" if value is None else f"`{name}` = {_value(name, value)}"


def _unequal(name: str, value: Any) -> str:
    # both words: a missing value compares as unknown, whose negation is unknown as well
    return f"`{name}` is not null" if value is None else f"(not ({_equal(name, value)}) or `{name}` is null)"


def _ordered(symbol: str) -> Callable[[str, Any], str]:
    def compared(name: str, value: Any) -> str:
        if value is None or isinstance(value, list):
            raise BadFilter(f"{name} {symbol} takes a number, a text or a date, not {value!r}")
        return f"`{name}` {symbol} {_value(name, value)}"

    return compared


def _one_of(name: str, values: Any) -> str:
    if not isinstance(values, list):
        raise BadFilter(f"{name} 'in' takes a list, not {values!r}")
    return "(" + (" or ".join(_equal(name, value) for value in values) or _NOTHING) + ")"


def _none_of(name: str, values: Any) -> str:
    if not isinstance(values, list):
        raise BadFilter(f"{name} 'not in' takes a list, not {values!r}")
    return "(" + (" and ".join(_unequal(name, value) for value in values) or _ANYTHING) + ")"


_OPERATORS: dict[str, Callable[[str, Any], str]] = {
    "==": _equal,
    "!=": _unequal,
    ">": _ordered(">"),
    ">=": _ordered(">="),
    "<": _ordered("<"),
    "<=": _ordered("<="),
    "in": _one_of,
    "not in": _none_of,
}


def _name(field: Any) -> str:
    if not isinstance(field, str) or not field:
        raise BadFilter(f"a Haystack filter's field is a name, not {field!r}")
    name = "segment" if field == "id" else field.removeprefix("meta.")
    if name.startswith("metadata."):
        name = f"meta.{name.removeprefix('metadata.')}"  # the recording's own, whatever else is called so
    if "`" in name:
        raise BadFilter(f"no field can be called {name!r}")
    return name


def _value(name: str, value: Any) -> str:
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadFilter(f"{name} is compared with a number, a text or a date, not {value!r}")
    if isinstance(value, str):
        return _text(name, value)
    if not math.isfinite(value):
        raise BadFilter(f"{name} cannot be compared with {value}")
    return repr(value)


def _text(name: str, value: str) -> str:
    if name in _DATE_FIELDS and _DATE.fullmatch(value):
        return value
    return '"' + value.replace('"', '""') + '"'
