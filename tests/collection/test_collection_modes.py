"""Nobody but its owner reads a collection, nor what is written from it, whatever the umask is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Run
from made_calls import make_calls

import e2vsearch
from e2vsearch.vectors.engine import IndexOptions

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0o000)
    try:
        yield
    finally:
        os.umask(before)


def wide(folder: Path) -> list[str]:
    """What others than the owner may read, enter or write, as ``ls -l`` shows it."""
    return [
        f"{stat.filemode(each.stat().st_mode)} {each.relative_to(folder.parent)}"
        for each in (folder, *folder.rglob("*"))
        if each.stat().st_mode & 0o077
    ]


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[e2vsearch.Collection]:
    calls = tmp_path / "calls"
    calls.mkdir()
    options = IndexOptions(kind="flat")
    with e2vsearch.open(tmp_path / "new" / "index", encoder="fake", create=True, index_options=options) as collection:
        collection.ingest(make_calls(calls))
        yield collection


def test_a_collection_is_its_owners(collection: e2vsearch.Collection) -> None:
    collection.index.build()
    collection.index.tune(1.0)
    collection.query("seg:1")
    folder = collection.location.folder
    assert folder is not None
    names = {each.name for each in folder.rglob("*")}
    assert {"catalog.db", "catalog.db-wal", "catalog.db-shm", "CURRENT", "vectors.f32", "manifest.json"} <= names
    assert wide(folder.parent) == []


def test_what_is_written_from_it_is_as_well(collection: e2vsearch.Collection, tmp_path: Path, run: Run) -> None:
    collection.export(tmp_path / "out" / "exported")
    collection.backup(tmp_path / "out" / "backup.db")
    place, voice = str(collection.location.folder), str(tmp_path / "calls" / "voice0.wav")
    for arguments in (
        ("query", "seg:1", "--index", place, "-o", tmp_path / "out" / "hits.csv"),
        ("embed", voice, "--encoder", "fake", "-o", tmp_path / "out" / "embedded"),
    ):
        ran = run(*arguments)
        assert ran.code == 0, ran.err
    assert len(list((tmp_path / "out").rglob("*"))) >= 10
    assert wide(tmp_path / "out") == []


def test_a_file_that_is_there_keeps_its_mode(collection: e2vsearch.Collection, tmp_path: Path, run: Run) -> None:
    target = tmp_path / "hits.json"
    target.touch(0o644)
    assert run("query", "seg:1", "--index", str(collection.location.folder), "-o", target).code == 0
    assert target.stat().st_mode & 0o777 == 0o644
    assert target.stat().st_size > 0


def test_doctor_warns_of_one_that_others_may_read_and_changes_nothing(
    collection: e2vsearch.Collection, run: Run
) -> None:
    folder = collection.location.folder
    assert folder is not None

    def row() -> dict[str, object]:
        (found,) = [
            each for each in run("doctor", "--index", folder, "-f", "jsonl").rows if each["name"] == "file modes"
        ]
        return found

    assert row() == {"name": "file modes", "ok": True, "needed": False, "found": "its owner's alone", "cure": ""}
    folder.chmod(0o755)
    (folder / "catalog.db").chmod(0o644)
    told = row()
    assert (told["ok"], told["cure"]) == (False, f"chmod -R go-rwx {folder}")
    assert told["found"] == f"others may read or enter {folder}, and 1 more"
    assert folder.stat().st_mode & 0o777 == 0o755
