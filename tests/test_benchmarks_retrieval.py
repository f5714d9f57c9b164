"""`benchmarks/retrieval.py --all`: made audio, votes, voices held out, and embeddings that are made once."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from e2vsearch.analysis.evaluation import labels_table
from e2vsearch.encoders.base import Embeddings
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.errors import SettingsError

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import _yardstick
import retrieval


class Counting(FakeEncoder):
    """Counts what it encodes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        self.calls += len(signals)
        return super()._encode(signals)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return retrieval.make(tmp_path_factory.mktemp("made-audio"))


def table(voices: int, each: int) -> labels_table.LabelTable:
    rows = tuple(
        labels_table.Labelled(line, f"{voice}-{line}.wav", "anger", f"v{voice:02}", "t")
        for voice in range(voices)
        for line in range(each)
    )
    return labels_table.LabelTable(Path(), rows, ())


@pytest.mark.slow
def test_quick_runs_on_made_audio(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # no ../shared beside it
    arguments = ["retrieval.py", "--all", "--quick", "--encoder", "fake", "--json", str(tmp_path / "rows.json")]
    monkeypatch.setattr(sys, "argv", arguments)
    assert retrieval.main() == 0
    shown = capsys.readouterr()
    names = [line[2:].split("  ")[0] for line in shown.out.splitlines()[2:]]
    assert names[:5] == [
        "made",
        "made telephone",
        "made one mood per voice",
        "made fitted on 8 of 10 angry",
        "made fitted on all angry",
    ]
    assert names[5] == "mean of 5 rows"
    assert names[6].startswith("worst of default - raw: made")
    assert "made: voice read by a linear probe" in names
    assert "made fitted on 8 of 10 neutral is left out: no item is labelled neutral" in shown.err
    rows = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert all(set(row) == {"name", "value", "unit", "ratio", "beside"} for row in rows)
    assert [row["name"] for row in rows[:3]] == ["made", "made: raw", "made: default - raw"]
    assert (rows[0]["ratio"], rows[2]["value"]) == (1.0, 0.0)  # nothing ships with the encoder


def test_light_is_not_asked_about_what_it_has_heard(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], made: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["retrieval.py", "--all", "--quick", "--audio", str(made)])
    monkeypatch.setattr(retrieval.registry, "open", lambda name: light())  # type: ignore[attr-defined]
    assert retrieval.main() == 0
    err = capsys.readouterr().err
    assert "light as it ships has heard both corpora" in err
    assert "rows of cremad are left out: light has heard CREMA-D" in err


def light() -> FakeEncoder:
    encoder = FakeEncoder()
    encoder.space = replace(encoder.space, encoder="light")
    return encoder


def test_clips_are_encoded_once_for_each_condition(made: Path, tmp_path: Path) -> None:
    rows = labels_table.read(made / "labels.csv")
    some = replace(rows, rows=rows.rows[:6])
    encoder = Counting()
    vectors = _yardstick.Vectors(encoder, tmp_path)
    first = vectors.of("made", some, ("clean",))[1]
    assert encoder.calls == 6
    vectors.of("made", some, ("clean",))
    assert encoder.calls == 6
    again = Counting()
    kept, clips = _yardstick.Vectors(again, tmp_path).of("made", replace(rows, rows=rows.rows[:8]), ("clean",))
    assert again.calls == 2
    assert np.array_equal(clips.vectors["clean"][:6], first.vectors["clean"])
    assert [row.emotion for row in kept.rows] == clips.emotions.tolist()


def test_files_that_fail_are_left_out(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = labels_table.read(made / "labels.csv")
    gone = replace(rows.rows[0], path="gone.wav")
    kept, clips = _yardstick.Vectors(FakeEncoder(), None).of(
        "made", replace(rows, rows=(gone, *rows.rows[:3])), ("clean", "telephone")
    )
    assert kept.rows == rows.rows[:3]
    assert len(clips.vectors["telephone"]) == 3
    assert "gone.wav" in capsys.readouterr().err


def test_majorities_leave_ties_open(tmp_path: Path) -> None:
    votes = tmp_path / "votes.csv"
    head = "path,anger,disgust,fear,happiness,neutral,sadness\n"
    votes.write_text(f"{head}a.ogg,5,0,1,0,4,0\nb.ogg,2,0,0,0,2,1\n", encoding="utf-8")
    assert _yardstick.majorities(votes) == {"a.ogg": "anger", "b.ogg": ""}
    votes.write_text("path,anger\na.ogg,1\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"disgust.*--votes"):
        _yardstick.majorities(votes)


def test_the_voices_held_out_are_those_of_training() -> None:
    for package in ("torch", "onnx"):
        pytest.importorskip(package, reason="the training group is not installed")
    sys.path.append(str(Path(__file__).parents[1] / "training"))
    from train_light import held_out

    numbers = np.repeat(np.arange(91), 2)
    rows = SimpleNamespace(speakers=numbers, corpora=np.zeros(182, np.int64))
    kept_out = held_out(SimpleNamespace(rows=rows))  # type: ignore[arg-type]
    assert _yardstick.held_out(table(91, 2)) == [
        f"v{each:02}" for each in np.random.default_rng(3).permutation(91)[: _yardstick.HELD_OUT]
    ]
    assert set(_yardstick.held_out(table(91, 2))) == {f"v{each:02}" for each in numbers[kept_out]}


@pytest.mark.parametrize(("limit", "voices"), [(100, 10), (99, 9), (25, 4)])
def test_voices_are_whole_and_within_the_limit(limit: int, voices: int) -> None:
    counts = Counter(row.speaker for row in _yardstick._whole_voices(table(20, 10), limit).rows)
    assert len(counts) == voices
    assert set(counts.values()) == {10}
