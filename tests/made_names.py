"""A collection whose names do not fit anywhere: long ones, Chinese ones, emoji; its URIs are the same each time."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from e2vsearch.catalog import queue
from e2vsearch.catalog.queue import NewJob
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.catalog.text_search import put
from e2vsearch.collection import Collection
from e2vsearch.types import Space

NAMES = (
    "2024-03-11_0042_a-call-about-an-invoice-from-the-billing-queue-in-the-north",
    "客户投诉-北京-二〇二四年三月十一日-非常生气-第二次来电-要求退款",
    "party-🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉-call",
    "x",
)
SAID = (
    "I gave you my number three times! I want my money back, now! This is an outrage! Get me your manager!",
    "我要退款。我已经打了三次电话了。没有人回答我的问题。我要和你们的经理说话。现在就要。不要再让我等了。",
    "🎉 " * 40,
    "no",
)
LABELS = ("quite fed up with all of this, and with the queue", "calm")
CALLS, SEGMENTS, DIM = 24, 3, 16
MOODS = ("angry", "disgusted", "sad")
SPACE = Space("made", "1" * 12, DIM, MOODS, "raw")


def fill(place: Path) -> None:
    """Make the collection, with a table ``labels.csv`` beside it."""
    rng = np.random.default_rng(7)
    rows = [("path", "emotion", "speaker", "text")]
    with Collection.open(place, create=True) as collection:
        catalog = collection.catalog
        catalog.pin(SPACE, "saved")
        for call in range(CALLS):
            mood = call % len(MOODS)
            uri = f"/calls/of/a/folder/deep/down/below/another/{NAMES[call % 4]}-{call}.wav"
            number = catalog.store(recording(call, uri, mood, rng)).id
            rows.append((uri, MOODS[mood], f"s{call % 5}", f"t{call % 2}"))
            first = call * SEGMENTS + 1
            put(catalog, number, {first + at: SAID[(call + at) % 4] for at in range(SEGMENTS)})
        for name, reason in ((NAMES[0], "not-audio"), (NAMES[1], "truncated")):
            uri = f"/calls/{name}.wav"
            catalog.fail(uri, reason, f"{uri} is no audio, whatever its name says: export it as WAV, FLAC or MP3")
        queue.enqueue(catalog, [NewJob(f"/calls/{name}.mp3") for name in NAMES])
        for label, segments in zip(LABELS, (range(1, 37, 4), range(2, 38, 4)), strict=True):
            collection.labels.add(label, *(f"seg:{at}" for at in segments), speaker="a speaker with quite a long name")
        units = np.eye(4, dtype=np.float32)
        collection.named_vectors.attach("vectors-of-words-of-another-model-altogether", [1, 2, 3, 4], units)
        collection.set_policy(
            purpose="find unhappy callers before they leave, in the queues of billing and of repairs, all year round",
            contact="privacy@a-company-with-a-long-name.example",
            retention_days=90,
            audit=True,
        )
        collection.query("seg:1", k=3)
    with (place.parent / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def recording(call: int, uri: str, mood: int, rng: np.random.Generator) -> NewRecording:
    segments = []
    for at in range(SEGMENTS):
        middle = np.zeros(DIM, np.float32)
        middle[mood] = 1.0
        scores = np.full(len(MOODS), 0.05 if at else 0.3, np.float32)  # the first of each is unsure
        scores[mood] = 1.0 - scores.sum() + scores[mood]
        start_s = 3600.0 * (call % 3) + 20.0 * at
        vector = (middle + 0.12 * rng.standard_normal(DIM)).astype(np.float32)
        segments.append(NewSegment(call % 2, start_s, start_s + 14.9, vector, scores, -20.0))
    return NewRecording(
        uri=uri,
        name=NAMES[call % 4],
        content_sha256=f"{call:064d}",
        size_bytes=1,
        mtime_ns=1,
        recorded_at=datetime(2024, 3, 1, tzinfo=UTC) + timedelta(days=call),
        duration_s=9000.0,
        channels=2,
        sampling_rate_hz=16_000,
        format="WAV",
        segments=tuple(segments),
        metadata={"queue": ("billing", "repairs and everything that is like a repair")[call % 2]},
        roles=(None, None) if call % 4 == 3 else ("customer", "customer"),
    )
