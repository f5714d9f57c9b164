"""`--where`: text such as ``queue = billing and date >= 2024-03-01``, compiled to a SQL condition.

A name is a column of the catalog (`FIELDS`) or else a key of the recordings' metadata; ``meta.NAME`` is always the
metadata, ``cluster.NAME`` the number of a map's cluster. Every condition is one on segments, so that it can be added to
any query over them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any, NamedTuple

from lark import Token, Transformer, UnexpectedInput, v_args
from lark.exceptions import VisitError
from sqlalchemy import ColumnElement, Float, String, and_, exists, literal, not_, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import Grouping

from e2vsearch.catalog.filter_language import Value, name_of, parser, value_of
from e2vsearch.catalog.schema import (
    ChannelDynamicsRow,
    DynamicsRow,
    LabelExampleRow,
    MapPointRow,
    MapRow,
    MetadataRow,
    RecordingRow,
    SegmentLabelRow,
    SegmentRow,
)
from e2vsearch.errors import BadFilter
from e2vsearch.policy import ROLES, Role

_Condition = ColumnElement[bool]

FIELDS: dict[str, tuple[ColumnElement[Any], type]] = {
    "segment": (SegmentRow.id.expression, int),
    "recording": (SegmentRow.recording_id.expression, int),
    "channel": (SegmentRow.channel.expression, int),
    "start_s": (SegmentRow.start_s.expression, float),
    "end_s": (SegmentRow.end_s.expression, float),
    "duration_s": ((SegmentRow.end_s - SegmentRow.start_s).expression, float),
    "emotion": (SegmentRow.label.expression, str),
    "emotion_score": (SegmentRow.label_score.expression, float),
    "arousal": (SegmentRow.arousal.expression, float),
    "valence": (SegmentRow.valence.expression, float),
    "level_db": (SegmentRow.level_db.expression, float),
}
"""Fields of a segment: name → column and its Python type."""


class RoleOf(ColumnElement[str]):
    """The role of a channel: the element of `RecordingRow.roles` at its number, in each dialect's words."""

    inherit_cache = True
    type = String()
    rows = "segment"  # whose channel it is


class RoleOfDynamics(RoleOf):
    """The same of a row of `ChannelDynamicsRow`."""

    inherit_cache = True
    rows = "channel_dynamics"


@compiles(RoleOf, "sqlite")
def _role_in_sqlite(element: RoleOf, compiler: SQLCompiler, **_: Any) -> str:  # noqa: ARG001
    return f"json_extract(recording.roles, '$[' || {element.rows}.channel || ']')"


@compiles(RoleOf, "postgresql")
def _role_in_postgres(element: RoleOf, compiler: SQLCompiler, **_: Any) -> str:  # noqa: ARG001
    return f"(recording.roles ->> {element.rows}.channel)"


_ROLE = select(RoleOf()).where(RecordingRow.id == SegmentRow.recording_id).correlate(SegmentRow).scalar_subquery()
FIELDS["role"] = (_ROLE, str)  # customer or agent

RECORDING_FIELDS: dict[str, tuple[ColumnElement[Any], type]] = {
    "name": (RecordingRow.name.expression, str),
    "uri": (RecordingRow.uri.expression, str),
    "format": (RecordingRow.format.expression, str),
    "call_s": (RecordingRow.duration_s.expression, float),
    "date": (RecordingRow.recorded_at.expression, datetime),
    "added": (RecordingRow.added_at.expression, datetime),
    "course": (RecordingRow.course.expression, str),
}
"""Fields of a segment's recording: name → column and its Python type."""

DYNAMICS_FIELDS: dict[str, tuple[ColumnElement[Any], Role | None]] = {
    name: (getattr(DynamicsRow, name).expression, None)
    for name in ("talk_share", "silence_share", "longest_silence_s", "overtalk", "interruptions", "turns")
} | {
    f"{role}_{name}": (getattr(ChannelDynamicsRow, name).expression, role)
    for role in ROLES
    for name in ("talk_share", "interruptions", "longest_turn_s")
}
"""Who speaks when in a segment's recording: name → column, a number, and the role of the channel that it is of."""

LABEL_FIELDS: dict[str, type] = {"label": str, "label_score": float}
"""Labels of one's own, of people and classifiers. A person's label has the score 1."""

EMOTION_FIELDS = frozenset({"emotion", "emotion_score", "arousal", "valence", "course", "cluster", *LABEL_FIELDS})
"""Fields that say what somebody's voice expresses."""

CLUSTER = "cluster."
"""Prefix of a map's name: ``cluster.map = 3`` is cluster 3 of the map ``map``, -1 is no cluster."""

_CHAIN = 100
_LARGEST = 2**63  # of SQL's BIGINT
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}


class Filter(NamedTuple):
    """A compiled filter."""

    condition: _Condition  # on `SegmentRow`
    fields: frozenset[str]  # that it names
    keys: frozenset[str]  # of the metadata that it names


def compile_filter(where: str, metadata_keys: frozenset[str]) -> Filter:
    """Compile a filter to a SQL condition on `SegmentRow`.

    Args:
        where: comparisons (``= != < <= > >= in like between is null``) joined by ``and``, ``or``, ``not`` and
            parentheses. Values are numbers, dates, words or quoted text, in which a doubled quote stands for one;
            ``like`` takes ``%`` and ``_``.
        metadata_keys: keys that some recording of the collection has.

    Raises:
        BadFilter: it does not parse, names nothing known, or compares what cannot be compared.
    """
    try:
        tree = parser().parse(where)
    except UnexpectedInput as error:
        token = getattr(error, "token", None)
        ended = token is None or token.type == "$END"
        at = "its end" if ended and not hasattr(error, "char") else repr(where[error.pos_in_stream or 0 :][:20])
        raise BadFilter(
            f"--where {where!r} is invalid at {at} - write e.g. 'queue = billing and date >= 2024-03-01'"
        ) from error
    compiler = _Compiler(metadata_keys)
    try:
        condition: _Condition = compiler.transform(tree)
    except VisitError as error:
        if isinstance(error.orig_exc, BadFilter):
            raise error.orig_exc from None
        if isinstance(error.orig_exc, OverflowError):
            raise BadFilter(f"--where: a number or date is out of range ({error.orig_exc})") from error
        raise
    except RecursionError as error:
        raise BadFilter("--where is nested too deeply - write it with fewer parentheses") from error
    return Filter(condition, frozenset(compiler.names - compiler.keys), frozenset(compiler.keys))


@v_args(inline=True)
class _Compiler(Transformer[Token, Any]):
    def __init__(self, metadata_keys: frozenset[str]) -> None:
        super().__init__()
        self._keys = metadata_keys
        self.names: set[str] = set()
        self.keys: set[str] = set()

    def any(self, *conditions: _Condition) -> _Condition:
        return _joined(or_, conditions)

    def all(self, *conditions: _Condition) -> _Condition:
        return _joined(and_, conditions)

    def negation(self, condition: _Condition) -> _Condition:
        return not_(condition)

    def group(self, condition: _Condition) -> _Condition:
        return condition

    def name(self, token: Token) -> str:
        name = name_of(token)
        self.names.add("cluster" if self._is_cluster(name) else name)
        return name

    def value(self, token: Token) -> Value:
        return value_of(token)

    def _is_cluster(self, name: str) -> bool:
        return name.startswith(CLUSTER) and name not in self._keys

    def comparison(self, name: str, operator: Token, value: Value) -> _Condition:
        symbol = {"==": "=", "<>": "!="}.get(operator, str(operator))
        return self._on(name, value, lambda column, typed: _compare(column, symbol, typed))

    def one_of(self, name: str, *values: Value) -> _Condition:
        equal = [self._on(name, value, lambda column, typed: _compare(column, "=", typed)) for value in values]
        return _joined(or_, equal)

    def none_of(self, name: str, *values: Value) -> _Condition:
        return not_(self.one_of(name, *values))

    def like(self, name: str, value: Value) -> _Condition:
        if not isinstance(value, str):
            raise BadFilter(f"'{name} like' takes quoted text such as \"%refund%\"")
        return self._on(name, value, lambda column, typed: column.ilike(typed))

    def unlike(self, name: str, value: Value) -> _Condition:
        return not_(self.like(name, value))

    def between(self, name: str, low: Value, high: Value) -> _Condition:
        return and_(
            self._on(name, low, lambda column, typed: _compare(column, ">=", typed)),
            self._on(name, high, lambda column, typed: _compare(column, "<=", typed)),
        )

    def missing(self, name: str) -> _Condition:
        return not_(self.present(name))

    def present(self, name: str) -> _Condition:
        if name in FIELDS:
            return FIELDS[name][0].is_not(None)
        if name in RECORDING_FIELDS:
            return _of_recording(RECORDING_FIELDS[name][0].is_not(None))
        if name in DYNAMICS_FIELDS:
            return _of_dynamics(name, lambda column: column.is_not(None))
        if name in LABEL_FIELDS:
            return _of_labels(name, lambda column: column.is_not(None))
        if self._is_cluster(name):
            return _of_map(name, lambda column: column >= 0)
        return _of_metadata(self._key(name), MetadataRow.text.is_not(None))

    def _on(self, name: str, value: Value, condition: Callable[[Any, Any], _Condition]) -> _Condition:
        if name in FIELDS:
            column, type_ = FIELDS[name]
            return condition(column, _typed(name, type_, value))
        if name in RECORDING_FIELDS:
            column, type_ = RECORDING_FIELDS[name]
            return _of_recording(condition(column, _typed(name, type_, value)))
        if name in DYNAMICS_FIELDS:
            typed = _typed(name, float, value)
            return _of_dynamics(name, lambda column: condition(column, typed))
        if name in LABEL_FIELDS:
            typed = _typed(name, LABEL_FIELDS[name], value)
            return _of_labels(name, lambda column: condition(column, typed))
        if self._is_cluster(name):
            number = _typed(name, int, value)
            return _of_map(name, lambda column: condition(column, number))
        key = self._key(name)
        if isinstance(value, float):
            return _of_metadata(key, condition(MetadataRow.number, value))
        if isinstance(value, datetime):  # ISO dates order as text does
            value = value.date().isoformat() if value.time() == datetime.min.time() else value.isoformat()
        return _of_metadata(key, condition(MetadataRow.text, value))

    def _key(self, name: str) -> str:
        key = name.removeprefix("meta.")
        if key in self._keys:
            self.keys.add(key)
            return key
        known = sorted({*FIELDS, *RECORDING_FIELDS, *DYNAMICS_FIELDS, *LABEL_FIELDS, *self._keys})
        near = get_close_matches(key, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise BadFilter(f"--where: nothing here is called {key!r} - {hint}")


def _typed(name: str, type_: type, value: Value) -> Any:
    if type_ is str and not isinstance(value, datetime):
        return value if isinstance(value, str) else f"{value:g}"
    if type_ is datetime:
        if isinstance(value, str) and value.lower() in ("today", "yesterday"):
            midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            return _Day(midnight - timedelta(days=value.lower() == "yesterday"))
        if isinstance(value, datetime):
            instant = (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
            return _Day(instant) if value.tzinfo is None and value.time() == datetime.min.time() else instant
        raise BadFilter(f"{name} is compared with a date such as 2024-03-01, today or 2024-03-01T09:30, not {value!r}")
    if isinstance(value, str) and name in ("recording", "segment"):
        value = value.removeprefix("call:").removeprefix("seg:")
    try:
        typed = type_(value)  # a date is refused by int and float themselves
    except (TypeError, ValueError) as error:
        raise BadFilter(f"{name} is compared with a number, not {value!r}") from error
    if type_ is int and abs(typed) >= _LARGEST:
        raise BadFilter(f"{name} is compared with a number that no database holds: {typed:.3g}")
    return typed


class _Day:
    """A date without a time: "= 2024-03-01" is true for any time of that day."""

    def __init__(self, start: datetime) -> None:
        self.start = start
        self.end = start + timedelta(days=1)


def _compare(column: Any, symbol: str, value: Any) -> _Condition:
    if not isinstance(value, _Day):
        compared: _Condition = _COMPARE[symbol](column, value)
        return compared
    if symbol == "=":
        return and_(column >= value.start, column < value.end)
    if symbol == "!=":
        return or_(column < value.start, column >= value.end)
    symbol, instant = {
        "<": ("<", value.start),
        "<=": ("<", value.end),
        ">": (">=", value.end),
        ">=": (">=", value.start),
    }[symbol]
    return _compare(column, symbol, instant)


class _Parentheses(Grouping[bool]):
    """A condition that SQLAlchemy does not make a part of the chain around it."""

    inherit_cache = True
    operator = None


def _joined(join: Callable[..., _Condition], conditions: Sequence[_Condition]) -> _Condition:
    """Join conditions as a tree: SQLite parses a chain as one that is as deep as it is long, and takes 1,000."""
    while len(conditions) > _CHAIN:
        parts = (conditions[start : start + _CHAIN] for start in range(0, len(conditions), _CHAIN))
        conditions = [_Parentheses(join(*part)) for part in parts]
    return join(*conditions)


def _of_recording(condition: _Condition) -> _Condition:
    return SegmentRow.recording_id.in_(select(RecordingRow.id).where(condition))


def _of_dynamics(name: str, condition: Callable[[Any], _Condition]) -> _Condition:
    column, role = DYNAMICS_FIELDS[name]
    if role is None:
        return SegmentRow.recording_id.in_(select(DynamicsRow.recording_id).where(condition(column)))
    of_role = select(ChannelDynamicsRow.recording_id)
    of_role = of_role.join(RecordingRow, RecordingRow.id == ChannelDynamicsRow.recording_id)
    return SegmentRow.recording_id.in_(of_role.where(RoleOfDynamics() == role, condition(column)))


def _of_metadata(key: str, condition: _Condition) -> _Condition:
    # not a correlated EXISTS, which SQLite looks up for every segment: of 1,000,000, a thousandth took 380 ms, now 0.4
    return SegmentRow.recording_id.in_(select(MetadataRow.recording_id).where(MetadataRow.key == key, condition))


def _of_map(name: str, condition: Callable[[Any], _Condition]) -> _Condition:
    points = select(MapPointRow.item_id).join(MapRow, MapRow.id == MapPointRow.map_id)
    points = points.where(MapRow.name == name.removeprefix(CLUSTER), condition(MapPointRow.cluster))
    return or_(
        SegmentRow.id.in_(points.where(MapRow.by == "segment")),
        SegmentRow.recording_id.in_(points.where(MapRow.by == "recording")),
    )


def _of_labels(name: str, condition: Callable[[Any], _Condition]) -> _Condition:
    """Return a condition on a person's label of the segment or, where there is none, on those of classifiers."""
    of_person = LabelExampleRow.segment_id == SegmentRow.id
    by_person, by_classifier = (
        (LabelExampleRow.label, SegmentLabelRow.label)
        if name == "label"
        else (literal(1.0, Float(53)), SegmentLabelRow.score)
    )
    return or_(
        exists().where(of_person, condition(by_person)),
        and_(
            not_(exists().where(of_person)),
            exists().where(SegmentLabelRow.segment_id == SegmentRow.id, condition(by_classifier)),
        ),
    )
