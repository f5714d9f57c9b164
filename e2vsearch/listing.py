"""Listings: sequences of results that turn into data frames, Arrow tables and, in a notebook, a table with sound.

And how times, percentiles and matches are written for people.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from html import escape
from math import floor
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from e2vsearch.errors import E2vsearchError, missing_extra

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from e2vsearch.types import Match

T = TypeVar("T")
_PLAYED = 20  # rows of a notebook's table that have sound: 15 s of 16 kHz are 640 kB of the page
_SHOWN = 50  # rows of a notebook's table


class Listing(Sequence[T], Generic[T]):
    """Results in order, of one dataclass.

    Example:
        >>> from e2vsearch.types import Failure
        >>> Listing(())[:]
        ()
    """

    def __init__(self, rows: Sequence[T]) -> None:
        self.rows = tuple(rows)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[T]:
        return iter(self.rows)

    def __eq__(self, other: object) -> bool:
        return self.rows == other.rows if isinstance(other, Listing) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} rows)"

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dictionary of plain values for each row; nested results are dictionaries too."""
        return [asdict(row) if is_dataclass(row) and not isinstance(row, type) else {"value": row} for row in self.rows]

    def to_arrow(self) -> pyarrow.Table:
        """Return an Arrow table, a column for each field.

        Raises:
            MissingExtra: pyarrow is not installed.
        """
        try:
            import pyarrow
        except ImportError as error:
            raise missing_extra("an Arrow table", "notebook") from error
        rows = [{name: _entries(value) for name, value in row.items()} for row in self.to_dicts()]
        return pyarrow.Table.from_pylist(rows)

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
        return pandas.DataFrame(self.to_dicts())

    def _repr_html_(self) -> str:
        shown = self.rows[:_SHOWN]
        if not shown or not is_dataclass(shown[0]):
            return f"<pre>{escape(repr(self))}</pre>"
        names = [each.name for each in fields(shown[0]) if any(_cell(getattr(row, each.name)) for row in shown)]
        playable = all(hasattr(shown[0], name) for name in ("uri", "start_s", "end_s", "channel"))
        head = "".join(f"<th>{escape(name)}</th>" for name in ([""] if playable else []) + names)
        lines = []
        for at, row in enumerate(shown):
            sound = [_player(row) if at < _PLAYED else ""] if playable else []
            cells = sound + [escape(_cell(getattr(row, name))) for name in names]
            lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        more = f"<p>… {len(self) - _SHOWN:,} more rows</p>" if len(self) > _SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{more}"


def _entries(value: Any) -> Any:
    """Return a mapping as a list of entries: Arrow would make a struct with one field for every key of any row."""
    return [{"key": key, "value": entry} for key, entry in value.items()] if isinstance(value, Mapping) else value


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, tuple | Mapping) and not value):
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(entry)}" for key, entry in value.items())
    return str(value) if not (is_dataclass(value) or isinstance(value, tuple)) else f"{type(value).__name__}"


def _player(row: Any) -> str:
    """Return the segment's sound as an audio element; empty where its file cannot be read."""
    from e2vsearch.audio import cut, encode

    try:
        sound = encode(cut(row.uri, row.start_s, row.end_s, channel=row.channel))
    except E2vsearchError:
        return ""
    return f'<audio controls preload="none" src="data:audio/wav;base64,{base64.b64encode(sound).decode()}"></audio>'


def clock(seconds: float) -> str:
    """Return a time in a recording as people read it: ``761.2`` → ``12:41.2``; from an hour on ``1:02:03.4``."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    return f"{f'{hours}:' if hours else ''}{minutes:02d}:{tenths / 10:04.1f}"


def percent(percentile: float) -> str:
    """Return a percentile to a tenth, rounded down: it is 100.0 only where no pair that was drawn is as near."""
    return f"{floor(percentile * 10) / 10:.1f}"


def evenly(matches: Sequence[Match], most: int) -> Sequence[Match]:
    """Return `most` matches of an alignment at most, evenly spaced, the first and the last among them."""
    if len(matches) <= most:
        return matches
    return [matches[round(at * (len(matches) - 1) / (most - 1))] for at in range(most)]


def nearest(matches: Sequence[Match], most: int) -> Sequence[Match]:
    """Return `most` matches at most, those of the highest cosine first."""
    return sorted(matches, key=lambda match: -match.cosine)[:most]
