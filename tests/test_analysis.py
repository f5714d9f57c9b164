"""The collection that `e2vsearch.open` gives has all its verbs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made import save, silence, speech

import e2vsearch


@pytest.mark.slow
def test_labels_from_example_to_filter(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the 'labels' extra is not installed")
    for number in range(12):  # six low voices and six high ones, three turns each
        turns = [speech(2.0, seed=3 * number + turn, pitch_hz=90 + 5 * number + 60 * (number % 2)) for turn in range(3)]
        save(tmp_path / f"{number:02d}.wav", np.concatenate([part for turn in turns for part in (turn, silence(1.0))]))
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        collection.ingest(tmp_path, workers=1)
        for number in range(8):
            (call,) = collection.recordings(str(tmp_path / f"{number:02d}.wav"))
            assert collection.labels.add("high" if number % 2 else "low", call.id).added
        report = collection.labels.train("pitch", labels=["low", "high"], seed=1)
        assert report.labels == ("high", "low") or report.labels == ("low", "high")
        done = collection.labels.classify("pitch", min_score=0.0)
        assert done.scored == collection.status().counts.segments
        for word in ("low", "high"):
            assert len(collection.query(f"label:{word}", by="segment", where=f"label = {word}", k=100)) >= 3
        assert len(collection.labels.suggest(3, "pitch")) == 3
