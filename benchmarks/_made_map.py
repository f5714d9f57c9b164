"""A collection of made calls with a stored map, without audio and without the layout, which takes minutes."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.maps.types import Association, CentralSegment, Cluster, MapOptions, Proportion
from e2vsearch.catalog import maps as stored
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.collection import Collection
from e2vsearch.types import Space

EMOTIONS = ("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")
SEGMENTS_A_CALL = 100  # of ten minutes: a transaction a call, so that fewer are made sooner
QUEUES = ("billing", "sales", "support", "network", "travel")
SPACE = Space("made", "1", 8, EMOTIONS, "raw")
_START = datetime(2026, 3, 2, 8, tzinfo=UTC)


def fill(folder: Path, points: int, clusters: int = 14) -> None:
    """Make a collection of so many segments with a map of them, in clusters of one main emotion each."""
    rng = np.random.default_rng(3)
    heart = rng.uniform(-0.8, 0.8, (clusters, 2))
    of = np.sort(rng.integers(0, clusters, points))
    rng.shuffle(of)
    spread = rng.uniform(0.05, 0.13, clusters)
    xy = np.clip(heart[of] + rng.standard_normal((points, 2)) * spread[of, None], -1, 1).astype(np.float32)
    main = np.arange(clusters) % len(EMOTIONS)
    with Collection.open(folder, create=True) as collection:
        collection.catalog.pin(SPACE, "saved")
        numbers = np.arange(points)
        for call in range(-(-points // SEGMENTS_A_CALL)):
            part = numbers[call * SEGMENTS_A_CALL : (call + 1) * SEGMENTS_A_CALL]
            collection.catalog.store(_call(call, main[of[part]], rng))
        cluster = np.where(rng.random(points) < 0.06, -1, of).astype(np.int32)
        made = stored.Points(
            numbers + 1, xy[:, 0], xy[:, 1], cluster, np.ones(points, np.float32), np.zeros(points, np.bool_)
        )
        described = [_described(number, heart[number], main[number], cluster) for number in range(clusters)]
        options = {"options": asdict(MapOptions(min_cluster_size=15)), "versions": {}}
        run = stored.StoredMap("map", "segment", None, options, [asdict(each) for each in described], datetime.now(UTC))
        stored.save(collection.catalog, run, made)


def _call(number: int, emotions: NDArray[np.int64], rng: np.random.Generator) -> NewRecording:
    segments = []
    for at, emotion in enumerate(emotions.tolist()):
        scores = rng.dirichlet(np.full(len(EMOTIONS), 0.35)).astype(np.float32) * 0.5
        scores[emotion] += 0.5
        vector = rng.standard_normal(SPACE.dim).astype(np.float32)
        segments.append(NewSegment(at % 2, 6.0 * at, 6.0 * at + float(rng.uniform(0.8, 5.5)), vector, scores))
    return NewRecording(
        uri=f"made/call-{number:05d}.wav",
        name=f"call-{number:05d}",
        content_sha256=f"{number:064x}",
        size_bytes=1,
        mtime_ns=1,
        recorded_at=_START + timedelta(minutes=11 * number),
        duration_s=6.0 * len(segments),
        channels=2,
        sampling_rate_hz=8000,
        format="WAV",
        segments=tuple(segments),
        metadata={"queue": QUEUES[number % len(QUEUES)], "reason": f"reason {number % 40}"},
    )


def _described(number: int, heart: NDArray[np.float64], main: int, cluster: NDArray[np.int32]) -> Cluster:
    size, emotion = int((cluster == number).sum()), EMOTIONS[main]
    first = int(np.flatnonzero(cluster == number)[0]) + 1
    central = CentralSegment(f"seg:{first}", "call:1", "call-00000", 0, 0.0, 2.0, emotion, 0.8, None, 0.99)
    return Cluster(
        number=number,
        name=f"{emotion} · queue={QUEUES[number % len(QUEUES)]}",
        size=size,
        share=size / len(cluster),
        recordings=size // 2,
        x=float(heart[0]),
        y=float(heart[1]),
        emotions=(Proportion(emotion, size, 0.7, 4.0), Proportion("unsure", size // 4, 0.25, 1.0)),
        labels=(),
        metadata=(Association("queue", QUEUES[number % len(QUEUES)], 60, 21.5, 2.8, 0.0001),),
        segments=(central,),
        period="week",
        trend=(),
    )
