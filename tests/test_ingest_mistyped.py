"""What is mistyped or only rehearsed writes nothing; two ingests at once share the work."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path

import pytest
from command import Run
from filelock import FileLock
from made import save, silence, speech

import e2vsearch
from e2vsearch.errors import AudioNotFound
from e2vsearch.ingest.lock import LOCK
from e2vsearch.ingest.reports import Progress


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    folder = tmp_path / "calls"
    folder.mkdir()
    for number in range(3):
        save(folder / f"{number}.wav", speech(2.0, seed=number))
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ("ingest", "nothere"),
        ("ingest", "nothere", "nor-there.wav"),
        ("ingest", "nothere/*.wav"),
        ("ingest", "nothere", "--queue"),
        ("ingest", "nothere", "--watch"),
        ("ingest", "calls", "--meta", "nope.csv"),
        ("ingest", "calls", "--transcripts", "nope"),
    ],
    ids=" ".join,
)
def test_a_mistyped_path_makes_no_collection(
    calls: Path, run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(calls.parent)
    ran = run(*words, "--encoder", "fake", "--index", "new")
    assert (ran.code, ran.out) == (2, "")
    assert next(word for word in words if word.startswith("no")) in ran.err
    assert [path.name for path in calls.parent.iterdir()] == ["calls"]


def test_a_worker_makes_no_collection(tmp_path: Path, run: Run) -> None:
    ran = run("worker", "--drain", "--index", tmp_path / "new")
    assert ran.code == 1
    assert "no collection" in ran.err
    assert not list(tmp_path.iterdir())


def test_in_python(calls: Path, tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        with pytest.raises(AudioNotFound, match="nothere: no such file or folder - check the path"):
            collection.ingest("nothere")
        report = collection.ingest(calls, "nothere.wav")  # one of several is reported with the rest
        assert (report.stored, [each.reason for each in report.failures]) == (3, ["missing"])


def test_a_rehearsal_is_named_by_its_collection(
    calls: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    save(calls / "silent.wav", silence(1.0))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", None)
    for form in ("table", "json"):
        ran = run("ingest", calls, "--dry-run", "--encoder", "fake", "--index", "new", "--format", form)
        assert (ran.code, ran.err) == (0, "")
        if form == "table":
            assert ran.out == "new: 4 would be stored\n"
        else:
            assert (json.loads(ran.out)["stored"], json.loads(ran.out)["silent"]) == (4, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["calls"]
    assert run("ingest", calls, "--encoder", "fake", "--index", "new").code == 0
    (calls / "0.wav").touch()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "new").rglob("*")}
    ran = run("ingest", calls, "--dry-run", "--encoder", "fake", "--index", "new", "--format", "table")
    assert (ran.code, ran.out, ran.err) == (0, "new: 0 would be stored, 1 would be replaced, 3 already there\n", "")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "new").rglob("*")} == before


def test_two_at_once(calls: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The second begins with the last file, so that it meets the first half-way."""
    done: list[str] = []

    def note(progress: Progress) -> None:
        done.append(Path(progress.path).name)

    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        with FileLock(tmp_path / "index" / LOCK), caplog.at_level(logging.WARNING, "e2vsearch"):
            assert collection.ingest(calls, workers=1, progress=note).stored == 3
        assert done == ["2.wav", "1.wav", "0.wav"]
        assert "another ingest is at work here" in caplog.text
        caplog.clear()
        assert collection.ingest(calls).already == 3
        assert "another ingest" not in caplog.text
