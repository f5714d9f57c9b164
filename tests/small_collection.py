"""A small collection of made calls, for what only asks one: four voices, metadata, a transcript, the fake encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from made import save, silence, speech

import e2vsearch
from e2vsearch.catalog.text_search import put

PITCHES_HZ = {"anna": 90.0, "bela": 120.0, "cora": 150.0, "dora": 190.0}
SAID = "I want my refund, now"


def make_collection(folder: Path) -> Path:
    """Four calls of one voice each, three turns long, ingested into the folder that comes back.

    Their audio is in ``calls/`` beside it. Every turn of ``bela`` says `SAID`; ``anna`` has no queue.
    """
    calls = folder / "calls"
    calls.mkdir()
    rows = ["file,product,queue,wait"]
    for number, (name, pitch) in enumerate(PITCHES_HZ.items()):
        turns = [speech(2.0, seed=number * 10 + turn, pitch_hz=pitch) for turn in range(3)]
        save(calls / f"{name}.wav", np.concatenate([part for turn in turns for part in (turn, silence(1.5))]))
        rows.append(f"{name}.wav,{name},{'' if name == 'anna' else 'billing'},{number * 5}")
    meta = folder / "calls.csv"
    meta.write_text("\n".join(rows) + "\n", encoding="utf-8")
    place = folder / "index"
    with e2vsearch.open(place, encoder="fake", create=True) as collection:
        report = collection.ingest(calls, meta=meta, workers=1)  # in order of their names
        assert (report.stored, report.failures) == (len(PITCHES_HZ), ())
        (bela,) = collection.recordings(str(calls / "bela.wav"))
        numbers = collection.catalog.segments_of([int(bela.id.removeprefix("call:"))])[0].tolist()
        put(collection.catalog, int(bela.id.removeprefix("call:")), dict.fromkeys(numbers, SAID))
    return place
