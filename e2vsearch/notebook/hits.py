"""The hits of a query as a table with a player each, a few facts a hit."""

from __future__ import annotations

from collections.abc import Sequence

from e2vsearch.display import clock, percent
from e2vsearch.listing import PLAYED, SHOWN, player
from e2vsearch.notebook import markup
from e2vsearch.types import Hit


def hit_table(hits: Sequence[Hit], caption: str) -> str:
    """Return the first hits, those of the highest score with their sound.

    Args:
        hits: best first.
        caption: what was searched for, and among what.
    """
    columns: list[tuple[str, list[str]]] = [
        ("", [player(hit) if at < PLAYED else "" for at, hit in enumerate(hits[:SHOWN])]),
        ("score", [f"{hit.score:.4f}" for hit in hits[:SHOWN]]),
        ("nearer than", ["" if hit.percentile is None else f"{percent(hit.percentile)} %" for hit in hits[:SHOWN]]),
        ("call", [markup.text(hit.name) for hit in hits[:SHOWN]]),
        ("of", [markup.text(hit.role or hit.channel) for hit in hits[:SHOWN]]),
        ("at", [f"{clock(hit.start_s)}–{clock(hit.end_s)}" for hit in hits[:SHOWN]]),  # noqa: RUF001
        ("emotion", [markup.emotion(hit.emotion, hit.emotion_score) for hit in hits[:SHOWN]]),
        ("label", [markup.text(hit.label or "") for hit in hits[:SHOWN]]),
        ("said", [markup.text(hit.text or "") for hit in hits[:SHOWN]]),
        ("id", [markup.text(hit.segment) for hit in hits[:SHOWN]]),
    ]
    known = [(heading, cells) for heading, cells in columns if any(cells)]
    more = f"<p>… {len(hits) - SHOWN:,} more hits</p>" if len(hits) > SHOWN else ""
    rows = zip(*(cells for _, cells in known), strict=True)
    return f"<p>{markup.text(caption)}</p>{markup.table([heading for heading, _ in known], rows) if hits else ''}{more}"
