"""Four made calls as files, three of one voice each and one of two, and a collection of them, with annotations."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from made import call, save, silence, speech

import e2vsearch
from e2vsearch.catalog import text_search
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.collection import Collection
from e2vsearch.transfer import label_rows as notes

PITCHES_HZ = (90.0, 130.0, 180.0)


def make_calls(folder: Path) -> Path:
    """Three calls of one voice each, several turns long, and one of two voices."""
    for number, pitch in enumerate(PITCHES_HZ):
        turns = [speech(3.0, seed=number * 10 + turn, pitch_hz=pitch) for turn in range(3)]
        save(folder / f"voice{number}.wav", np.concatenate([part for turn in turns for part in (turn, silence(1.5))]))
    save(folder / "pair.flac", call([(0, 0.5, 4.0), (1, 5.0, 9.0), (0, 10.0, 13.0)], 14.0))
    return folder


@contextmanager
def ingested(url: str, calls: Path) -> Iterator[Collection]:
    with e2vsearch.open(url, encoder="fake", create=True) as collection:
        report = collection.ingest(calls)
        assert (report.stored, report.failures) == (4, ())
        yield collection


def annotate(collection: Collection) -> None:
    """Add what people find: transcripts, labels, classifiers, named vectors."""
    catalog = collection.catalog
    text_search.put(catalog, 1, {1: "I want a refund", 2: '我要退款 "now"'})
    when = datetime(2024, 3, 1, 12, 30, tzinfo=UTC)
    vector = np.arange(16, dtype="<f4")
    notes.add_examples(
        catalog,
        [
            notes.Example("hesitant", 1, None, "seg:1", "Kim", when),
            notes.Example("calm", None, vector.tobytes(), "/elsewhere/a.wav@1.0-2.0", None, when),
            notes.Example("hesitant", 3, None, "seg:3", None, when),
            notes.Example("calm", None, (vector + 1).tobytes(), "/elsewhere/a.wav@3.0-4.0", "Lee", when),
        ],
    )
    for version in (1, 2):
        parameters = io.BytesIO()
        np.savez(parameters, weights=np.full((2, 16), version))
        classifier = notes.Classifier(
            "labels", version, ("calm", "hesitant"), parameters.getvalue(), {"accuracy": 0.5, "n": [1]}, 0.25, when
        )
        number, _ = notes.add_classifier(catalog, classifier)
    notes.add_predictions(catalog, number, [notes.Prediction(2, "calm", 0.75), notes.Prediction(4, "hesitant", 0.5)])
    collection.named_vectors.attach("text", [1, 2, 5], np.arange(9).reshape(3, 3))
    collection.named_vectors.attach("screen", [4], np.ones((1, 2)))


def new_recording(number: int, segments: tuple[NewSegment, ...], day: datetime | None = None) -> NewRecording:
    return NewRecording(
        uri=f"/calls/{number}.wav", name=str(number), content_sha256=f"{number:064d}", size_bytes=1, mtime_ns=1,
        recorded_at=day or datetime.now(UTC), duration_s=9.0, channels=1, sampling_rate_hz=16_000, format="WAV PCM_16",
        segments=segments,
    )  # fmt: skip
