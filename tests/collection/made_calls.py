"""Four made calls as files, three of one voice each and one of two, and a collection of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from made import call, save, silence, speech

import e2vsearch
from e2vsearch.collection import Collection

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
