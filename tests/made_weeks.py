"""A collection of made calls over weeks, in two queues: what trends are measured of. No audio, random vectors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

import e2vsearch
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.collection import Collection
from e2vsearch.types import Space

DIM = 4
EMOTIONS = ("angry", "calm", "sad")
SPACE = Space("made", "1", DIM, EMOTIONS, "raw")
START = datetime(2024, 12, 30, 8, tzinfo=UTC)
"""A Monday, and the first day of the first ISO week of 2025."""

AGENT_AND_CUSTOMER = ("agent", "customer")


def scores(emotion: str) -> np.ndarray:
    """Probabilities that name an emotion; ``unsure`` is one of no class."""
    if emotion == "unsure":
        return np.array([0.34, 0.33, 0.33], np.float32)
    return np.where(np.array(EMOTIONS) == emotion, 0.8, 0.1).astype(np.float32)


def made_call(
    number: int,
    emotions: Sequence[str],
    *,
    at: datetime = START,
    queue: str | None = None,
    channels: Sequence[int] | None = None,
    roles: tuple[str, ...] | None = None,
    **metadata: str,
) -> NewRecording:
    """A call with one segment of 2 s for each of `emotions`; ``short`` is one of half a second."""
    vectors = np.random.default_rng(number).standard_normal((len(emotions), DIM)).astype(np.float32)
    segments = [
        NewSegment(
            0 if channels is None else channels[nth],
            3.0 * nth,
            3.0 * nth + (0.5 if emotion == "short" else 2.0),
            vectors[nth],
            scores("angry" if emotion == "short" else emotion),
        )
        for nth, emotion in enumerate(emotions)
    ]
    return NewRecording(
        uri=f"/calls/{number}.wav",
        name=f"call{number}",
        content_sha256=f"{number:064d}",
        size_bytes=1,
        mtime_ns=1,
        recorded_at=at,
        duration_s=3.0 * len(emotions),
        channels=2,
        sampling_rate_hz=16_000,
        format="WAV",
        segments=tuple(segments),
        metadata=metadata | ({} if queue is None else {"queue": queue}),
        **({} if roles is None else {"roles": roles}),  # type: ignore[arg-type]
    )


def make(url: str) -> None:
    """Make a collection with the nine calls, in an empty database."""
    with e2vsearch.open(url, create=True) as collection:
        fill(collection)


def fill(collection: Collection) -> Collection:
    """Store nine calls in three weeks; call 9 has no queue, and no segment."""
    collection.catalog.pin(SPACE, "saved")
    week = timedelta(days=7)
    for call in (
        made_call(1, ["angry", "angry", "calm", "unsure"], queue="billing"),
        made_call(2, ["calm", "calm"], queue="billing", at=START + timedelta(days=6, hours=15, minutes=59)),
        made_call(3, ["angry", "short"], queue="sales"),
        made_call(4, ["calm"] * 4, queue="billing", at=START + week),
        made_call(5, ["sad", "angry"], queue="sales", at=START + week),
        made_call(6, ["angry"] * 5, queue="billing", at=START + 2 * week, channels=[0, 1, 0, 1, 1]),
        made_call(7, ["calm", "sad"], queue='the "new" one', at=START + 2 * week),
        made_call(8, ["calm"], at=START + 2 * week),
        made_call(9, [], at=START + 2 * week),
    ):
        collection.catalog.store(call)
    return collection
