"""Sixty made calls of three moods in 16-d: even thirds in the first four weeks, then mostly sad."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from e2vsearch.analysis.maps.types import MapOptions
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.collection import Collection
from e2vsearch.types import Space

DIM, CALLS, SEGMENTS = 16, 60, 3
MOODS = ("angry", "calm", "sad")
SPACE = Space("made", "1", DIM, MOODS, "raw")
START = datetime(2024, 3, 1, tzinfo=UTC)
EVIL = "<script>alert(1)</script>"
OPTIONS = MapOptions(min_cluster_size=12)


def mood_of(call: int) -> int:
    """Even thirds in the first four weeks, then mostly sad."""
    return call % 3 if call < 36 else (2 if call % 8 else 0)


def vector(mood: int, rng: np.random.Generator, spread: float = 0.12) -> np.ndarray:
    middle = np.zeros(DIM, np.float32)
    middle[mood] = 1.0
    return (middle + spread * rng.standard_normal(DIM)).astype(np.float32)


def recording(call: int, folder: Path, vectors: list[np.ndarray], mood: int) -> NewRecording:
    name = EVIL if call == 0 else f"call{call}"
    scores = np.full(len(MOODS), 0.1, np.float32)
    scores[mood % len(MOODS)] = 0.8
    segments = [NewSegment(0, 1.5 * at, 1.5 * at + 1.2, each, scores) for at, each in enumerate(vectors)]
    return NewRecording(
        uri=str(folder / f"{call}.wav"),
        name=name,
        content_sha256=f"{call:064d}",
        size_bytes=1,
        mtime_ns=1,
        recorded_at=START + timedelta(days=28 * call / 36 if call < 36 else 28 + 7 * (call - 36) / 24),
        duration_s=5.0,
        channels=1,
        sampling_rate_hz=16_000,
        format="WAV",
        segments=tuple(segments),
        metadata={"queue": ("billing", "sales", "support")[mood] if call % 5 else "other", "ticket": f"T{call}"},
    )


def filled(folder: Path) -> Collection:
    collection = Collection.open(folder, create=True)
    collection.catalog.pin(SPACE, "saved")
    rng = np.random.default_rng(5)
    for call in range(CALLS):
        vectors = [vector(mood_of(call), rng) for _ in range(SEGMENTS)]
        collection.catalog.store(recording(call, folder, vectors, mood_of(call)))
    return collection
