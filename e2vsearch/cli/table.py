"""Tables that fit the terminal: a row is a line, numbers and ids stay whole, and names are shortened in their middle.

The width is the terminal's, and 80 columns (or ``COLUMNS``) in a pipe or a file, so that what is printed there is the
same everywhere. Widths are of characters as terminals show them: a Chinese one takes two columns.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from e2vsearch.cli.text import shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Fit = Literal["whole", "middle", "end", "wrap"]
"""How a cell is fitted: not at all, by an ellipsis in its middle or at its end, or on more lines."""

WIDTH = 80
"""Columns of a pipe and of a file."""

_GAP = "  "
_LEAST: Mapping[Fit, int] = {"middle": 10, "end": 8, "wrap": 16}
_MARKS: Mapping[str, Fit] = {"~": "middle", "…": "end", "¶": "wrap"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        heading: above it.
        right: set to the right, as numbers are.
        fit: what becomes of its cells where the table has no room.
        optional: it is left out where it is empty, and before others get less room than they need.
        below: it is no column: what its cell holds stands dim on lines of its own, under the row.
    """

    heading: str = ""
    right: bool = False
    fit: Fit = "whole"
    optional: bool = False
    below: bool = False

    @classmethod
    def of(cls, spec: str | Column) -> Column:
        """Return the column of a heading, whose last character may say more.

        ``score>`` is set to the right; ``recording~`` may be shortened in the middle, ``why…`` at the end, and
        ``found¶`` goes on in the next line. All else stays whole.
        """
        if isinstance(spec, Column):
            return spec
        if spec.endswith(">"):
            return cls(spec[:-1], right=True)
        if spec[-1:] in _MARKS:
            return cls(spec[:-1], fit=_MARKS[spec[-1]])
        return cls(spec)


def columns_of(*, terminal: bool) -> int:
    """Return how wide lines may be: the terminal's width, else `WIDTH`, or what ``COLUMNS`` says."""
    if terminal:
        return shutil.get_terminal_size((WIDTH, 24)).columns
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdigit() and int(columns) else WIDTH


def draw(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str | Column],
    *,
    terminal: bool,
    above: Sequence[Text] = (),
) -> str:
    """Return rows as a table.

    Args:
        rows: names to cells: strings, numbers, None for nothing, or `rich.text.Text` with a style of its own.
        columns: names to headings, as `Column.of` reads them.
        terminal: whether it is for one, which has a width and shows bold, dim and colours.
        above: lines before the table.
    """
    from rich.console import Console

    wanted = {name: Column.of(spec) for name, spec in (columns or {name: name for name in (rows or [{}])[0]}).items()}
    cells = [{name: _text(row.get(name)) for name in wanted} for row in rows]
    width = columns_of(terminal=terminal)
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, force_terminal=terminal, highlight=False, legacy_windows=False)
    empty = {name for name, column in wanted.items() if column.optional and not any(row[name] for row in cells)}
    across = {name: column for name, column in wanted.items() if not column.below and name not in empty}
    table = _Table(across, cells, width)
    under = [name for name, column in wanted.items() if column.below]
    lines = [*above, *table.heading()]
    for row in cells:
        lines += table.lines(row, console)
        lines += [line for name in under if row[name] for line in _below(row[name], wanted[name], width, console)]
    for line in lines:
        line.rstrip()
        console.print(line, soft_wrap=True)
    return buffer.getvalue()


def wrapped(text: str, *, terminal: bool) -> str:
    """Return lines as they fit the width; words stay whole where they can.

    Args:
        text: maybe of several lines, and of others.
        terminal: as `draw` has it.
    """
    from rich.console import Console

    console = Console(file=io.StringIO(), width=columns_of(terminal=terminal))
    found = [part for line in text.splitlines() for part in _text(line).wrap(console, console.width) or [_text("")]]
    return "".join(f"{line.plain.rstrip()}\n" for line in found)


def shortened(text: str, width: int) -> str:
    """Return text that is `width` columns wide at most, with an ellipsis in its middle.

    >>> shortened("2024-03-11_0042_billing_north.wav", 16)
    '2024-03-…rth.wav'
    """
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    tail = (width - 1) // 2
    end = ""
    for char in reversed(text):
        if cell_len(char + end) > tail:
            break
        end = char + end
    return f"{set_cell_size(text, width - 1 - tail).rstrip()}…{end.lstrip()}"


class _Table:
    """Columns of the widths that there is room for."""

    def __init__(self, columns: Mapping[str, Column], rows: Sequence[Mapping[str, Text]], width: int) -> None:
        from rich.cells import cell_len

        self._columns = dict(columns)
        natural = {
            name: max((cell_len(column.heading), *(row[name].cell_len for row in rows)))
            for name, column in columns.items()
        }
        self._widths = _fitted(self._columns, natural, width)

    def heading(self) -> list[Text]:
        """Return the line of headings; none where no column has one."""
        from rich.text import Text

        if not any(column.heading for column in self._columns.values()):
            return []
        row = {name: Text(self._columns[name].heading, style="bold") for name in self._widths}
        return [self._line(row)]

    def lines(self, row: Mapping[str, Text], console: Console) -> list[Text]:
        """Return the lines of a row: one, unless a cell goes on."""
        from rich.text import Text

        parts: dict[str, list[Text]] = {}
        for name, width in self._widths.items():
            cell, fit = row[name], self._columns[name].fit
            if cell.cell_len <= width:
                parts[name] = [cell]
            elif fit == "wrap":
                parts[name] = list(cell.wrap(console, width, overflow="fold"))
            else:
                parts[name] = [_cut(cell, width, fit)]
        height = max(map(len, parts.values()), default=0)
        return [
            self._line({name: of[at] if at < len(of) else Text() for name, of in parts.items()}) for at in range(height)
        ]

    def _line(self, row: Mapping[str, Text]) -> Text:
        from rich.text import Text

        padded = []
        for name, width in self._widths.items():
            cell = row[name].copy()
            blank = max(width - cell.cell_len, 0)
            padded.append(
                Text.assemble(" " * blank, cell) if self._columns[name].right else Text.assemble(cell, " " * blank)
            )
        return Text(_GAP).join(padded)


def _fitted(columns: Mapping[str, Column], natural: Mapping[str, int], width: int) -> dict[str, int]:
    """Return the width of each column that is shown; those that may give way do so from the widest on."""
    widths = dict(natural)
    least = {
        name: min(natural[name], max(_LEAST.get(column.fit, natural[name]), len(column.heading)))
        for name, column in columns.items()
    }
    for name in [name for name, column in columns.items() if column.optional]:
        if _sum(least[each] for each in widths) > width:
            del widths[name]
    over = _sum(widths.values()) - width
    while over > 0:
        most = max((each for each in widths if widths[each] > least[each]), key=lambda each: widths[each], default=None)
        if most is None:  # whole cells alone: wider than the terminal, which is better than half a number
            break
        widths[most] -= 1
        over -= 1
    return widths


def _sum(widths: Iterable[int]) -> int:
    found = list(widths)
    return sum(found) + len(_GAP) * (len(found) - 1)


def _text(value: Any) -> Text:
    """Return a cell, whatever it holds of names and texts of others."""
    from rich.text import Text

    if isinstance(value, Text):
        return value
    return Text("" if value is None else shown(str(value)))


def _cut(cell: Text, width: int, fit: Fit) -> Text:
    """Return a cell with an ellipsis."""
    from rich.text import Text

    if fit == "middle":
        return Text(shortened(cell.plain, width), style=cell.style)
    cut = cell.copy()
    cut.truncate(width, overflow="ellipsis")
    return cut


def _below(cell: Text, column: Column, width: int, console: Console) -> list[Text]:
    """Return the lines of what stands under a row, indented: one with an ellipsis, or all."""
    from rich.text import Text

    indent = Text("   ")
    room = max(width - len(indent), 1)
    lines = cell.wrap(console, room, overflow="fold") if column.fit == "wrap" else [_cut(cell, room, "end")]
    return [indent + Text(line.plain.rstrip(), style="dim") for line in lines]
