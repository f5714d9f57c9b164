"""Collections to be labelled: made vectors of three feelings in known voices, and two calls that are heard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from made import call, save, silence, speech

import e2vsearch
from e2vsearch.analysis.labels import types
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.collection import Collection
from e2vsearch.types import Space

DIM = 16
FEELINGS = ("calm", "hesitant", "testing the water")
SPACE = Space("saved", "made", DIM, ("low", "high"))
CALLS, A_CALL = 12, 9  # calls of six agents, two each; moments of a call, feelings in turn


def made_call(number: int, moments: int = A_CALL, voice: float = 1.0, feeling: float = 1.0) -> NewRecording:
    """Moments of every feeling in turn, in the voice of agent ``number // 2``."""
    rng = np.random.default_rng(number)
    centres = np.random.default_rng(99).standard_normal((len(FEELINGS), DIM)) * 3 * feeling
    agent = np.random.default_rng(1000 + number // 2).standard_normal(DIM) * voice
    segments = []
    for at in range(moments):
        vector = 1.0 + centres[at % 3] + agent + rng.standard_normal(DIM)
        high = np.float32(0.5 + at / 100)
        scores = np.array([1 - high, high], np.float32)
        segments.append(NewSegment(at % 2, 4.0 * at, 4.0 * at + 3.0, vector.astype(np.float32), scores))
    when = datetime(2024, 1, 1 + number % 28, tzinfo=UTC)
    meta = {"agent": f"agent{number // 2}"}
    about = (f"/calls/{number}.wav", str(number), f"{number:064x}", 1, 1, when, 60.0, 2, 8000, "WAV")
    return NewRecording(*about, tuple(segments), meta)


def make(url: str) -> None:
    with e2vsearch.open(url, create=True) as collection:
        fill(collection)


def fill(collection: Collection, calls: int = CALLS, **how: float) -> Collection:
    collection.catalog.pin(SPACE, "saved")
    for number in range(calls):
        collection.catalog.store(made_call(number, **how))  # type: ignore[arg-type]
    return collection


def feeling(segment: int) -> str:
    """Of a stored segment: they are numbered from 1, a call's together, feelings in turn."""
    return FEELINGS[(segment - 1) % A_CALL % 3]


def give_all(collection: Collection, calls: int = CALLS, of: tuple[str, ...] = FEELINGS) -> None:
    """One example of each feeling from every call."""
    for each in of:
        at = FEELINGS.index(each) + 1
        collection.labels.add(each, *(f"seg:{number * A_CALL + at}" for number in range(calls)))


def train_mood(collection: Collection) -> types.ClassifierReport:
    """A classifier of every feeling, its voices told apart by agent."""
    give_all(collection)
    return collection.labels.train("mood", speaker_keys=["agent"])


@contextmanager
def calls_heard(tmp_path: Path) -> Iterator[Collection]:
    """A call of two voices and a call of one, in ``calls/``, heard by the fake encoder."""
    folder = tmp_path / "calls"
    folder.mkdir()
    save(folder / "pair.wav", call([(0, 0.5, 4.0), (1, 5.0, 9.0)], 10.0))
    save(folder / "one.wav", np.concatenate([speech(3.0, seed=5), silence(1.5), speech(3.0, seed=6)]))
    with e2vsearch.open(tmp_path / "heard", encoder="fake", create=True) as collection:
        assert collection.ingest(folder).stored == 2
        yield collection
