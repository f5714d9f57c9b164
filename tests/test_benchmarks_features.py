"""`benchmarks/features.py`: made audio, and trajectories whose amounts of moods do not give away their order."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import _composed
import _trajectory
import features
import retrieval


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> _composed.Corpus:
    return _composed.Corpus.of(retrieval.make(tmp_path_factory.mktemp("made-audio")))


@pytest.mark.slow
def test_quick_runs_on_made_audio(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # no ../shared beside it
    monkeypatch.setattr(features, "QUICK_VOICES", 2)
    arguments = ["--quick", "--encoder", "fake", "--only", "trajectory,named"]
    monkeypatch.setattr(sys, "argv", ["features.py", *arguments, "--json", str(tmp_path / "rows.json")])
    assert features.main() == 0
    shown = capsys.readouterr()
    assert "made (24 clips, 2 voices)" in shown.out
    rows = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert all(set(row) == {"name", "value", "unit", "ratio", "beside"} for row in rows)
    value = {row["name"]: row["value"] for row in rows}
    for way in ("plain query", "equal parts", "trajectory"):
        assert 0 < value[f"made: the same trajectory, 4 of 8 calls, mAP among the same moods: {way}"] <= 1
    assert value["made: log-mel statistics, first 10 of the collection as computed here"] == 1.0
    # the fake encoder has no projection: its own vectors are those that are searched
    assert value["made: the encoder's own vectors, the same emotion, mAP: alone"] == pytest.approx(
        value["made: the encoder's own vectors, the same emotion, mAP: fused 0.5"], abs=0.02
    )


def test_amounts_of_moods_say_nothing_of_their_order(corpus: _composed.Corpus) -> None:
    amounts: dict[str, list[int]] = {order: [] for order in _trajectory.ORDERS}
    for seed in range(40):
        for _, voice, (one, other), order, clips in _trajectory.trajectories(corpus, seed):
            moods = corpus.emotions[clips].tolist()
            runs = [mood for at, mood in enumerate(moods) if at == 0 or moods[at - 1] != mood]
            assert runs == [{"a": one, "b": other}[each] for each in order]
            assert set(corpus.voices[clips]) == {voice}
            assert len(set(clips)) == len(clips) == 6
            amounts[order].append(Counter(moods)[one])
    means = [np.mean(each) for each in amounts.values()]
    assert np.ptp(means) < 0.3
    assert all(set(each) == {2, 3, 4} for each in amounts.values())


def test_average_precision_counts_what_was_not_answered() -> None:
    right = np.array([True, False, True])
    assert _composed.average_precision(right) == pytest.approx((1 + 2 / 3) / 2)
    assert _composed.average_precision(right, 4) == pytest.approx((1 + 2 / 3) / 4)
    assert _composed.average_precision(~np.ones(2, np.bool_)) == 0.0


def test_what_is_compared_is_beside_the_first() -> None:
    rows = list(_composed.compared("of", {"plain": [0.5, 0.5], "more": [1.0, 0.5]}, ["a", "b"]))
    assert [(row.name, row.value, row.ratio) for row in rows] == [("of: plain", 0.5, None), ("of: more", 0.75, 1.5)]
    assert rows[1].beside == "plain, +0.250 (+0.000 to +0.500)"
