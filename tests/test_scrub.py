"""The daily check of a service's database: what no read would notice is found, said, counted and mended."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from small_collection import make_collection

import e2vsearch
from e2vsearch.catalog.database import locate
from e2vsearch.catalog.repair import repair
from e2vsearch.scrub import STAMP, Scrub

INDEX = "ix_recording_metadata_key_number"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return the folder of a collection."""
    return make_collection(tmp_path)


def hide_rows(place: Path) -> None:
    """Take a row out of an index of the metadata, as a bit that changed would: a filter no longer finds it."""
    with e2vsearch.open(place, encoder="fake") as collection:
        file = Path(str(collection.location.url.database))
    database = sqlite3.connect(file)
    (sql,) = database.execute(
        "SELECT sql FROM sqlite_master WHERE name = 'ix_recording_metadata_key_number'"
    ).fetchone()
    database.execute("PRAGMA writable_schema = ON")
    database.execute(
        "UPDATE sqlite_master SET sql = sql || ' WHERE rowid > 1' WHERE name = 'ix_recording_metadata_key_number'"
    )
    database.commit()
    database.close()
    database = sqlite3.connect(file)
    database.execute("REINDEX ix_recording_metadata_key_number")
    database.execute("PRAGMA writable_schema = ON")
    database.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'ix_recording_metadata_key_number'", (sql,))
    database.commit()
    database.close()


def scrub_of(place: Path, **times: float) -> Scrub:
    return Scrub(locate(place), place, **times)


@pytest.mark.slow
def test_what_no_read_would_notice_is_found_and_mended(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert scrub_of(place).look() == []
    hide_rows(place)
    with caplog.at_level(logging.WARNING, "e2vsearch.scrub"):
        faults = scrub_of(place).look()
    assert f"file: row 1 missing from index {INDEX} - e2vsearch db verify --repair" in faults  # not always first
    assert [each.getMessage() for each in caplog.records] == [f"scrub: the database is damaged, {f}" for f in faults]
    with e2vsearch.open(place, encoder="fake") as collection:
        repair(collection.catalog, collection.index.copies)
    assert scrub_of(place).look() == []


def test_it_looks_once_a_day_on_one_machine(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = threading.Event()
    times: list[float] = []

    def look(self: Scrub) -> list[str]:
        times.append(1)
        looked.set()
        return ["file: x - y"]

    monkeypatch.setattr(Scrub, "look", look)
    scrub = scrub_of(place, first_s=0)
    with scrub.running():
        assert looked.wait(10)
    assert scrub.faults == ["file: x - y"]
    stamp = place / STAMP
    assert stamp.exists()
    looked.clear()
    other = scrub_of(place, first_s=0)
    assert 0 < other._look_when_due() <= 86_400  # not due
    os.utime(stamp, (1, 1))
    assert other._look_when_due() == 86_400
    assert (len(times), other.faults) == (2, ["file: x - y"])


def test_a_look_ends_with_the_service(place: Path) -> None:
    """A look takes minutes on a large collection; nobody waits for it at the end."""
    scrub = scrub_of(place, first_s=0)
    with scrub.running():
        while not scrub._process:
            threading.Event().wait(0.001)
    assert not (place / STAMP).exists()  # so that the next start looks


@pytest.mark.slow
def test_a_collection_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no collection in"):
        scrub_of(tmp_path / "nothing").look()


@pytest.mark.parametrize("name", ["postgresql://user:secret@host/calls", "calls?100%25"])
def test_a_password_and_a_strange_name_reach_the_process(name: str, tmp_path: Path) -> None:
    index = Scrub(locate(name), tmp_path)._index
    assert index == (
        name.replace("postgresql:", "postgresql+psycopg:") if "://" in name else str(Path(name).absolute())
    )
