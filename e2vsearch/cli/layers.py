"""The table of `evaluate --layers --projections`: a row for each block and projection, chance in the line above."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from e2vsearch.cli.output import Results, figure

if TYPE_CHECKING:
    from e2vsearch.analysis.evaluation.types import LayerEvaluation, LayerRow

_COLUMNS = {
    "block": "block>",
    "projection": "projection~",
    "map": "mAP>",
    "interval": "95 %>",
    "words": "words>",
    "voice": "voice>",
    "both": "both>",
    "leak": "leak>",
}


def show(found: LayerEvaluation, results: Results) -> None:
    """Print it: a table for people, one object as JSON, one row for each block and projection as CSV."""
    whole = asdict(found)
    results.write_headline(_headline(found))
    rows = whole["rows"] if results.format == "csv" else [whole]
    results.write(rows, _COLUMNS, table=[_line(row) for row in found.rows], whole=whole)


def _headline(found: LayerEvaluation) -> str:
    space, chance = found.space, found.rows[0].map_chance
    emotions = ", ".join(f"{name} {n:,}" for name, n in found.emotions.items())
    of = f"{found.n:,} clips of {found.speakers:,} speakers, {found.texts:,} texts ({emotions})"
    by_chance = (
        "triplets (words, voice, both) .5, leak 1"
        if chance is None
        else f"mAP {chance:.3f}, triplets (words, voice, both) .5, leak 1"
    )
    return f"{space.encoder}@{space.revision[:12]}, {space.dim}-d: {of}; by chance {by_chance}"


def _line(row: LayerRow) -> dict[str, Any]:
    low, high = row.map_interval or (None, None)
    return {
        "block": row.block,
        "projection": row.projection,
        "map": figure(row.map),
        "interval": "" if low is None else f"{low:.3f} to {high:.3f}",
        **{kind: figure(value) for kind, value in row.triplets.items()},
        "leak": figure(row.leak, 2),
    }
