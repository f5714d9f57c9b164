"""Opening a collection: where it is, what is made of it, and the settings it is opened with."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from databases import open_connections
from made import RATE_HZ
from sqlalchemy.exc import IntegrityError

import e2vsearch
from e2vsearch.catalog.database import locate
from e2vsearch.collection import Collection
from e2vsearch.errors import NoCollection, SettingsError
from e2vsearch.speech import SpeechOptions


def test_places(tmp_path: Path) -> None:
    assert locate(tmp_path / "x").folder == tmp_path / "x"
    place = locate("postgresql://me:secret@host/x")
    assert (place.folder, place.named) == (None, "postgresql://me:***@host/x")
    assert place.cached(str(tmp_path), "uuid") == tmp_path / "uuid"
    (tmp_path / "file").write_text("x")
    with pytest.raises(SettingsError, match="is a file"):
        locate(tmp_path / "file")
    with pytest.raises(e2vsearch.E2vsearchError, match="mysql is not supported"):
        locate("mysql://host/x")


def test_a_folder_may_have_any_name(tmp_path: Path, calls: Path) -> None:
    folder = tmp_path / "50% calls? #1 ünïcode"
    with e2vsearch.open(folder, encoder="fake", create=True) as collection:
        collection.ingest(calls / "voice0.wav")
    assert (folder / "catalog.db").is_file()
    with e2vsearch.open(folder, create=True) as collection:
        assert collection.status().counts.recordings == 1


def test_opening_what_is_not_there_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoCollection, match="e2vsearch ingest"):
        e2vsearch.open(tmp_path / "index", create=False)
    assert list(tmp_path.iterdir()) == []


def test_opening_and_ingesting_makes_a_collection(tmp_path: Path, calls: Path) -> None:
    collection = e2vsearch.open(tmp_path / "new" / "index", encoder="fake", create=True)
    with pytest.raises(NoCollection, match="no recordings yet"):
        collection.query(np.ones(16, np.float32))
    assert collection.ingest(calls / "voice0.wav").stored == 1
    assert len(collection.query("seg:1", include_self=True)) == 1
    collection.close()


def test_settings_come_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from e2vsearch import settings

    assert settings.load(folder=tmp_path).index == "index"
    (tmp_path / "e2vsearch.toml").write_text('index = "from file"\nworkers = 3\n')
    assert settings.load(folder=tmp_path).index == "from file"
    monkeypatch.setenv("E2VSEARCH_INDEX", "from environment")
    assert settings.load(folder=tmp_path).index == "from environment"
    assert settings.load(folder=tmp_path, index="from flag") == settings.Settings(index="from flag", workers=3)
    for text, says in (("indx = 'x'", "did you mean index"), ("workers = 'many'", "whole number"), ("x", "TOML")):
        (tmp_path / "e2vsearch.toml").write_text(text)
        with pytest.raises(SettingsError, match=says):
            settings.load(folder=tmp_path)


def test_speech_options_are_the_collections(calls: Path, tmp_path: Path) -> None:
    options = SpeechOptions(max_s=2.5)
    with e2vsearch.open(tmp_path / "index", encoder="fake", speech=options, create=True) as collection:
        collection.ingest(calls / "voice0.wav")
        lengths = [segment.end_s - segment.start_s for segment in collection.segments("call:1")]
        assert len(lengths) > 3
        assert max(lengths) <= 2.5 + 1 / RATE_HZ


class _Broken(Collection):
    def __init__(self, *_: Any, **__: Any) -> None:
        raise ZeroDivisionError


def _one_that_is_full(folder: Path) -> None:
    e2vsearch.open(folder, create=True).close()
    with closing(sqlite3.connect(folder / "catalog.db")) as connection, connection:
        connection.execute("CREATE TRIGGER full BEFORE UPDATE ON collection BEGIN SELECT RAISE(ABORT, 'full'); END")


def test_what_cannot_be_opened_leaves_no_connection(tmp_path: Path) -> None:
    _one_that_is_full(tmp_path)
    with open_connections() as left:
        with pytest.raises(SettingsError, match="there is no engine 'none'"):
            e2vsearch.open(tmp_path, engine="none")
        with pytest.raises(IntegrityError, match="full"):
            e2vsearch.open(tmp_path, engine="milvus", engine_url="http://127.0.0.1:1")
        with pytest.raises(ZeroDivisionError):
            _Broken.open(tmp_path)
        assert left == []
        with e2vsearch.open(tmp_path):
            assert len(left) == 1
        assert left == []
