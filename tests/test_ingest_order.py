"""Ids follow the list of files, whichever worker is first; and a run tells what it does while it does it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import save, speech
from numpy.typing import NDArray
from sqlalchemy.event import listen

import e2vsearch
from e2vsearch.encoders.base import Embeddings
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.ingest.activity import Activity, ActivityTracker
from e2vsearch.ingest.reports import IngestReport, Progress

FILES = 6
LONGEST_S = 4.0


class FirstIsLast(FakeEncoder):
    """Encodes the longest signal once the segments of all other files are encoded."""

    def __init__(self) -> None:
        super().__init__()
        self._others = threading.Semaphore(0)

    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        for signal in signals:
            if len(signal) > 3 * 16_000:
                assert all(self._others.acquire(timeout=30) for _ in range(FILES - 1))
            else:
                self._others.release()
        return super()._encode(signals)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "calls").mkdir()
    for number in range(FILES):
        save(tmp_path / "calls" / f"{number}.wav", speech(2.0 if number else LONGEST_S, seed=number))
    return tmp_path / "calls"


def test_ids_follow_the_list_of_files(folder: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    with e2vsearch.open(tmp_path / "index", encoder=FirstIsLast(), create=True) as collection:
        assert collection.ingest(folder, workers=2, progress=seen.append).stored == FILES
        recordings = collection.recordings()
        segments = [segment.recording for segment in collection.segments()]
    names = [f"{number}.wav" for number in range(FILES)]
    assert [Path(step.path).name for step in seen] == names
    assert [(each.id, each.name) for each in recordings] == [(f"call:{n + 1}", str(n)) for n in range(FILES)]
    assert segments == [f"call:{n + 1}" for n in range(FILES)]


def test_a_run_tells_what_it_does(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.wav").write_bytes(b"RIFF, but nothing else")
    seen: list[Activity] = []
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        report = collection.ingest(folder, workers=2, activity=seen.append)
        assert (report.stored, len(report.failures)) == (FILES, 1)
        again: list[Activity] = []
        assert collection.ingest(folder, activity=again.append).already == FILES
    phases = list(dict.fromkeys(each.phase for each in seen))
    assert phases == ["listing", "opening", "listening", "indexing"]
    assert {name for each in seen for name in each.at_work} == {*(f"{n}.wav" for n in range(FILES)), "broken.wav"}
    assert max(len(each.at_work) for each in seen) <= 2
    heard = [each.audio_s for each in seen]
    assert heard == sorted(heard)
    assert seen[-1].audio_s == pytest.approx(report.audio_s)
    assert seen[-1].audio_left_s == 0.0
    assert {each.audio_s for each in again} == {0.0}


def test_what_is_stored_is_recognised_without_a_statement_for_each(folder: Path, tmp_path: Path) -> None:
    def rerun() -> tuple[IngestReport, list[str], list[Activity]]:
        statements: list[str] = []
        seen: list[Activity] = []
        with e2vsearch.open(tmp_path / "index", encoder="fake") as collection:
            with collection.catalog.reading() as connection:
                engine = connection.engine
            listen(engine, "before_cursor_execute", lambda *about: statements.append(about[2]))
            return collection.ingest(*sorted(folder.iterdir()), activity=seen.append), statements, seen

    others = [path.rename(tmp_path / path.name) for path in sorted(folder.iterdir())[1:]]
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        collection.ingest(folder, *others)
    one, for_one, _ = rerun()
    for path in others:
        path.rename(folder / path.name)  # found by its content, once
    rerun()
    every, for_every, seen = rerun()
    assert (one.already, every.already) == (1, FILES)
    assert len(for_every) == len(for_one)
    assert not any(each.at_work for each in seen)  # none was handed to a thread

    save(folder / "1.wav", speech(3.0, seed=77))
    changed, _, seen = rerun()
    assert (changed.already, changed.replaced) == (FILES - 1, 1)
    assert {name for each in seen for name in each.at_work} == {"1.wav"}


def test_what_is_left_is_estimated_by_size() -> None:
    seen: list[Activity] = []
    tracker = ActivityTracker(seen.append)
    tracker.expect({"a": 100, "b": 300, "known": 50, "c": 400})
    with tracker.loading("known", "known.wav"):  # stored before: not listened to
        pass
    assert (seen[-1].audio_s, seen[-1].audio_left_s) == (0.0, None)
    with tracker.loading("a", "a.wav") as heard:
        heard(4.0, 10.0)
        assert seen[-1] == Activity("listening", ("a.wav",), 4.0, 6.0 + 700 * 10 / 100)
        heard(10.0, 10.0)
    assert (seen[-1].audio_s, seen[-1].audio_left_s) == (10.0, 70.0)
    with tracker.loading("b", "b.wav") as heard, tracker.loading("c", "c.wav"):
        heard(5.0, 90.0)  # three times as many bytes, nine times as long: 0.25 s a byte of the two
        assert seen[-1] == Activity("listening", ("b.wav", "c.wav"), 15.0, 85.0)


def test_the_bar_fits_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.progress import Progress as Bar

    from e2vsearch.cli.progress import ProgressBar

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    drawn: list[dict[str, Any]] = []
    monkeypatch.setattr(Bar, "update", lambda _self, _task, **fields: drawn.append(fields))
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    with ProgressBar(quiet=False) as bar:
        bar.activity(Activity("opening"))
        bar.files(Progress("a.wav", "failed", 1, 3, 1, 0.0))
        bar.activity(Activity("listening", ("a_recording_with_a_name_of_some_length.wav",), 0.0, None))
        bar.activity(Activity("listening", ("a_recording_with_a_name_of_some_length.wav",), 7300.0, 70_000.0))
    assert [(each["description"], each["facts"]) for each in drawn] == [
        ("opening the encoder", ""),
        ("", "1 of 3 files, 0 files/s, 1 failed, 20 s left"),
        ("a_recording_w…ngth.wav", "0 s, 1 failed"),
        ("a_recording_w…ngth.wav", "2 h 02 min of 21 h 28 min of audio, 730x, 2 min left, 1 failed"),
    ]
