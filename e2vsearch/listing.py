"""Listings: sequences of results that turn into data frames, Arrow tables and, in a notebook, a table with sound."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, asdict, fields, is_dataclass
from datetime import datetime
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)  # fmt: skip

from e2vsearch.errors import E2vsearchError, missing_extra

if TYPE_CHECKING:
    import pandas
    import pyarrow

T = TypeVar("T")

PLAYED = 20  # rows of a notebook's table that have sound: 15 s of 16 kHz are 640 kB of the page
SHOWN = 50  # rows of a notebook's table


class Listing(Sequence[T], Generic[T]):
    """Results in order, of one dataclass; equal to any list or tuple of the same rows.

    Example:
        >>> from e2vsearch.types import SharedEmotion
        >>> listing = Listing([SharedEmotion("angry", 0.7, 0.5), SharedEmotion("sad", 0.1, 0.2)])
        >>> listing[1:]
        Listing(1 row)
        >>> listing[1:] == [SharedEmotion("sad", 0.1, 0.2)]
        True
        >>> listing.to_dicts()[0]
        {'emotion': 'angry', 'reference': 0.7, 'segment': 0.5}
    """

    def __init__(self, rows: Iterable[T], row_type: type[T] | None = None) -> None:
        """Keep the rows.

        Args:
            rows: instances of one dataclass.
            row_type: that dataclass, for a listing without rows to have its columns; by default that of the first.
        """
        self.rows = tuple(rows)
        self._row_type = row_type

    @property
    def row_type(self) -> type[T] | None:
        """The dataclass of the rows; None where there is no row and none was named."""
        return self._row_type or (type(self.rows[0]) if self.rows else None)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Listing[T]: ...
    def __getitem__(self, index: int | slice) -> T | Listing[T]:
        return Listing(self.rows[index], self.row_type) if isinstance(index, slice) else self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[T]:
        return iter(self.rows)

    def __eq__(self, other: object) -> bool:
        return self.rows == tuple(other) if isinstance(other, Listing | list | tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.rows)

    def __repr__(self) -> str:
        return f"Listing({len(self):,} row{'' if len(self) == 1 else 's'})"

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dictionary of plain values for each row; nested results are dictionaries too."""
        return [asdict(cast(Any, row)) for row in self.rows]

    def to_arrow(self) -> pyarrow.Table:
        """Return an Arrow table, a column for each field, whose types are those of the fields whatever the rows hold.

        Nested results are structs, tuples of them lists, and mappings maps.

        Raises:
            MissingExtra: pyarrow is not installed.
        """
        try:
            import pyarrow
        except ImportError as error:
            raise missing_extra("an Arrow table", "notebook") from error
        columns = {} if self.row_type is None else get_type_hints(self.row_type)
        schema = pyarrow.schema([(name, _arrow_type(hint)) for name, hint in columns.items()])
        return pyarrow.Table.from_pylist([_arrow_value(row) for row in self.rows], schema)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Export the rows by the Arrow PyCapsule interface, which polars, DuckDB and pandas read."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def to_pandas(self) -> pandas.DataFrame:
        """Return a data frame, a column for each field.

        Raises:
            MissingExtra: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise missing_extra("a data frame", "notebook") from error
        columns = [] if self.row_type is None else [each.name for each in _fields(self.row_type)]
        return pandas.DataFrame(self.to_dicts(), columns=columns)

    def _repr_html_(self) -> str:
        shown = self.rows[:SHOWN]
        if not shown:
            return f"<pre>{_escaped(repr(self))}</pre>"
        names = [each.name for each in _fields(shown[0]) if any(_cell(getattr(row, each.name)) for row in shown)]
        playable = all(hasattr(shown[0], name) for name in ("uri", "start_s", "end_s", "channel"))
        head = "".join(f"<th>{_escaped(name)}</th>" for name in ([""] if playable else []) + names)
        lines = []
        for at, row in enumerate(shown):
            sound = [player(row) if at < PLAYED else ""] if playable else []
            cells = sound + [_escaped(_cell(getattr(row, name))) for name in names]
            lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        more = f"<p>… {len(self) - SHOWN:,} more rows</p>" if len(self) > SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{more}"


def _fields(row: Any) -> tuple[Field[Any], ...]:
    """Return the fields of a dataclass or of an instance of one."""
    return fields(row)


def _arrow_type(hint: Any) -> Any:
    """Return the Arrow type of a field's annotation."""
    import pyarrow

    plain = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    plain[datetime] = pyarrow.timestamp("us", tz="UTC")
    parts = [each for each in get_args(hint) if each is not NoneType and each is not ...]
    if hint in plain:
        return plain[hint]
    if is_dataclass(hint):
        return pyarrow.struct([(name, _arrow_type(each)) for name, each in get_type_hints(hint).items()])
    origin = get_origin(hint)
    if origin is Literal:
        return plain[type(parts[0])]
    if origin is tuple and len(parts) == 1:
        return pyarrow.list_(_arrow_type(parts[0]))
    if origin is Mapping:
        return pyarrow.map_(*map(_arrow_type, parts))
    if origin in (Union, UnionType) and len(parts) == 1:  # Arrow's columns may all hold nulls
        return _arrow_type(parts[0])
    raise TypeError(f"there is no Arrow type for {hint}")


def _arrow_value(value: Any) -> Any:
    """Return a value as pyarrow takes it: dataclasses as dictionaries, mappings as pairs."""
    if is_dataclass(value):
        return {each.name: _arrow_value(getattr(value, each.name)) for each in _fields(value)}
    if isinstance(value, Mapping):
        return [(key, _arrow_value(entry)) for key, entry in value.items()]
    return [_arrow_value(each) for each in value] if isinstance(value, tuple) else _text(value)


def _text(value: Any) -> Any:
    """Return text as UTF-8 has it: a file's name may hold bytes that are none, kept as lone surrogates."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value


def _escaped(text: str) -> str:
    from html import escape  # a notebook alone needs its 1 ms

    return escape(_text(text))


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, tuple | Mapping) and not value):
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(entry)}" for key, entry in value.items())
    if isinstance(value, tuple):
        return f"{len(value)} {type(value[0]).__name__}" if is_dataclass(value[0]) else ", ".join(map(_cell, value))
    return type(value).__name__ if is_dataclass(value) else str(value)


def player(row: Any) -> str:
    """Return the segment's sound as an audio element; empty where its file cannot be read."""
    from e2vsearch.audio import cut, encode

    try:
        sound = encode(cut(row.uri, row.start_s, row.end_s, channel=row.channel))
    except E2vsearchError:
        return ""
    return f'<audio controls preload="none" src="data:audio/wav;base64,{base64.b64encode(sound).decode()}"></audio>'
