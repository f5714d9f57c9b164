"""A catalog on a full, read-only or locked disk: read all the same, and told apart from a damaged one."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from command import Run
from small_collection import make_collection

import e2vsearch
from e2vsearch.catalog import sqlite
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import CatalogError
from e2vsearch.search.execute import fetch_hits
from e2vsearch.search.rank import Ranking


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("made"))


@pytest.fixture
def index(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "index"))


@pytest.fixture
def unwritable(index: Path) -> Path:
    """A collection whose log cannot be opened, as on a read-only mount, for root as well."""
    for name in ("catalog.db-wal", "catalog.db-shm"):
        (index / name).unlink(missing_ok=True)
    (index / "catalog.db-shm").symlink_to("nowhere/shm")
    return index


@pytest.mark.parametrize(
    "words",
    [
        ("query", "seg:1"),
        ("query", "seg:1", "--where", "queue = billing"),
        ("status",),
        ("failures",),
        ("label", "list"),
        ("queue",),
        ("index", "status"),
        ("index", "verify"),
        ("projection", "list"),
        ("db", "current"),
        ("remove", "call:1", "--dry-run"),
    ],
    ids=" ".join,
)
def test_reading_needs_nothing_to_be_written(unwritable: Path, made: Path, run: Run, words: tuple[str, ...]) -> None:
    ran = run(*words, "--index", unwritable)
    expected = run(*words, "--index", made)
    assert ran.code == expected.code == 0, ran.err
    if words[0] == "query":
        assert ran.rows == expected.rows
    else:
        assert ran.out.replace(str(unwritable), str(made)) == expected.out


def test_a_copy_is_made_of_what_cannot_be_written(unwritable: Path, tmp_path: Path, run: Run) -> None:
    assert run("backup", tmp_path / "copy" / "catalog.db", "--index", unwritable).code == 0
    assert run("export", tmp_path / "export", "--index", unwritable).code == 0
    with e2vsearch.open(tmp_path / "copy") as copy:
        assert copy.status().counts.recordings == 4


@pytest.mark.parametrize("words", [("remove", "call:1", "--yes"), ("label", "angry", "seg:1")], ids=" ".join)
def test_writing_says_what_is_read_only(unwritable: Path, run: Run, words: tuple[str, ...]) -> None:
    ran = run(*words, "--index", unwritable)
    line = f"e2vsearch: {unwritable}/catalog.db cannot be written: unable to open database file - the folder is "
    assert (ran.code, ran.err) == (
        1,
        f"{line}read-only, or another user's: make it writable, or work on a copy of it\n",
    )


def test_a_log_that_cannot_be_opened_is_not_passed_over(index: Path) -> None:
    """What is only in the log would be missing from an answer without it."""
    with closing(sqlite3.connect(index / "catalog.db")) as connection:
        connection.execute("UPDATE recording SET note = 'in the log'")
        connection.commit()
        log = (index / "catalog.db-wal").read_bytes()
    (index / "catalog.db-wal").write_bytes(log)
    (index / "catalog.db-shm").unlink(missing_ok=True)
    (index / "catalog.db-shm").symlink_to("nowhere/shm")
    with pytest.raises(CatalogError, match="unable to open database file - the folder is read-only"):
        e2vsearch.open(index)


def test_what_another_mount_writes_is_seen(unwritable: Path) -> None:
    with e2vsearch.open(unwritable) as collection:
        assert {hit.recording for hit in collection.query("seg:1", k=10)} == {"call:1", "call:2", "call:3", "call:4"}
        (unwritable / "catalog.db-shm").unlink()
        with e2vsearch.open(unwritable) as writer:
            assert writer.remove("call:4") == 1
        assert collection.status().counts.recordings == 3
        assert {hit.recording for hit in collection.query("seg:1", k=10)} == {"call:1", "call:2", "call:3"}
        assert collection.remove("call:3") == 1  # and once the disk is writable, it is written to


def test_a_full_disk(index: Path) -> None:
    with closing(Catalog.open(f"sqlite:///{index}/catalog.db")) as catalog:
        with catalog.writing() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(CatalogError) as caught:
            catalog.fail("a.wav", "truncated", "x" * 100_000)
    assert str(caught.value) == (
        f"{index}/catalog.db cannot be written: database or disk is full - the disk is full, or fails: free some of "
        "it, then run this again; what is stored stays as it is"
    )


def test_another_writer(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.01)
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE'); "
        "print('holds it', flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, index / "catalog.db"], stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"holds it\n"
        with e2vsearch.open(index) as collection, pytest.raises(CatalogError) as caught:
            collection.remove("call:1")
        holder = f"process {other.pid} is" if sys.platform == "linux" else "another process is"
        other.communicate()
    assert str(caught.value) == (
        f"{index}/catalog.db cannot be written: database is locked - {holder} writing to it: wait until it is done; "
        "on a network share, only where that has locks"
    )


def test_a_damaged_page(index: Path) -> None:
    """Only here a backup is the cure."""
    with (index / "catalog.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 200_000)
    with pytest.raises(CatalogError, match=r"database disk image is malformed - restore it from a backup"):
        e2vsearch.open(index).close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE segment SET recording_id = 99 WHERE id = 5",
        "UPDATE recording SET id = 99 WHERE id = 2",
        "UPDATE segment SET id = 99 WHERE id = 5",
    ],
)
def test_a_row_that_is_lost(index: Path, damage: str) -> None:
    """A bit of its number was flipped: an answer without it would be wrong in silence."""
    with e2vsearch.open(index) as collection:
        assert len(collection.query("seg:1", by="segment", k=99, include_self=True)) == 12
        with closing(sqlite3.connect(index / "catalog.db")) as connection:
            connection.execute(damage)
            connection.commit()
        with pytest.raises(
            CatalogError, match=r"it is damaged - restore it from a backup|the stored vector of seg:5 is damaged"
        ):
            collection.query("seg:1", by="segment", k=99, include_self=True)


def test_a_row_that_was_removed(index: Path) -> None:
    with e2vsearch.open(index) as collection:
        ranking = Ranking([1, 5], [1, 2], [1.0, 0.5], [1.0, 0.5], 12, True)
        assert len(fetch_hits(collection.catalog, ranking)) == 2
        collection.remove("call:2")
        assert [hit.segment for hit in fetch_hits(collection.catalog, ranking)] == ["seg:1"]


def test_a_folder_that_cannot_be_made(made: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").write_text("")
    for words in (("ingest", made.parent / "calls", "--encoder", "fake"), ("db", "upgrade")):
        ran = run(*words, "--index", tmp_path / "file" / "x")
        line = f"{tmp_path}/file/x cannot be written: Not a directory - a part of that path is a file"
        assert (ran.code, ran.err) == (1, f"e2vsearch: {line}: choose another place\n")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a tmpfs, which root may on Linux")
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("mount -o remount,ro m", "unable to open database file - the folder is read-only"),
        ("dd if=/dev/zero of=m/fill bs=4k 2> /dev/null", "disk I/O error - the disk is full"),
    ],
    ids=["read-only", "full"],
)
def test_a_real_file_system(made: Path, tmp_path: Path, fault: str, cause: str) -> None:
    program = f"{sys.executable} -m e2vsearch"
    lines = (
        f"mkdir m && mount -t tmpfs -o size=8m tmpfs m && cp -r {made} m/index || exit 77",
        fault,
        f"{program} query seg:1 --index m/index --format json > found || exit 1",
        f"{program} remove call:1 --yes --index m/index 2> refused",
    )
    script = "\n".join(lines)
    ran = subprocess.run(["unshare", "-m", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    if ran.returncode == 77 or "unshare" in ran.stderr:
        pytest.skip(f"no file system may be mounted here: {ran.stderr}")
    assert ran.returncode == 1, ran.stderr
    assert "seg:" in (tmp_path / "found").read_text(), ran.stderr
    assert cause in (tmp_path / "refused").read_text()


def test_a_damaged_schema(index: Path) -> None:
    """SQLite quotes it in its message, and the driver cannot decode that where it is no text any more."""
    content = (index / "catalog.db").read_bytes()
    at = content.index(b"CREATE TABLE space") + len(b"CREATE TABLE ")
    for offset in range(12):
        damaged = bytearray(content)
        damaged[at + offset] ^= 0x80
        (index / "catalog.db").write_bytes(damaged)
        with pytest.raises(CatalogError) as caught, e2vsearch.open(index) as collection:
            collection.query("seg:1")
        assert "malformed" in str(caught.value) or "no such" in str(caught.value), offset
        assert len(str(caught.value).splitlines()) == 1
