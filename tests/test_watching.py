"""A folder that is watched: whole files, each once, by a clock that tests turn; and a process that ends in order."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command import Run
from made import save, speech

import e2vsearch
from e2vsearch.collection import Collection
from e2vsearch.errors import SettingsError
from e2vsearch.ingest.metadata import ReloadedMetadata
from e2vsearch.ingest.reports import RecordingReport
from e2vsearch.ingest.watch import FolderWatch, being_written
from e2vsearch.vectors.background import BackgroundBuilder


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "a.wav"
    save(path, speech(1.5, seed=1))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "calls" / "monday").mkdir(parents=True)
    return tmp_path / "calls"


def grown(path: Path, count: int) -> None:
    """Change a file's size, and its time by a second: two writes within a tick of the clock look alike."""
    before = path.stat().st_mtime
    with path.open("ab") as file:
        file.write(b"x" * count)
    os.utime(path, (before + 1, before + 1))


# --- looking


def test_a_file_is_given_once_it_is_stable(folder: Path) -> None:
    watch = FolderWatch([folder], stable_s=10)
    assert watch.look(0) == []
    path = folder / "monday" / "a.wav"
    path.write_bytes(b"1")
    assert watch.look(1) == []
    assert watch.look(10.9) == []
    grown(path, 1)
    assert watch.look(11) == []  # it has grown: its time begins anew
    assert watch.look(20) == []
    assert watch.look(21) == [path]
    assert watch.look(40) == []  # once
    grown(path, 1)
    assert watch.look(41) == []
    assert watch.look(51) == [path]


def test_a_change_that_keeps_the_size_is_a_change(folder: Path) -> None:
    path = folder / "a.wav"
    path.write_bytes(b"1")
    watch = FolderWatch([folder], stable_s=0)
    assert watch.look(0) == [path]
    os.utime(path, (1, 1))
    assert watch.look(1) == [path]


def test_what_comes_at_once_is_given_the_oldest_first(folder: Path) -> None:
    for number, name in enumerate(("c.wav", "a.mp3", "monday/b.flac")):
        (folder / name).write_bytes(b"1")
        os.utime(folder / name, (number, number))
    assert FolderWatch([folder, folder / "monday"], stable_s=0).look(0) == [
        folder / "c.wav",
        folder / "a.mp3",
        folder / "monday" / "b.flac",
    ]


@pytest.mark.parametrize(
    "name",
    [".a.wav", ".sync/a.wav", "a.wav.part", "a.part.wav", "a.wav.TMP", "a.tmp.wav", "a.wav.crdownload", "a.txt", "wav"],
)
def test_what_is_no_recording_yet_is_left_alone(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"1")
    watch = FolderWatch([folder], stable_s=0)
    assert watch.look(0) == []
    (folder / name).rename(folder / "whole.wav")
    assert watch.look(1) == [folder / "whole.wav"]


def test_a_file_that_is_open_to_write_is_left_alone(folder: Path) -> None:
    path = folder / "a.wav"
    path.write_bytes(b"1")
    busy = {str(path)}
    watch = FolderWatch([folder], stable_s=1, writing=busy.__contains__)
    assert [watch.look(now) for now in (0, 1, 100)] == [[], [], []]
    busy.clear()
    assert watch.look(101) == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_system_tells_who_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with path.open("wb") as file:
        if not being_written(str(path)):
            pytest.skip("this file system has no leases")
        file.write(b"1")
    assert not being_written(str(path))
    with path.open("rb"):
        assert not being_written(str(path))
    assert not being_written(str(tmp_path / "none.wav"))


def test_what_goes_and_comes_back_is_new(folder: Path) -> None:
    path = folder / "a.wav"
    path.write_bytes(b"1")
    watch = FolderWatch([folder], stable_s=0)
    assert watch.look(0) == [path]
    path.unlink()
    assert watch.look(1) == []
    assert watch.files == []
    path.write_bytes(b"1")
    assert watch.look(2) == [path]


def test_a_share_that_goes_away_and_comes_back(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / "a.wav"
    path.write_bytes(b"1")
    watch = FolderWatch([folder], stable_s=0)
    assert watch.look(0) == [path]
    folder.rename(folder.with_name("away"))
    assert (watch.look(1), watch.look(2)) == ([], [])
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # said once
    assert str(folder) in caplog.text
    folder.with_name("away").rename(folder)
    assert watch.look(3) == []  # nothing in it has changed
    (folder / "b.wav").write_bytes(b"1")
    assert watch.look(4) == [folder / "b.wav"]


def test_what_failed_before_waits_for_a_change(folder: Path) -> None:
    path, now = folder / "a.wav", datetime.now(UTC)
    path.write_bytes(b"1")
    watch = FolderWatch([folder], stable_s=0, failed={str(path): now + timedelta(minutes=1)})
    assert watch.look(0) == []
    grown(path, 1)
    assert watch.look(1) == [path]
    changed_since = FolderWatch([folder], stable_s=0, failed={str(path): now - timedelta(minutes=1)})
    assert changed_since.look(0) == [path]


def test_what_cannot_be_watched(folder: Path) -> None:
    with pytest.raises(SettingsError, match="no folder to watch"):
        FolderWatch([folder / "none"])
    with pytest.raises(SettingsError, match="no folder to watch"):
        FolderWatch(["s3://bucket/calls/"])
    with pytest.raises(SettingsError, match="--stable-s"):
        FolderWatch([folder], stable_s=-1)


def test_a_large_folder_is_listed_less_often(folder: Path) -> None:
    watch = FolderWatch([folder], stable_s=10)
    assert watch.pause_s(0.01) == 5.0
    assert watch.pause_s(3.0) == pytest.approx(30.0)
    assert FolderWatch([folder], stable_s=0).pause_s(0.0) == 0.1


def test_a_watch_waits_only_when_there_is_nothing_to_do(folder: Path, call: Path, tmp_path: Path) -> None:
    shutil.copy(call, folder / "a.wav")
    events: list[str | float] = []
    stop = threading.Event()

    def wait(seconds: float) -> None:
        events.append(seconds)
        if len(events) == 3:
            stop.set()

    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        collection.watch(
            folder,
            stable_s=0,
            stop=stop,
            each=lambda report: events.append(report.outcome),
            clock=lambda: 0.0,
            wait=wait,
        )
    assert events == ["stored", 0.1, 0.1]


def test_a_table_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "calls.csv"
    path.write_text("file,agent\na,Kim\n")
    table = ReloadedMetadata(path)
    first = table.current()
    assert table.current() is first
    path.write_text("file,agent\na,Kim\nb,Lee\n")
    assert len(table.current()) == 2
    path.write_text("file,agent\na,Kim\na,Lee\nb,Pat\n")
    assert len(table.current()) == 2  # its former rows stay
    assert "a is there twice" in caplog.text
    with pytest.raises(SettingsError, match="cannot be read"):
        ReloadedMetadata(tmp_path / "none.csv")


# --- taking


def watched(
    collection: Collection, folder: Path, *happenings: Callable[[], object], **options: object
) -> list[RecordingReport]:
    """Watch a folder in which one thing happens at each wait, until nothing is left to happen."""
    stop, seen, now, left = threading.Event(), [], [0.0], iter(happenings)  # type: ignore[var-annotated]

    def wait(seconds: float) -> None:
        now[0] += 100.0
        for happening in left:
            happening()
            return
        if now[0] > 100.0 * (len(happenings) + 2):  # two more looks: the last change must become stable
            stop.set()

    collection.watch(folder, stop=stop, each=seen.append, clock=lambda: now[0], wait=wait, **options)
    return seen


@pytest.mark.slow
def test_what_is_there_and_what_comes(
    database_url: str, folder: Path, call: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "e2vsearch.ingest.recordings")
    shutil.copy(call, folder / "a.wav")
    bad = folder / "bad.wav"
    with e2vsearch.open(database_url, encoder="fake", create=True) as collection:
        seen = watched(
            collection,
            folder,
            lambda: bad.write_text("no audio " * 99),
            lambda: save(folder / "monday" / "b.wav", speech(1.5, seed=2)),
            lambda: (folder / "a.wav").unlink(),
            lambda: None,
            lambda: save(bad, speech(1.5, seed=3)),
        )
        assert [(Path(each.uri).name, each.outcome) for each in seen] == [
            ("a.wav", "stored"),
            ("bad.wav", "failed"),
            ("b.wav", "stored"),
            ("bad.wav", "stored"),
        ]
        # what is deleted stays in the collection
        assert {recording.name for _, recording in collection.catalog.recordings()} == {"a", "b", "bad"}
        assert list(collection.failures()) == []
    assert [record.fields["outcome"] for record in caplog.records] == [each.outcome for each in seen]  # type: ignore[attr-defined]
    line = caplog.records[0].getMessage()
    assert line.startswith(f"uri={folder / 'a.wav'} outcome=stored recording=call:1 audio_s=1.5 seconds=")
    assert "real_time_factor=" in line
    assert "reason=not-audio" in caplog.records[1].getMessage()


def test_a_restart_repeats_nothing(folder: Path, call: Path, tmp_path: Path) -> None:
    shutil.copy(call, folder / "a.wav")
    (folder / "bad.wav").write_text("no audio " * 99)
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        assert {each.outcome for each in watched(collection, folder)} == {"stored", "failed"}
    with e2vsearch.open(tmp_path / "index", create=True) as collection:
        assert [each.outcome for each in watched(collection, folder)] == ["already"]
        [failure] = collection.failures()
        assert failure.attempts == 1


def test_metadata_and_transcripts_come_along(folder: Path, call: Path, tmp_path: Path) -> None:
    table = tmp_path / "calls.csv"
    table.write_text("file,agent\na.wav,Kim\n")
    shutil.copy(call, folder / "a.wav")
    (folder / "a.srt").write_text("1\n00:00:00,000 --> 00:00:01,500\nhello there\n")

    def another() -> None:
        table.write_text("file,agent\na.wav,Kim\nb.wav,Lee\n")
        save(folder / "b.wav", speech(1.5, seed=2))

    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        seen = watched(collection, folder, another, meta=table, transcripts=folder)
        assert [each.transcript for each in seen] == [True, False]
        assert {each.name: each.metadata["agent"] for _, each in collection.catalog.recordings()} == {
            "a": "Kim",
            "b": "Lee",
        }


def test_its_index_is_tended(folder: Path, call: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(call, folder / "a.wav")
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        due: list[int] = []
        monkeypatch.setattr(BackgroundBuilder, "start", lambda _, due_: due.append(1))
        watched(collection, folder, *[lambda: None] * 3, lambda: save(folder / "b.wav", speech(1.5, seed=2)))
        assert len(due) == 2  # after each that was stored, and not at every look


def test_saved_vectors_are_not_watched(folder: Path, tmp_path: Path) -> None:
    with (
        e2vsearch.open(tmp_path / "index", encoder="saved", create=True) as collection,
        pytest.raises(SettingsError, match="saved vectors cannot be watched"),
    ):
        collection.watch(folder)


# --- the command


@pytest.mark.parametrize("more", [["--dry-run"], ["-o", "out.json"], ["--format", "csv"], ["-"]])
def test_what_goes_not_with_watching(run: Run, folder: Path, more: list[str]) -> None:
    done = run("ingest", "--watch", folder, "--encoder", "fake", *more)
    assert done.code == 2
    assert "--watch goes with folders" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_a_watch_ends_in_order(folder: Path, call: Path, tmp_path: Path, signal_: signal.Signals) -> None:
    shutil.copy(call, folder / "a.wav")
    command = [sys.executable, "-m", "e2vsearch", "ingest", "--watch", str(folder), "--encoder", "fake"]
    command += ["--index", str(tmp_path / "index"), "--stable-s", "0", "--format", "json", "--log", "json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    killer = threading.Timer(60, process.kill)  # a watch that says nothing must not hold the suite
    killer.start()
    try:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert (first["uri"], first["outcome"], first["segments"]) == (str(folder / "a.wav"), "stored", 1)
        save(tmp_path / "b.wav", speech(1.5, seed=2))
        (tmp_path / "b.wav").rename(folder / "b.wav")
        second = json.loads(process.stdout.readline())
        assert (second["uri"], second["outcome"]) == (str(folder / "b.wav"), "stored")
        process.send_signal(signal_)
        out, said = process.communicate()
    finally:
        killer.cancel()
        with suppress(ProcessLookupError):
            process.kill()
        process.communicate()
    assert process.returncode == 0, said
    assert out == ""
    assert "Traceback" not in said
    logged = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [line["uri"] for line in logged] == [str(folder / "a.wav"), str(folder / "b.wav")]
    assert said.splitlines()[-1].startswith("ended: 2 added, 0 failed")
    with e2vsearch.open(tmp_path / "index", create=True) as collection:
        assert collection.status().counts.recordings == 2
