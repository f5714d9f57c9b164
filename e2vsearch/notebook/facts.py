"""A collection and its index as a table."""

from __future__ import annotations

from e2vsearch.display import clock
from e2vsearch.notebook import markup
from e2vsearch.types import IndexStatus, Status


def status_table(status: Status) -> str:
    """Return what a collection holds: the figures that `e2vsearch status` prints."""
    counts = status.counts
    total = max(sum(counts.emotions.values()), 1)
    emotions = (f"{markup.emotion(name)} {n:,} ({n / total:.0%})" for name, n in counts.emotions.items())
    named = [
        ("collection", markup.text(status.place)),
        ("space", markup.text(status.space or "none yet: nothing has been ingested")),
        ("recordings", f"{counts.recordings:,}, {clock(counts.audio_s)} of audio"),
        ("segments", f"{counts.segments:,}, {clock(counts.speech_s)} of speech"),
        ("emotions", ", ".join(emotions)),
        ("with transcript", f"{status.transcribed:,} segments" if status.transcribed else ""),
        ("failed files", f"{counts.failures:,}" if counts.failures else ""),
        ("index", markup.text(_index(status.index)) if status.index else ""),
        ("purpose", markup.text(status.policy.purpose)),
    ]
    return markup.facts((name, value) for name, value in named if value)


def _index(index: IndexStatus) -> str:
    newer = f"{index.tail:,} segments are compared one by one"
    return f"{index.kind}, {index.n:,} segments; {newer}" if index.generation else f"none; {newer}"
