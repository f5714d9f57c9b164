"""Odd names, cells, times and files: each fails or is warned of by itself, and all the rest is ingested."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from command import Run
from made import save, speech

import e2vsearch
from e2vsearch import Collection, files
from e2vsearch.encoders.embedding_files import read
from e2vsearch.errors import BadFilter, TranscriptError, VectorFileError
from e2vsearch.files import file_uri, local_path
from e2vsearch.ingest.metadata import MetadataTable
from e2vsearch.ingest.transcripts import formats

LATIN = b"M\xfcller \xff\xfe.wav"


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """Three calls, one with a name that an old recorder wrote in Latin-1."""
    folder = tmp_path / "calls"
    folder.mkdir()
    for number, name in enumerate(("a.wav", "b.wav", "c.wav")):
        save(folder / name, speech(2.0, seed=number))
    os.rename(folder / "c.wav", os.fsencode(folder) + b"/" + LATIN)  # noqa: PTH104 - a name of bytes
    return folder


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as opened:
        yield opened


def test_a_name_that_is_no_utf8(collection: Collection, calls: Path, run: Run, tmp_path: Path) -> None:
    report = collection.ingest(calls)
    assert (report.stored, report.failures) == (3, ())
    (odd,) = (each for each in collection.recordings() if "ller" in each.name)
    assert odd.name == r"M\xfcller \xff\xfe"
    assert odd.uri == f"file://{calls}/M%FCller%20%FF%FE.wav"
    path = local_path(odd.uri)
    assert path.exists()
    assert file_uri(path) == odd.uri
    (segment, *_) = collection.segments(odd.id)
    assert collection.clip(segment.id).shape[1] > 8000  # it plays
    found = collection.query(path, include_self=True, k=1)  # and is a reference
    assert (found[0].recording, round(found[0].score or 0, 4)) == (odd.id, 1.0)
    assert collection.ingest(calls).already == 3
    hits = run("query", odd.id, "--include-self", "--format", "json", "--index", tmp_path / "index")
    assert json.loads(hits.out)["hits"][0]["uri"] == odd.uri
    for name in (os.fsdecode(os.fsencode(calls) + b"/" + LATIN), odd.uri):
        assert [each.id for each in collection.recordings(name)] == [odd.id]
    assert len(collection.recordings(str(calls))) == 3
    os.rename(path, calls / "moved.wav")  # noqa: PTH104
    assert collection.ingest(calls).moved == 1
    assert collection.recordings(odd.id)[0].uri == str(calls / "moved.wav")
    assert collection.remove(str(calls)) == 3


def test_such_a_name_fails_by_itself(collection: Collection, calls: Path, run: Run, tmp_path: Path) -> None:
    local_path(f"file://{calls}/M%FCller%20%FF%FE.wav").write_bytes(b"no audio")
    report = collection.ingest(calls)
    assert (report.stored, len(report.failures)) == (2, 1)
    (failure,) = collection.failures()
    assert failure.uri == f"file://{calls}/M%FCller%20%FF%FE.wav"
    assert r"M\xfcller \xff\xfe.wav" in failure.message
    ran = run("ingest", calls, "--format", "json", "--index", tmp_path / "index")
    assert json.loads(ran.out)["failures"][0]["uri"] == failure.uri
    ran = run("embed", calls, "-o", tmp_path / "out", "--encoder", "fake", "--format", "json")
    assert sorted(row["status"] for row in json.loads(ran.out)) == ["failed", "success", "success"]


def test_embeddings_of_such_a_name(calls: Path, run: Run, tmp_path: Path) -> None:
    ran = run("embed", calls, "-o", tmp_path / "out", "--encoder", "fake", "--format", "json")
    assert ran.code == 0, ran.err
    rows = json.loads(ran.out)
    assert [local_path(row["embedding"]).is_file() for row in rows] == [True] * 3
    assert {local_path(row["filepath"]) for row in rows} == set(calls.iterdir())


@pytest.mark.slow
def test_embed_writes_whole_files(calls: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing under its own name on a full disk; what a killed run left is cleared by the next."""

    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(files, "sync", full)
        ran = run("embed", calls, "-o", out, "--encoder", "fake")
    assert ran.code == 1
    assert "No space left on device - the disk is full: free some of it" in ran.err
    assert not list(out.iterdir())
    killed = (
        "import sys, pathlib, os; from e2vsearch.files import atomic_path; a = atomic_path(pathlib.Path(sys.argv[1]))"
    )
    code = f"{killed}; a.__enter__().write_bytes(b'half'); os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(out / "a.npy")], check=False)
    assert len(list(out.iterdir())) == 1
    assert run("embed", calls, "-o", out, "--encoder", "fake").code == 0
    assert sorted(path.suffix for path in out.iterdir()) == [".json"] * 3 + [".npy"] * 3


def test_bad_cells_of_metadata(calls: Path, collection: Collection, caplog: pytest.LogCaptureFixture) -> None:
    table = calls.parent / "calls.csv"
    rows = [
        "file,date,agent",
        "a.wav,9999-12-31T23:59:59-14:00,Kim",
        f"b.wav,2024-03-01,{'x' * 200_000}",
        "c.wav,2024-03-01,Lee,Max",
        "d.wav,2024-03-01,Ko\0x",
        "e.wav,1 March,Eve",
        "f.wav,2024-03-01T23:00:00-05:00,Fay",
    ]
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    with caplog.at_level(logging.WARNING, "e2vsearch"):
        made = MetadataTable(table)
    assert [record.getMessage().partition("calls.csv ")[2] for record in caplog.records] == [
        "line 3: field larger than field limit (131072) - its row is left out",
        "line 2: date '9999-12-31T23:59:59-14:00' is no date, the file's own is kept - write 2024-03-01 or "
        "2024-03-01T09:30",
        "line 4: more cells than columns, so its row is left out - quote cells with commas",
        "line 5: agent holds a NUL, and is left out - write it as text",
        "line 6: date '1 March' is no date, the file's own is kept - write 2024-03-01 or 2024-03-01T09:30",
    ]
    found = {name: made.find(Path(f"{name}.wav")) for name in "abcdef"}
    assert {name: row.metadata.get("agent") for name, row in found.items() if row} == {
        "a": "Kim", "d": None, "e": "Eve", "f": "Fay",
    }  # fmt: skip
    assert {name: row.recorded_at for name, row in found.items() if row and row.recorded_at} == {
        "d": datetime(2024, 3, 1, tzinfo=UTC), "f": datetime(2024, 3, 2, 4, tzinfo=UTC),
    }  # fmt: skip
    report = collection.ingest(calls, meta=table)
    assert (report.stored, report.failures) == (3, ())


def test_many_bad_cells_are_not_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "calls.csv").write_text("file,date\n" + "".join(f"{n}.wav,never\n" for n in range(100)))
    MetadataTable(tmp_path / "calls.csv")
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records][20:] == ["and 80 more"]


@pytest.mark.parametrize(
    "text",
    [
        f"1\n{'9' * 200_000}:00:01,000 --> {'9' * 200_000}:00:02,000\nrefund\n",
        f"1\n{'9' * 4000}:00:01,000 --> {'9' * 4000}:00:02,000\nrefund\n",
        f"1\n00:00:{'9' * 400},000 --> 00:00:{'9' * 400},000\nrefund\n",
    ],
    ids=["too many digits for int", "too large for float", "infinite"],
)
def test_a_time_out_of_range(calls: Path, collection: Collection, text: str) -> None:
    """That transcript fails by its own name, and its recording is stored."""
    (calls / "a.srt").write_text(text)
    (calls / "b.srt").write_text("1\n00:00:00,500 --> 00:00:01,500\nrefund\n")
    with pytest.raises(TranscriptError, match=r"a\.srt"):
        formats.read(calls / "a.srt")
    report = collection.ingest(calls, transcripts=calls)
    assert (report.stored, report.transcripts) == (3, 1)
    assert [Path(each.uri).name for each in report.failures] == ["a.srt"]


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, json.dumps({"scores": {"angry": 1}}).replace("1", "9" * 4000)],
    ids=["list", "object", "number"],
)
def test_a_result_file_that_is_none(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "outputs_20240301_120000"
    folder.mkdir()
    np.save(folder / "embedding.npy", np.ones(8, np.float32))
    (folder / "result.json").write_text(text)
    with pytest.raises(VectorFileError, match=r"result\.json"):
        read(folder)


def test_infinite_vectors(tmp_path: Path) -> None:
    """One line, and no warning of numpy's before it."""
    rows = np.ones((3, 8), np.float32)
    rows[0], rows[1] = np.inf, -np.inf
    np.save(tmp_path / "a.npy", rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(VectorFileError, match="NaN, infinite or huge values"):
            read(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "where",
    [
        "date >= 9999-12-31T23:59:59-14:00",
        "date = 9999-12-31",
        "added < 0001-01-01T00:00:00+14:00",
        "segment = 1e400",
        "recording = 99999999999999999999",
        "not " * 3000 + "channel = 0",
    ],
    ids=["edge", "last day", "first day", "infinite", "large", "deep"],
)
def test_filters_out_of_range(collection: Collection, calls: Path, where: str) -> None:
    collection.ingest(calls)
    with pytest.raises(BadFilter):
        collection.segments(where=where)
    with pytest.raises(BadFilter):
        collection.query("seg:1", where=where)


@pytest.mark.slow
def test_long_filters(collection: Collection, calls: Path) -> None:
    """SQLite's parser takes a chain of 1,000."""
    collection.ingest(calls)
    everything = len(collection.segments())
    assert len(collection.segments(where=" or ".join(f"channel = {n}" for n in range(3000)))) == everything
    assert len(collection.segments(where=" and ".join(f"channel < {n}" for n in range(1, 3000)))) == everything
    assert len(collection.segments(where=f"channel in ({', '.join(map(str, range(3000)))})")) == everything
    assert not collection.segments(where=f"channel not in ({', '.join(map(str, range(3000)))})")
