"""Revisions on SQLite and on a real Postgres: a full collection of a former schema is upgraded, and back."""

from __future__ import annotations

import shutil
import zlib
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, MetaData, inspect, text

from e2vsearch.catalog import labels, maps, named_vectors, projections, queue, recordings, upgrade
from e2vsearch.catalog.database import connect
from e2vsearch.catalog.rows import Lease
from e2vsearch.catalog.schema import SCHEMA_REVISION
from e2vsearch.catalog.text_search import search_text
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import SchemaTooOld
from e2vsearch.types import NamedVectors

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=36500)
TABLES = {"side": "named_vector_set", "side_vector": "named_vector"}
COLUMNS = {
    ("space", "golden"): "reference_embedding",
    ("side_vector", "side_id"): "set_id",
    ("job", "holder"): "worker",
}
STATES = {"queued": "queued", "taken": "leased", "parked": "dead_letter"}

Rows = dict[str, list[dict[str, Any]]]


def vector(*numbers: float) -> bytes:
    return np.array(numbers, "<f4").tobytes()


def former_rows() -> Rows:
    """Rows of every table, as revision 0006 has them; several ids are missing, for their rows were deleted."""
    space = {"id": 2, "encoder": "fake", "revision": "r", "dim": 4, "labels": ["angry", "neutral"], "projection": "raw"}
    recording = {"space_id": 2, "size_bytes": 1, "mtime_ns": 1, "recorded_at": NOW, "added_at": NOW, "channels": 1}
    recording |= {"duration_s": 9.0, "sampling_rate_hz": 8000, "format": "WAV", "note": ""}
    segment = {"channel": 0, "label": "angry", "label_score": 0.75, "scores": vector(0.75, 0.25)}
    segment |= {"arousal": 0.5, "valence": 0.25, "level_db": -20.0}
    job = {"priority": 0, "attempts": 0, "enqueued_at": NOW, "due_at": NOW, "holder": None, "token": None}
    job |= {"reason": None, "message": None, "details": None, "recorded_at": None}
    leased = {"state": "taken", "attempts": 1, "due_at": LATER, "holder": "here:1", "token": "t" * 32}
    parked = {"state": "parked", "attempts": 3, "due_at": None, "reason": "not-audio", "message": "c: no audio"}
    return {
        "space": [space | {"source": "fake", "created_at": NOW, "golden": vector(1, 2, 3, 4)}],
        "projection": [
            {"id": 3, "name": "mine", "kind": "head", "revision": "x", "space_id": 2, "parameters": b"\0\1"}
            | {"report": {"accuracy": 0.5}, "created_at": NOW}
        ],
        "collection": [{"id": 1, "uuid": "a-uuid", "space_id": 2, "created_at": NOW, "projection_id": 3}],
        "recording": [
            recording | {"id": at, "content_sha256": str(at) * 64, "uri": f"/{at}.wav", "name": f"call {at}"}
            for at in (2, 5)
        ],
        "recording_metadata": [{"recording_id": 2, "key": "agent", "text": "Kïm", "number": None}],
        "segment": [
            segment | {"id": at, "recording_id": of, "start_s": at + 0.5, "end_s": at + 2.0}
            for at, of in ((3, 2), (4, 2), (8, 5))
        ],
        "vector": [{"segment_id": at, "vector": vector(at, 1, 0, 0)} for at in (3, 4, 8)],
        "change": [
            {"seq": seq, "xid": 10 + seq, "op": op, "segment_id": at, "recording_id": of}
            for seq, (op, at, of) in enumerate((("+", 3, 2), ("+", 4, 2), ("+", 7, 3), ("-", 7, 3), ("+", 8, 5)), 1)
        ],
        "ingest_failure": [
            {"id": 6, "uri": "/c.wav", "reason": "not-audio", "message": "m", "attempts": 3, "failed_at": NOW}
        ],
        "segment_text": [{"segment_id": 4, "text": "A refund!", "words": "a refund"}],
        "label_example": [
            {"id": 4, "label": "hesitant", "segment_id": 3, "vector": None, "source": "seg:3", "speaker": "Kim"}
            | {"created_at": NOW},
            {"id": 7, "label": "calm", "segment_id": None, "vector": vector(1, 1, 1, 1), "source": "/x.wav@0-1"}
            | {"speaker": None, "created_at": NOW},
        ],
        "classifier": [
            {"id": 2, "name": "mood", "version": 1, "space_id": 2, "labels": ["calm", "hesitant"], "parameters": b"p"}
            | {"report": {}, "created_at": NOW, "watermark": 5, "min_score": 0.5}
        ],
        "segment_label": [{"segment_id": 8, "classifier_id": 2, "label": "calm", "score": 0.9}],
        "map": [
            {"id": 4, "name": "m", "space_id": 2, "by": "segment", "filter": None, "options": {"n": 1}}
            | {
                "clusters": [{"calls": 2, "moments": [{"text": 'she said "moments": and "calls": 3'}]}],
                "created_at": NOW,
            }
        ],
        "map_point": [
            {"map_id": 4, "item_id": at, "x": 0.5, "y": 1.5, "cluster": 0, "strength": 1.0, "placed": False}
            for at in (3, 8)
        ],
        "side": [
            {"id": 2, "name": "text", "dim": 3, "created_at": NOW},
            {"id": 5, "name": "screen", "dim": 2, "created_at": NOW},
        ],
        "side_vector": [
            {"side_id": 2, "segment_id": 3, "vector": vector(1, 2, 3)},
            {"side_id": 2, "segment_id": 8, "vector": vector(4, 5, 6)},
            {"side_id": 5, "segment_id": 3, "vector": vector(7, 8)},
        ],
        "job": [
            job | {"id": 3, "uri": "/a.wav", "state": "queued", "details": {"agent": "Lee"}, "recorded_at": NOW},
            job | {"id": 4, "uri": "/b.wav"} | leased,
            job | {"id": 6, "uri": "/c.wav"} | parked,
        ],
    }


def renamed(rows: Rows) -> Rows:
    """The same rows in the words of revision 0007."""
    found = {
        TABLES.get(table, table): [{COLUMNS.get((table, key), key): value for key, value in row.items()} for row in of]
        for table, of in rows.items()
    }
    for row in found["job"]:
        row["state"] = STATES[row["state"]]
    for row in found["map"]:
        row["clusters"] = [
            {{"calls": "recordings", "moments": "segments"}[key]: value for key, value in each.items()}
            for each in row["clusters"]
        ]
    return found


def alembic(engine: Engine, step: str, revision: str) -> None:
    from alembic import command

    config = upgrade._config()
    with engine.execution_options(e2vsearch_writes=True).begin() as connection:
        config.attributes["connection"] = connection
        getattr(command, step)(config, revision)


def stored(connection: Connection) -> Rows:
    """Every row of every table, as the database itself describes the tables."""
    metadata = MetaData()
    metadata.reflect(connection)
    return {
        table.name: [dict(row) for row in connection.execute(table.select().order_by(*table.primary_key)).mappings()]
        for table in metadata.sorted_tables
        if table.name != "alembic_version" and not table.name.startswith("segment_words")
    }


def _plain(part: Any) -> str:
    options = part.get("dialect_options")
    return str({**part, "dialect_options": {key: str(value) for key, value in options.items()}} if options else part)


def schema(engine: Engine) -> dict[str, Any]:
    """Columns, keys, constraints and indexes of every table, by name."""
    found: dict[str, Any] = {}
    inspector = inspect(engine)
    for table in inspector.get_table_names():
        parts = (
            [{**column, "type": str(column["type"])} for column in inspector.get_columns(table)],
            [inspector.get_pk_constraint(table)],
            inspector.get_foreign_keys(table),
            inspector.get_unique_constraints(table),
            inspector.get_check_constraints(table),
            inspector.get_indexes(table),
        )
        found[table] = [sorted(map(_plain, part)) for part in parts]
        if engine.dialect.name == "postgresql":
            with engine.connect() as connection:
                query = text("SELECT indexdef FROM pg_indexes WHERE tablename = :table ORDER BY 1")
                found[table].append(connection.execute(query, {"table": table}).scalars().all())
                storage = text(
                    "SELECT attname, attstorage FROM pg_attribute WHERE attrelid = CAST(:table AS regclass) "
                    "AND attnum > 0 AND NOT attisdropped ORDER BY 1"
                )
                found[table].append([tuple(row) for row in connection.execute(storage, {"table": table})])
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            found["triggers"] = connection.execute(
                text("SELECT sql FROM sqlite_master WHERE type IN ('trigger', 'index') ORDER BY 1")
            ).all()
    return found


@pytest.fixture
def former(empty_database_url: str) -> Any:
    """A database of revision 0006 with rows in every table."""
    engine = connect(empty_database_url)
    alembic(engine, "upgrade", "0006")
    rows = former_rows()
    with engine.begin() as connection:
        metadata = MetaData()
        metadata.reflect(connection)
        for table, of in rows.items():
            connection.execute(metadata.tables[table].insert(), of)
        if engine.dialect.name == "postgresql":  # as if the rows had been inserted one after another
            for table in metadata.tables.values():  # type: ignore[assignment]
                if "id" in table.c and table.name != "collection" and rows.get(table.name):  # type: ignore[attr-defined]
                    last = max(row["id"] for row in rows[table.name])  # type: ignore[attr-defined]
                    sequence = {"name": f"{table.name}_id_seq", "last": last}  # type: ignore[attr-defined]
                    connection.execute(text("SELECT setval(CAST(:name AS regclass), :last)"), sequence)
            connection.execute(text("SELECT setval('change_seq_seq', 5)"))
        # the last set and the last job were deleted: their ids must not come again
        connection.execute(metadata.tables["side"].insert(), {"id": 9, "name": "x", "dim": 1, "created_at": NOW})
        connection.execute(metadata.tables["side"].delete().where(metadata.tables["side"].c.id == 9))
        gone = {**rows["job"][0], "id": 9, "uri": "/gone.wav"}
        connection.execute(metadata.tables["job"].insert(), gone)
        connection.execute(metadata.tables["job"].delete().where(metadata.tables["job"].c.id == 9))
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT setval('side_id_seq', 9), setval('job_id_seq', 9)"))
    yield engine
    engine.dispose()


def test_every_row_is_upgraded_and_comes_back(former: Engine) -> None:
    before = schema(former)
    with former.connect() as connection:
        rows = stored(connection)
    assert {table for table, of in rows.items() if of} == set(former_rows())
    alembic(former, "upgrade", "0007")
    with former.connect() as connection:
        assert stored(connection) == renamed(rows)
    alembic(former, "downgrade", "0006")
    assert schema(former) == before
    with former.connect() as connection:
        assert stored(connection) == rows


def test_every_vector_gets_its_checksum(former: Engine) -> None:
    alembic(former, "upgrade", "0008")
    with former.begin() as connection:  # more rows than are filled at a time
        metadata = MetaData()
        metadata.reflect(connection)
        row = former_rows()["segment"][0]
        segments = [row | {"id": at} for at in range(100, 1300)]
        connection.execute(metadata.tables["segment"].insert(), segments)
        vectors = [{"segment_id": each["id"], "vector": vector(each["id"], 0, 0, 1)} for each in segments]
        connection.execute(metadata.tables["vector"].insert(), vectors)
        connection.execute(metadata.tables["named_vector"].insert(), [{"set_id": 5, **each} for each in vectors])
    before = schema(former)
    with former.connect() as connection:
        rows = stored(connection)
    alembic(former, "upgrade", "0009")
    with former.connect() as connection:
        now = stored(connection)
    for table in ("vector", "named_vector"):
        assert len(now[table]) > 1200
        assert now[table] == [each | {"crc32": zlib.crc32(each["vector"])} for each in rows[table]]
    assert {name: of for name, of in now.items() if name not in ("vector", "named_vector")} == {
        name: of for name, of in rows.items() if name not in ("vector", "named_vector")
    }
    alembic(former, "downgrade", "0008")
    assert schema(former) == before
    with former.connect() as connection:
        assert stored(connection) == rows


@pytest.mark.slow
def test_every_recording_gets_its_course(former: Engine) -> None:
    alembic(former, "upgrade", "0009")
    row = former_rows()["segment"][0]
    calm, angry = {"valence": 0.5}, {"valence": 0.25}
    lines = {2: [calm] * 6 + [angry] * 6, 5: [calm] * 12}
    with former.begin() as connection:
        metadata = MetaData()
        metadata.reflect(connection)
        connection.execute(metadata.tables["segment"].delete())
        segments = [
            row | {"id": 100 * of + at, "recording_id": of, "start_s": at * 3.0, "end_s": at * 3.0 + 2.0} | each
            for of, line in lines.items()
            for at, each in enumerate(line)
        ]
        connection.execute(metadata.tables["segment"].insert(), segments)
    before = schema(former)
    with former.connect() as connection:
        rows = stored(connection)
    alembic(former, "upgrade", "0010")
    with former.connect() as connection:
        now = stored(connection)
    assert [(each["id"], each["course"]) for each in now["recording"]] == [(2, "worsening"), (5, "steady")]
    assert (now["dynamics"], now["channel_dynamics"]) == ([], [])
    alembic(former, "downgrade", "0009")
    assert schema(former) == before
    with former.connect() as connection:
        assert stored(connection) == rows


def test_the_upgraded_schema_is_that_of_a_new_collection(
    former: Engine, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    upgrade.upgrade(former)
    sqlite = former.dialect.name == "sqlite"
    new = connect(f"sqlite:///{tmp_path / 'new.db'}" if sqlite else request.getfixturevalue("postgres_database")())
    upgrade.upgrade(new)
    assert schema(former) == schema(new)
    new.dispose()


def test_a_new_file_is_what_the_migrations_come_to(tmp_path: Path) -> None:
    """``migrations/sqlite.sql`` is as it would be written now, and makes the same tables, triggers and indexes."""
    migrated, new = (connect(f"sqlite:///{tmp_path / name}.db") for name in ("migrated", "new"))
    alembic(migrated, "upgrade", "head")
    upgrade.upgrade(new)
    assert schema(new) == schema(migrated)
    with migrated.connect() as slowly, new.connect() as at_once:
        assert upgrade.snapshot(at_once) == upgrade.snapshot(slowly)
        written = (upgrade._migrations() / "sqlite.sql").read_text(encoding="utf-8")
        assert written == upgrade.snapshot(slowly), "write it anew: python migrations/snapshot.py"
        assert upgrade._current(at_once) == SCHEMA_REVISION
    for engine in (migrated, new):
        engine.dispose()


def test_a_file_made_of_a_former_snapshot_is_upgraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration without its snapshot makes a collection slower, and no worse."""
    former, new, expected = (connect(f"sqlite:///{tmp_path / name}.db") for name in ("former", "new", "expected"))
    alembic(former, "upgrade", "0008")
    with former.connect() as connection:
        former_sql = upgrade.snapshot(connection)
    upgrade.upgrade(expected)
    migrations = tmp_path / "migrations"
    shutil.copytree(upgrade._migrations(), migrations)
    (migrations / "sqlite.sql").write_text(former_sql, encoding="utf-8")
    monkeypatch.setattr(upgrade, "_migrations", lambda: migrations)
    upgrade.upgrade(new)
    assert schema(new) == schema(expected)
    for engine in (former, new, expected):
        engine.dispose()


def test_an_upgraded_collection_answers_the_same(former: Engine, empty_database_url: str) -> None:
    with pytest.raises(SchemaTooOld, match="e2vsearch db upgrade"):
        Catalog.open(empty_database_url)
    upgrade.upgrade(former)
    with closing(Catalog.open(empty_database_url)) as catalog:
        assert (catalog.collection_id, str(catalog.reference_embedding())) == ("a-uuid", "[1. 2. 3. 4.]")
        found = dict(catalog.segments())
        assert [found[at].label for at in (3, 4, 8)] == ["hesitant", None, "calm"]
        assert (found[4].text, found[8].emotion, found[8].scores["angry"]) == ("A refund!", "angry", 0.75)
        assert search_text(catalog, "refund").tolist() == [4]
        assert catalog.recordings_where("agent = Kïm") == [2]
        assert catalog.select("label = hesitant").tolist() == [3]
        assert [each.uri for each in catalog.failures()] == ["/c.wav"]
        assert [each.name for each in recordings.page(catalog, 9)] == ["call 2", "call 5"]

        changes = catalog.feed().changes_since(0)
        assert (changes.added.tolist(), changes.removed.tolist()) == ([3, 4, 8], [7])
        assert catalog.feed().fetch(np.array([8])).vectors.tolist() == [[8.0, 1.0, 0.0, 0.0]]

        assert projections.used(catalog) == ("mine", "x")
        assert [each.source for each in labels.examples(catalog)] == ["seg:3", "/x.wav@0-1"]
        assert labels.classifiers(catalog)[0].watermark == 5
        run, points = maps.load(catalog, "m") or pytest.fail("the map is lost")
        assert (run.options, points.ids.tolist()) == ({"n": 1}, [3, 8])

        screen, words = named_vectors.listed(catalog)
        assert (screen, words) == (NamedVectors("screen", 2, 1, NOW), NamedVectors("text", 3, 2, NOW))
        vectors, present = named_vectors.fetch(catalog, words, np.array([8, 4, 3]))
        assert (vectors.tolist(), present.tolist()) == ([[4, 5, 6], [0, 0, 0], [1, 2, 3]], [True, False, True])
        catalog.remove([5])
        assert named_vectors.get(catalog, "text").segments == 1  # the foreign key is there
        named_vectors.attach(catalog, "new", np.array([4]), np.ones((1, 2)))

        state = queue.state(catalog)
        assert (state.depth.queued, state.depth.leased, state.depth.dead_letters) == (1, 1, 1)
        assert (state.workers[0].name, state.dead_letters[0].message) == ("here:1", "c: no audio")
        assert queue.extend(catalog, [Lease(4, "t" * 32)], 60.0) == 1
        (job,) = queue.take(catalog, "there:2", 5, lease_s=60.0, attempts=3)
        assert (job.uri, job.metadata, job.recorded_at) == ("/a.wav", {"agent": "Lee"}, NOW)
        queue.finish(catalog, Lease(4, "t" * 32))
        assert queue.retry(catalog, ["/c.wav"]) == 1
        queue.enqueue(catalog, [queue.NewJob("/d.wav")])
        with catalog.reading() as connection:
            assert connection.execute(text("SELECT id FROM named_vector_set WHERE name = 'new'")).scalar_one() == 10
            assert connection.execute(text("SELECT id FROM job WHERE uri = '/d.wav'")).scalar_one() == 10
