"""An emotion as a cell of a table: its name, and before it a small bar as long as it is likely, in its colour."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from e2vsearch.cli.text import shown

if TYPE_CHECKING:
    from rich.text import Text

_CELLS = 5
_HALVES = ("", "▌")

_COLOURS: Mapping[str, tuple[str, str]] = {
    "angry": ("#b3200f", "#d53d2b"),
    "disgusted": ("#6c9a52", "#a0cf81"),
    "fearful": ("#9a74d6", "#9965f9"),
    "happy": ("#b38c00", "#f4d659"),
    "sad": ("#2340c8", "#b3bdfd"),
    "surprised": ("#8a1673", "#b03ba8"),
    "neutral": ("#7d8590", "#98a1ac"),
    "other": ("#8a6d4f", "#bd9c78"),
}
"""On light and on dark ground."""


def bar(name: str | None, probability: float | None) -> Text:
    """Return ``███▌  angry``: half a block is a tenth; what is not named has dots. Colour is never alone."""
    from rich.text import Text

    if name is None:
        return Text()
    if probability is None:
        return Text.assemble(("·" * _CELLS, "dim"), f" {shown(name)}")
    halves = round(2 * _CELLS * min(max(probability, 0.0), 1.0))
    blocks = "█" * (halves // 2) + _HALVES[halves % 2]
    return Text.assemble((blocks.ljust(_CELLS, "·"), _colour(name)), f" {shown(name)}")


def _colour(name: str) -> str:
    """Return the colour for the terminal's ground, where it says which it has (``COLORFGBG``); dark otherwise."""
    ground = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    light, dark = _COLOURS.get(name, ("default", "default"))
    return light if ground.isdigit() and int(ground) in (7, *range(9, 16)) else dark
