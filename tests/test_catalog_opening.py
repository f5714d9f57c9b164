"""Opening a catalog, on SQLite and on a real Postgres: migrations, schema versions, and URLs that cannot be."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from databases import open_connections
from sqlalchemy import Connection, Engine, MetaData, event, insert, inspect, text

from e2vsearch.catalog import upgrade
from e2vsearch.catalog.database import connect
from e2vsearch.catalog.schema import SCHEMA_REVISION, Base, HeaderRow, RecordingRow, SegmentRow, SpaceRow, VectorRow
from e2vsearch.catalog.text_search import put
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import CatalogError, NoCollection, SchemaTooNew, SchemaTooOld


def test_migrations_make_exactly_the_models(empty_database_url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = connect(empty_database_url)
    upgrade.upgrade(engine)
    upgrade.upgrade(engine)  # a second time changes nothing
    with engine.connect() as connection:
        # the full-text indexes, which no model can say; FTS5 makes several tables
        options = {
            "compare_type": True,
            "include_name": lambda name, *_: not re.search("segment(_text)?_words", str(name)),
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
    assert upgrade.current(engine) == SCHEMA_REVISION
    assert [step.revision for step in upgrade.history(engine)][-1] == SCHEMA_REVISION
    assert all(step.applied for step in upgrade.history(engine))
    engine.dispose()


def test_migrations_can_be_taken_back(empty_database_url: str) -> None:
    from alembic import command

    engine = connect(empty_database_url)
    upgrade.upgrade(engine)
    with engine.begin() as connection:
        config = upgrade._config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()


def test_what_an_older_version_stored_is_kept(empty_database_url: str) -> None:
    """As 0.1's first schema held it: refused with the cure, and whole after the cure."""
    from alembic import command

    engine = connect(empty_database_url)
    config = upgrade._config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        now = datetime(2024, 3, 1, tzinfo=UTC)
        rows: list[tuple[type[Base], dict[str, object]]] = [
            (SpaceRow, {"id": 1, "encoder": "fake", "revision": "1", "dim": 4, "labels": ["low", "high"]}),
            (HeaderRow, {"id": 1, "uuid": "a-uuid", "space_id": 1, "created_at": now}),
            (RecordingRow, {"id": 1, "space_id": 1, "content_sha256": "0" * 64, "uri": "a.wav", "name": "a"}),
            (SegmentRow, {"id": 1, "recording_id": 1, "channel": 0, "start_s": 0.5, "end_s": 1.5, "label": "low"}),
            (VectorRow, {"segment_id": 1, "vector": np.arange(4, dtype="<f4").tobytes()}),
        ]
        rows[0][1].update(projection="raw", source="fake", created_at=now)
        rows[2][1].update(size_bytes=1, mtime_ns=1, recorded_at=now, added_at=now, duration_s=2.0, channels=1)
        rows[2][1].update(sampling_rate_hz=8000, format="WAV", note="")
        for table, values in rows:
            insert_then(connection, table, [values])
    with pytest.raises(SchemaTooOld, match="e2vsearch db upgrade"):
        Catalog.open(empty_database_url)
    upgrade.upgrade(engine)
    engine.dispose()
    with closing(Catalog.open(empty_database_url)) as catalog:
        ((_, segment),) = catalog.segments()
        assert (segment.id, segment.emotion, segment.text, segment.label) == ("seg:1", "low", None, None)
        assert catalog.feed().fetch(np.array([1])).vectors.tolist() == [[0.0, 1.0, 2.0, 3.0]]
        put(catalog, 1, {1: "now it has a transcript"})
        assert next(catalog.segments([1]))[1].text == "now it has a transcript"


def insert_then(connection: Connection, table: type[Base], rows: list[dict[str, object]]) -> None:
    """Insert rows as the database of a former revision takes them: without what the models have had since."""
    reflected = MetaData()
    reflected.reflect(connection, only=[table.__tablename__])
    connection.execute(insert(reflected.tables[table.__tablename__]), rows)


@pytest.mark.slow
def test_stored_segments_are_named_anew(empty_database_url: str) -> None:
    """Revision 0006: by scores and length, their levels not being known; and back to the likeliest class."""
    from alembic import command

    engine = connect(empty_database_url)
    config = upgrade._config()
    now = datetime(2024, 3, 1, tzinfo=UTC)
    made = [([0.7, 0.2, 0.1], 2.0), ([0.4, 0.3, 0.3], 2.0), ([0.1, 0.1, 0.8], 0.5), (None, 2.0)]
    many = [([0.0, 1.0, 0.0], 1.5)] * 5000  # more than are read at once
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
        space = {"id": 1, "encoder": "fake", "revision": "1", "dim": 4, "labels": ["angry", "neutral", "sad"]}
        recording = {"id": 1, "space_id": 1, "content_sha256": "0" * 64, "uri": "a.wav", "name": "a", "size_bytes": 1}
        recording |= {"mtime_ns": 1, "recorded_at": now, "added_at": now, "duration_s": 2.0, "channels": 1}
        about = {"recording_id": 1, "channel": 0, "start_s": 3.0}
        rows: list[tuple[type[Base], list[dict[str, object]]]] = [
            (SpaceRow, [space | {"projection": "raw", "source": "fake", "created_at": now}]),
            (HeaderRow, [{"id": 1, "uuid": "a-uuid", "space_id": 1, "created_at": now}]),
            (RecordingRow, [recording | {"sampling_rate_hz": 8000, "format": "WAV", "note": ""}]),
            (SegmentRow, [about | _as_before(number, *each) for number, each in enumerate(made + many, start=1)]),  # type: ignore[operator]
        ]
        for table, values in rows:
            insert_then(connection, table, values)
        command.upgrade(config, "head")
    with closing(Catalog.open(empty_database_url)) as catalog:
        segments = [segment for _, segment in catalog.segments()]
    found = [(each.emotion, each.emotion_score, each.level_db) for each in segments]
    assert found[:4] == [
        ("angry", pytest.approx(0.7), None),
        ("unsure", None, None),
        ("too short", None, None),
        ("as it was", 0.25, None),  # nothing to go by
    ]
    assert found[4:] == [("neutral", 1.0, None)] * 5000
    affect = [(each.arousal, each.valence) for each in segments[:5]]
    assert affect[0] == (pytest.approx((1.386) / 2), pytest.approx((1 - 0.42) / 2))  # type: ignore[comparison-overlap]
    assert affect[3:] == [(None, None), (0.5, 0.5)]  # type: ignore[unreachable]
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0005")
        back = connection.execute(text("SELECT label, label_score FROM segment WHERE id < 6 ORDER BY id")).all()
        assert "arousal" not in {column["name"] for column in inspect(connection).get_columns("segment")}
    assert [row.label for row in back] == ["angry", "angry", "sad", "as it was", "neutral"]
    assert [row.label_score for row in back] == pytest.approx([0.7, 0.4, 0.8, 0.25, 1.0])
    engine.dispose()


def _as_before(number: int, scores: list[float] | None, seconds: float) -> dict[str, object]:
    packed = None if scores is None else np.array(scores, "<f4").tobytes()
    return {"id": number, "end_s": 3.0 + seconds, "label": "as it was", "label_score": 0.25, "scores": packed}


def test_a_disk_that_is_full_while_the_tables_are_made_is_told_in_one_line(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    made = Catalog.open(f"sqlite:///{tmp_path / 'whole.db'}", create=True)
    with closing(made), made.reading() as connection:
        whole: int = connection.execute(text("PRAGMA page_count")).scalar_one()
    for pages in (2, whole // 4, whole // 2, whole - 2):

        def limit(connection: Any, _: Any, pages: int = pages) -> None:
            connection.execute(f"PRAGMA max_page_count = {pages}")

        event.listen(Engine, "connect", limit)
        try:
            with pytest.raises(CatalogError, match=r"catalog\.db cannot be written: .* full - the disk is full"):
                Catalog.open(url, create=True)
        finally:
            event.remove(Engine, "connect", limit)
    Catalog.open(url, create=True).close()


@pytest.mark.parametrize(
    ("revision", "error", "says"), [("0000", SchemaTooOld, "db upgrade"), ("9999", SchemaTooNew, "pip install -U")]
)
def test_another_schema_is_refused(database_url: str, revision: str, error: type[CatalogError], says: str) -> None:
    Catalog.open(database_url, create=True).close()
    engine = connect(database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    with pytest.raises(error, match=says):
        Catalog.open(database_url, create=True)
    engine.dispose()


def test_no_collection_yet(tmp_path: Path) -> None:
    with pytest.raises(NoCollection, match="e2vsearch ingest"):
        Catalog.open(f"sqlite:///{tmp_path}/catalog.db")
    assert list(tmp_path.iterdir()) == []
    catalog = Catalog.open(f"sqlite:///{tmp_path}/catalog.db", create=True)
    with pytest.raises(NoCollection, match="no recordings yet"):
        catalog.feed()
    catalog.close()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(CatalogError, match=r"file is not a database - restore it from a backup"):
        Catalog.open(f"sqlite:///{tmp_path}/catalog.db")


@pytest.mark.slow
def test_processes_may_make_one_collection_at_the_same_moment(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/catalog.db"
    code = f"from e2vsearch.catalog.writer import Catalog; print(Catalog.open({url!r}, create=True).collection_id)"
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = {process.communicate(timeout=120)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert len(said) == 1


def test_tables_alone_are_no_collection(empty_database_url: str) -> None:
    engine = connect(empty_database_url)
    upgrade.upgrade(engine)
    engine.dispose()
    with pytest.raises(NoCollection, match="no collection yet"):
        Catalog.open(empty_database_url)
    first, second = Catalog.open(empty_database_url, create=True), Catalog.open(empty_database_url)
    assert first.collection_id == second.collection_id
    first.close()
    second.close()


def test_opening_writes_nothing(database_url: str) -> None:
    """A reader must not wait for a writer, nor need the right to write."""
    Catalog.open(database_url, create=True).close()
    engine = connect(database_url)
    with engine.execution_options(e2vsearch_writes=True).begin() as connection:
        connection.execute(text("UPDATE collection SET created_at = created_at"))
        Catalog.open(database_url).close()  # while another holds the write lock
    engine.dispose()


def test_a_connection_in_use_is_closed_after_the_catalog(database_url: str) -> None:
    with open_connections() as left:
        catalog = Catalog.open(database_url, create=True)
        with catalog.reading() as connection:
            catalog.close()
            assert connection.execute(text("SELECT 1")).scalar_one() == 1
            assert len(left) == 1
        assert left == []
        assert list(catalog.recordings()) == []  # it opens others
        catalog.close()
        assert left == []


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "sqlite:////dev/null/x.db"])
def test_urls_that_cannot_be(url: str) -> None:
    with pytest.raises(CatalogError):
        Catalog.open(url, create=True)


def test_a_server_that_does_not_answer() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(CatalogError, match=r"cannot open postgresql://me:\*\*\*@127.0.0.1:1/x"):
        Catalog.open("postgresql://me:secret@127.0.0.1:1/x")
