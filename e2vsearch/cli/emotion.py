"""An emotion as a cell of a table: its name, and before it a small bar as long as it is likely, in its colour."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from e2vsearch.cli.text import shown
from e2vsearch.palette import colour_of

if TYPE_CHECKING:
    from rich.text import Text

_CELLS = 5
_HALVES = ("", "▌")


def bar(name: str | None, probability: float | None) -> Text:
    """Return ``███▌  angry``: half a block is a tenth; what is not named has dots. Colour is never alone."""
    from rich.text import Text

    if name is None:
        return Text()
    if probability is None:
        return Text.assemble(("·" * _CELLS, "dim"), f" {shown(name)}")
    halves = round(2 * _CELLS * min(max(probability, 0.0), 1.0))
    blocks = "█" * (halves // 2) + _HALVES[halves % 2]
    return Text.assemble((blocks.ljust(_CELLS, "·"), colour(name)), f" {shown(name)}")


def colour(name: str | None) -> str:
    """Return the colour for the terminal's ground, where it says which it has (``COLORFGBG``); dark otherwise."""
    ground = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    found = colour_of(name)
    return found.light if ground.isdigit() and int(ground) in (7, *range(9, 16)) else found.dark
