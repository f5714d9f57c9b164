"""Retention: recordings older than the policy allows are forgotten, at once and by every door that stays open."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from made_calls import new_recording

from e2vsearch import retention
from e2vsearch.catalog.rows import NewSegment
from e2vsearch.catalog.writer import Catalog
from e2vsearch.collection import Collection
from e2vsearch.errors import CatalogError, SettingsError
from e2vsearch.index import Index
from e2vsearch.playback import Playback


def parts(collection: Collection) -> tuple[Catalog, Index, Playback]:
    return collection.catalog, collection.index, collection.playback


def test_retention_forgets_what_is_older_and_says_how_many(
    collection: Collection, caplog: pytest.LogCaptureFixture
) -> None:
    old = datetime.now(UTC) - timedelta(days=91)
    vector = np.arange(16, dtype=np.float32)
    for number, day in enumerate((old, old, old + timedelta(days=2))):
        collection.catalog.store(new_recording(number, (NewSegment(0, 0.0, 1.0, vector + number),), day))
    collection.index.build()
    with pytest.raises(SettingsError, match="retention_days"):
        collection.forget(expired=True)
    with caplog.at_level(logging.INFO, "e2vsearch"):
        assert retention.expire(*parts(collection)) == 0
        collection.set_policy(retention_days=90)
        with retention.running(*parts(collection)):
            pass  # once at least
        assert retention.expire(*parts(collection)) == 0
    assert [each.getMessage() for each in caplog.records if each.name == "e2vsearch.retention"] == [
        "retention: forgot 2 recordings older than 90 days"
    ]
    assert {each.name for each in collection.recordings()} == {"voice0", "voice1", "voice2", "pair", "2"}
    assert collection.index.generations_with(None) == []
    assert collection.forget(older_than=timedelta(days=80)).audio == ("/calls/2.wav",)


def test_retention_renews_an_index_of_what_was_removed_elsewhere(collection: Collection) -> None:
    collection.set_policy(retention_days=90)
    collection.index.build()
    collection.catalog.remove([1])
    assert len(collection.index.generations_with(None)) == 1
    retention.expire(*parts(collection))
    assert collection.index.generations_with(None) == []
    assert collection.index.status().kind == "flat"


def test_one_process_at_a_time_does(collection: Collection) -> None:
    collection.set_policy(retention_days=1)
    collection.catalog.store(new_recording(7, (), datetime.now(UTC) - timedelta(days=2)))
    folder = collection.index.folder("raw")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / retention.LOCK):
        assert retention.expire(*parts(collection)) == 0
    assert retention.expire(*parts(collection)) == 1


def test_what_fails_is_logged_and_ends_nothing(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> int:
        raise CatalogError("the disk is full - free some")

    monkeypatch.setattr(retention, "expire", full)
    with retention.running(*parts(collection)):
        pass
    assert "retention: not done, the disk is full - free some" in caplog.text


@pytest.mark.parametrize("door", ["watch", "work", "serve"])
def test_every_door_that_stays_open_runs_it(collection: Collection, tmp_path: Path, door: str) -> None:
    collection.set_policy(retention_days=1)
    collection.catalog.store(new_recording(7, (), datetime.now(UTC) - timedelta(days=2)))
    stop = threading.Event()
    stop.set()
    if door == "watch":
        (tmp_path / "inbox").mkdir()
        collection.watch(tmp_path / "inbox", stop=stop)
    elif door == "work":
        collection.queue.work(stop=stop)
    else:
        testclient = pytest.importorskip("fastapi.testclient", reason="the 'serve' extra is not installed")
        from e2vsearch.server import create_app
        from e2vsearch.server.options import ServiceOptions

        with testclient.TestClient(create_app(collection, ServiceOptions())):
            pass
    assert "7" not in {each.name for each in collection.recordings()}
