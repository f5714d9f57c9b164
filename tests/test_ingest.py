"""An ingest: idempotent, resumable, and one bad file never stops the rest."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import DAMAGED, damaged, music, save, silence, speech
from numpy.typing import NDArray

import e2vsearch
from e2vsearch.audio.paths import expand
from e2vsearch.collection import Collection
from e2vsearch.errors import Cancelled, SettingsError, SpaceMismatch
from e2vsearch.ingest.metadata import MetadataTable
from e2vsearch.ingest.reports import Progress


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calls")
    (folder / "sub").mkdir()
    for number, name in enumerate(("a.wav", "b.flac", "sub/c.ogg")):
        save(folder / name, speech(2.5, seed=number, pitch_hz=110 + 10 * number))
    (folder / "notes.txt").write_text("not audio")
    save(folder / ".hidden.wav", speech(2.0))
    return folder


def opened(place: object) -> Collection:
    return e2vsearch.open(place, encoder="fake", create=True)  # type: ignore[arg-type]


def names(collection: Collection) -> list[str]:
    return sorted(recording.name for _, recording in collection.catalog.recordings())


def test_a_second_run_finds_nothing_to_do(database_url: str, calls: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(calls, tmp_path / "calls")
    with opened(database_url) as collection:
        seen: list[Progress] = []
        first = collection.ingest(folder, progress=seen.append)
        assert (first.stored, first.already, first.failures) == (3, 0, ())
        assert [step.done for step in seen] == [1, 2, 3]
        assert {step.total for step in seen} == {3}
        assert names(collection) == ["a", "b", "c"]
        before = collection.status().counts
        again = collection.ingest(folder)
        assert (again.stored, again.already) == (0, 3)
        os.utime(folder / "a.wav")  # touched, not changed: known by its content
        assert collection.ingest(folder / "a.wav").already == 1
        assert collection.status().counts == before


def test_copies_moves_and_changes(database_url: str, calls: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(calls, tmp_path / "calls")
    with opened(database_url) as collection:
        collection.ingest(folder)
        shutil.copy(folder / "a.wav", folder / "a copy.wav")
        assert collection.ingest(folder).already == 4
        assert names(collection) == ["a", "b", "c"]
        (folder / "a copy.wav").unlink()

        (folder / "a.wav").rename(folder / "renamed.wav")
        report = collection.ingest(folder)
        assert (report.moved, report.already, report.stored) == (1, 2, 0)
        assert names(collection) == ["b", "c", "renamed"]

        save(folder / "renamed.wav", speech(3.0, seed=99))
        report = collection.ingest(folder)
        assert (report.replaced, report.already) == (1, 2)
        assert names(collection) == ["b", "c", "renamed"]
        assert collection.recordings(str(folder / "renamed.wav"))[0].duration_s == pytest.approx(3.0)


@pytest.mark.slow
def test_one_bad_file_never_stops_the_rest(database_url: str, calls: Path, tmp_path: Path) -> None:
    with opened(database_url) as collection:
        folder = tmp_path / "bad"
        folder.mkdir()
        bad = {kind: damaged(kind, folder) for kind in ("empty", "wav-cut", "text-as-wav", "nan")}
        report = collection.ingest(calls / "a.wav", *bad.values(), tmp_path / "missing.wav", calls / "b.flac")
        assert report.stored == 2
        assert {failure.reason for failure in report.failures} == {
            "empty",
            "truncated",
            "not-audio",
            "invalid-samples",
            "missing",
        }
        stored = collection.failures()
        assert {(failure.uri, failure.attempts) for failure in stored} == {
            *((str(path), 1) for path in bad.values()),
            (str(tmp_path / "missing.wav"), 1),
        }
        assert all("\n" not in failure.message and failure.uri in failure.message for failure in stored)
        # mended, it is no failure any more
        save(bad["nan"], speech(2.0, seed=5))
        assert collection.ingest(*bad.values()).stored == 1
        assert {failure.attempts for failure in collection.failures()} == {1, 2}
        assert str(bad["nan"]) not in [failure.uri for failure in collection.failures()]


def test_a_failed_file_that_becomes_a_copy_is_no_failure(database_url: str, calls: Path, tmp_path: Path) -> None:
    bad = damaged("text-as-wav", tmp_path)
    with opened(database_url) as collection:
        assert len(collection.ingest(calls / "a.wav", bad).failures) == 1
        shutil.copy(calls / "a.wav", bad)
        assert collection.ingest(bad).already == 1
        assert list(collection.failures()) == []


def test_a_surprise_in_one_file_is_its_failure(calls: Path, tmp_path: Path) -> None:
    from e2vsearch.encoders.fake import FakeEncoder

    class Surprising(FakeEncoder):
        def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Any:
            if len(signals[0]) > 3.5 * 16_000:
                raise MemoryError("too\nmuch")
            return super()._encode(signals)

    save(tmp_path / "long.wav", speech(6.0, seed=3))
    with e2vsearch.open(tmp_path / "index", encoder=Surprising(), create=True) as collection:
        report = collection.ingest(calls, tmp_path / "long.wav")
        assert report.stored == 3
        [failure] = report.failures
        assert "long.wav: unexpected MemoryError: too much" in failure.message


def test_silence_and_music_are_stored_and_said(calls: Path, tmp_path: Path) -> None:
    save(tmp_path / "silence.wav", silence(5.0))
    save(tmp_path / "music.wav", music(8.0))
    with opened(tmp_path / "index") as collection:
        report = collection.ingest(tmp_path / "silence.wav", tmp_path / "music.wav", calls / "a.wav")
        assert (report.stored, report.silent) == (3, 2)
        assert {recording.name: recording.note for _, recording in collection.catalog.recordings()} == {
            "silence": "no speech found",
            "music": "no speech found",
            "a": "",
        }
        assert collection.ingest(tmp_path / "silence.wav").already == 1


def test_metadata_is_joined_by_file_name(database_url: str, calls: Path, tmp_path: Path) -> None:
    table = tmp_path / "calls.csv"
    table.write_text(
        "file,agent,price,date\na.wav,Kim,3.5,2024-03-01\nc,Lee,,2024-03-02T10:00+02:00\nnobody.wav,X,1,\n"
    )
    with opened(database_url) as collection:
        collection.ingest(calls / "a.wav")
        report = collection.ingest(calls, meta=table)
        assert (report.stored, report.already, report.unused_metadata) == (2, 1, 1)
        by_name = {recording.name: recording for _, recording in collection.catalog.recordings()}
        assert by_name["a"].metadata == {"agent": "Kim", "price": "3.5", "date": "2024-03-01"}
        assert by_name["a"].recorded_at == datetime(2024, 3, 1, tzinfo=UTC)
        assert by_name["c"].metadata["agent"] == "Lee"
        assert by_name["c"].recorded_at == datetime(2024, 3, 2, 8, tzinfo=UTC)
        assert by_name["b"].metadata == {}
        assert [recording.name for recording in collection.recordings(where="agent = Lee and date >= 2024-03-02")] == [
            "c"
        ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("file,agent\na.wav,Kim\na.wav,Lee\n", "line 3: a.wav is there twice"),
        (f"file,{'x' * 200_000}\na.wav,Kim\n", "line 1: field larger than field limit"),
    ],
)
def test_metadata_that_makes_no_sense(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "calls.csv").write_text(text)
    with pytest.raises(SettingsError) as caught:
        MetadataTable(tmp_path / "calls.csv")
    assert says in str(caught.value)


def test_metadata_of_other_shapes(tmp_path: Path) -> None:
    (tmp_path / "calls.csv").write_text("\ufeffagent;Filename\nKim;sub/a.wav\n;b.wav\n", encoding="utf-8")
    table = MetadataTable(tmp_path / "calls.csv")
    row = table.find(tmp_path / "sub" / "a.wav")
    assert row is not None
    assert row.metadata == {"agent": "Kim"}
    assert table.find(tmp_path / "other" / "b.wav").metadata == {}  # type: ignore[union-attr]
    assert table.find(tmp_path / "c.wav") is None
    (tmp_path / "calls.csv").write_text('\tfile\tagent\tnote\n\n0\ta.wav\tKim\t"two\nlines"\n')
    row = MetadataTable(tmp_path / "calls.csv").find(tmp_path / "a.wav")
    assert row is not None
    assert row.metadata == {"agent": "Kim", "note": "two\nlines"}
    with pytest.raises(SettingsError, match="cannot be read"):
        MetadataTable(tmp_path / "none.csv")


def test_paths(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(calls)
    everything = [calls / "a.wav", calls / "b.flac", calls / "sub" / "c.ogg"]
    assert list(expand(["."])) == everything
    assert list(expand([calls, calls / "a.wav", "sub/../a.wav"])) == everything
    assert list(expand(["*.wav"])) == [calls / "a.wav"]
    assert list(expand([f"{calls}/**/*.ogg"])) == [calls / "sub" / "c.ogg"]
    assert list(expand(["notes.txt"])) == [calls / "notes.txt"]  # named, so taken
    assert list(expand(["none.wav"])) == [calls / "none.wav"]
    assert list(expand(["none*.wav"])) == []


def test_a_dry_run_writes_nothing(calls: Path, tmp_path: Path) -> None:
    with opened(tmp_path / "index") as collection:
        collection.ingest(calls / "a.wav")
        report = collection.ingest(calls, tmp_path / "missing.wav", dry_run=True)
        assert (report.stored, report.already, len(report.failures)) == (2, 1, 1)
        assert names(collection) == ["a"]
        assert list(collection.failures()) == []


def test_another_encoder_is_refused_before_anything_is_read(calls: Path, tmp_path: Path) -> None:
    from e2vsearch.encoders.fake import FakeEncoder

    with opened(tmp_path / "index") as collection:
        collection.ingest(calls / "a.wav")
    with (
        e2vsearch.open(tmp_path / "index", encoder=FakeEncoder("fake-2"), create=True) as other,
        pytest.raises(SpaceMismatch, match=r"whose fake made them, or start another collection with --index"),
    ):
        other.ingest(calls)


def test_saved_vectors_are_a_collection_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "outputs_20260104_223000"
    folder.mkdir()
    np.save(folder / "embedding.npy", rng.standard_normal(384).astype(np.float32))
    (folder / "result.json").write_text(
        '{"emotion": "angry", "confidence": 0.7, "scores": {"angry": 0.7, "happy": 0.3}}'
    )
    save(folder / "processed_audio.wav", speech(2.0))
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", rng.standard_normal(384).astype(np.float32))
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY")
    with e2vsearch.open(tmp_path / "index", encoder="saved", create=True) as collection:
        report = collection.ingest(tmp_path)
        assert (report.stored, [failure.reason for failure in report.failures]) == (4, ["bad-vector-file"])
        assert collection.ingest(tmp_path).already == 4
        hits = collection.query(tmp_path / "1.npy", k=2)
        assert (hits[0].name, round(hits[0].score or 0, 5)) == ("1", 1.0)
        [whole] = collection.recordings(str(folder))
        assert whole.uri == str(folder / "processed_audio.wav")
        assert collection.segments(whole.id)[0].emotion == "angry"
        with pytest.raises(e2vsearch.E2vsearchError, match=r"saved vectors.*\.npy"):
            collection.query(folder / "processed_audio.wav")
    np.save(tmp_path / "other.npy", rng.standard_normal(1024).astype(np.float32))
    with e2vsearch.open(tmp_path / "index", create=True) as collection:
        [failure, _] = sorted(collection.ingest(tmp_path).failures, key=lambda each: each.reason, reverse=True)
        assert failure.reason == "space-mismatch"
        assert "384" in failure.message


def test_stopping_keeps_what_is_done(calls: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    with opened(tmp_path / "index") as collection:
        report = collection.ingest(calls, workers=1, stop=stop, progress=lambda _: stop.set())
        assert report.interrupted
        assert 1 <= report.stored < 3
        assert report.left == 3 - report.stored
        assert collection.ingest(calls).stored == 3 - report.stored


def test_listening_stops_between_blocks() -> None:
    from e2vsearch.encoders.fake import FakeEncoder
    from e2vsearch.pipeline import embed_audio

    with pytest.raises(Cancelled):
        embed_audio(speech(3.0), FakeEncoder(), stop=lambda: True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_pipes_devices_and_sockets_in_a_folder_stop_nothing(database_url: str, calls: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(calls, tmp_path / "calls")
    os.mkfifo(folder / "pipe.wav")
    (folder / "zero.wav").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "socket.wav"))
    with opened(database_url) as collection:
        rehearsed = collection.ingest(folder, dry_run=True)
        assert (rehearsed.stored, len(rehearsed.failures)) == (3, 3)
        report = collection.ingest(folder)
        assert names(collection) == ["a", "b", "c"]
        assert {Path(each.uri).name: each.reason for each in report.failures} == {
            "pipe.wav": "not-a-file",
            "zero.wav": "not-a-file",
            "socket.wav": "not-a-file",
        }
        assert all("is a pipe, socket or device: save" in each.message for each in report.failures)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_a_transcript_that_is_a_pipe_is_not_waited_for(database_url: str, calls: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    os.mkfifo(tmp_path / "texts" / "a.srt")
    with opened(database_url) as collection:
        report = collection.ingest(calls / "a.wav", transcripts=tmp_path / "texts")
    assert report.stored == 1
    assert [each.reason for each in report.failures] == ["transcript"]


def test_recordings_longer_than_allowed_fail_by_name(
    database_url: str, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(database_url) as collection:
        report = collection.ingest(calls / "a.wav", max_audio_s=2.0)
        [failure] = report.failures
        assert (failure.reason, report.stored) == ("too-long", 0)
        assert str(calls / "a.wav") in failure.message
        assert "--max-audio-s" in failure.message
        assert collection.ingest(calls / "a.wav").stored == 1
        with pytest.raises(SettingsError, match="--max-audio-s"):
            collection.ingest(calls, max_audio_s=0)
    monkeypatch.setenv("E2VSEARCH_MAX_AUDIO_S", "2")
    with opened(database_url) as collection:
        assert [each.reason for each in collection.ingest(calls / "b.flac").failures] == ["too-long"]


@pytest.mark.slow
def test_two_hundred_files_of_which_forty_are_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "calls"
    folder.mkdir()
    for number in range(160):
        save(folder / f"good{number:03d}.wav", speech(1.2, seed=number, rate_hz=8000), 8000)
    kinds = list(DAMAGED)
    broken = set()
    for number in range(40):
        made = damaged(kinds[number % len(kinds)], tmp_path)
        suffix = made.suffix if made.suffix not in (".m3u8", ".pdf") else ".wav"
        broken.add(str(made.rename(folder / f"bad{number:02d}{suffix}")))
    with opened(tmp_path / "index") as collection:
        report = collection.ingest(folder)
        assert report.stored + report.already == 160
        assert {failure.uri for failure in report.failures} == broken
        assert len(names(collection)) == 160
