"""Damage inside a database, SQLite and a real Postgres: noticed where it is read, told, and mended where sure."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stress
from command import Run
from numpy.typing import NDArray
from small_collection import make_collection
from sqlalchemy import text

import e2vsearch
from e2vsearch.catalog import integrity, labels, named_vectors
from e2vsearch.catalog.columns import checksum
from e2vsearch.catalog.correction import corrected
from e2vsearch.catalog.labels import NewExample
from e2vsearch.catalog.repair import repair
from e2vsearch.catalog.writer import Catalog
from e2vsearch.collection import Collection
from e2vsearch.errors import CatalogError, DamagedDate, DamagedVector
from e2vsearch.vectors import exact
from e2vsearch.vectors.faiss.index import FaissEngine

RECORDINGS = 40


@pytest.fixture
def catalog(database_url: str) -> Iterator[Catalog]:
    with closing(Catalog.open(database_url, create=True)) as opened:
        opened.pin(stress.SPACE, "fake")
        for number in range(RECORDINGS):
            opened.store(stress.recording(number))
        yield opened


def content_of(catalog: Catalog, segment: int) -> bytes:
    with catalog.reading() as connection:
        query = text("SELECT vector FROM vector WHERE segment_id = :segment")
        return bytes(connection.execute(query, {"segment": segment}).scalar_one())


def damage(catalog: Catalog, segment: int, *bits: int, table: str = "vector") -> None:
    """Change bits of a vector behind the catalog's back."""
    with catalog.writing() as connection:
        of = {"segment": segment}
        query = text(f"SELECT vector FROM {table} WHERE segment_id = :segment")
        content = bytearray(connection.execute(query, of).scalar_one())
        for bit in bits:
            content[bit // 8] ^= 1 << bit % 8
        update = text(f"UPDATE {table} SET vector = :content WHERE segment_id = :segment")
        connection.execute(update, {"content": bytes(content), **of})


def faults(catalog: Catalog) -> list[tuple[str, str]]:
    return [(each.name, each.found) for each in integrity.verify(catalog) if not each.ok]


def no_copies(ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    return np.zeros((len(ids), stress.DIM), np.float32), np.zeros(len(ids), np.bool_)


def test_a_sound_database_is_called_so(catalog: Catalog) -> None:
    catalog.remove([2, 3])
    catalog.store(stress.recording(3))
    assert all(each.ok and each.found == "intact" for each in integrity.verify(catalog))
    assert repair(catalog, no_copies) == []


def test_a_damaged_vector_is_refused_wherever_it_is_read(catalog: Catalog) -> None:
    labels.add_examples(catalog, "calm", [NewExample("seg:5", 5)])
    named_vectors.attach(catalog, "text", np.array([4, 5, 6]), np.eye(3))
    damage(catalog, 5, 77)
    damage(catalog, 5, 3, table="named_vector")
    feed = catalog.feed()
    (text_set,) = named_vectors.listed(catalog)

    def stream() -> None:
        with feed.snapshot() as snapshot:
            list(snapshot.batches())

    reads: tuple[Callable[[], object], ...] = (
        lambda: feed.fetch(np.array([4, 5, 6])),
        stream,
        lambda: labels.examples(catalog),
        lambda: named_vectors.fetch(catalog, text_set, np.array([5])),
        lambda: list(named_vectors.batches(catalog, text_set)),
    )
    for read in reads:
        with pytest.raises(DamagedVector, match=r"seg:5 is damaged: .* e2vsearch db verify --repair") as caught:
            read()
        assert caught.value.segments == {5}
    assert feed.fetch(np.array([4, 6])).ids.tolist() == [4, 6]


def test_a_damaged_row_never_replaces_a_sound_generation(catalog: Catalog, tmp_path: Path) -> None:
    """The finding: the index noticed the difference, blamed itself, and was rebuilt from the damaged row."""
    feed = catalog.feed()
    index = FaissEngine(tmp_path, feed)
    index.build("flat")
    wanted = index.search(stress.vectors_of(3)[:1], 5)
    segment = int(wanted.ids[0, 2])
    sound = content_of(catalog, segment)
    damage(catalog, segment, 40, 41)  # two bits
    for engine in (index, FaissEngine(tmp_path, feed)):
        with pytest.raises(DamagedVector, match=f"seg:{segment} "):
            engine.search(stress.vectors_of(3)[:1], 5)
        other = engine.search(-stress.vectors_of(3)[:1], 5)  # what does not meet the row is answered
        assert segment not in other.ids
        with pytest.raises(DamagedVector, match=f"seg:{segment} "):
            engine.build()
        with pytest.raises(DamagedVector, match=f"seg:{segment} "):
            engine.verify()
    assert repair(catalog, no_copies) == []
    assert repair(catalog, index.copies) == [f"the vector of seg:{segment}"]
    assert content_of(catalog, segment) == sound
    assert index.verify() == []
    np.testing.assert_array_equal(index.search(stress.vectors_of(3)[:1], 5).ids, wanted.ids)


def test_the_last_segments_of_a_generation_may_be_damaged(catalog: Catalog, tmp_path: Path) -> None:
    """It is opened all the same: what does not meet the row is answered."""
    FaissEngine(tmp_path, catalog.feed()).build("flat")
    last = int(catalog.feed().fetch(np.arange(10_000)).ids[-1])
    damage(catalog, last, 9)
    index = FaissEngine(tmp_path, catalog.feed())
    assert index.status().kind == "flat"
    assert index.search(stress.vectors_of(0)[:1], 1).ids.shape == (1, 1)
    assert repair(catalog, index.copies) == [f"the vector of seg:{last}"]


def test_one_bit_is_mended_by_its_checksum_alone(catalog: Catalog) -> None:
    named_vectors.attach(catalog, "text", np.array([4, 5]), np.eye(2))
    before = {segment: content_of(catalog, segment) for segment in (2, 7)}
    for segment, bit in ((2, 0), (7, 8 * len(before[7]) - 1)):
        damage(catalog, segment, bit)
    damage(catalog, 5, 31, table="named_vector")
    assert faults(catalog) == [
        ("vectors", "damaged: seg:2"),
        ("vectors", "damaged: seg:7"),
        ("vectors", "damaged in text: seg:5"),
    ]
    assert repair(catalog, no_copies) == ["the vector of seg:2", "the vector of seg:7", "the vector of seg:5 in text"]
    assert {segment: content_of(catalog, segment) for segment in (2, 7)} == before
    assert faults(catalog) == []


def test_what_cannot_be_mended_is_to_be_ingested_anew(catalog: Catalog) -> None:
    damage(catalog, 2, 1, 9, 17, 400)
    found = [each for each in integrity.verify(catalog) if not each.ok]
    assert [each.found for each in found] == ["damaged: seg:2"]
    assert "e2vsearch remove call:1 && e2vsearch ingest /calls/0.wav" in found[0].cure
    before = content_of(catalog, 2)
    assert repair(catalog, no_copies) == []
    assert content_of(catalog, 2) == before
    catalog.remove([1])
    catalog.store(stress.recording(0))
    assert faults(catalog) == []


def test_every_single_bit_is_corrected_and_no_two() -> None:
    vector = np.random.default_rng(0).standard_normal(16).astype("<f4")
    content = vector.tobytes()
    for bit in range(8 * len(content)):
        wrong = bytearray(content)
        wrong[bit // 8] ^= 1 << bit % 8
        assert corrected(bytes(wrong), checksum(content), None) == (content, checksum(content))
        wrong[(bit // 8 + 7) % len(content)] ^= 16
        assert corrected(bytes(wrong), checksum(content), None) is None
    assert corrected(content, checksum(content) ^ 1 << 9, None) == (content, checksum(content))


def test_several_numbers_are_corrected_from_a_unit_vector() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        vector = (rng.standard_normal((1, 256)) * rng.uniform(0.01, 60)).astype("<f4")
        content, unit = vector.tobytes(), exact.unit32(vector)[0]
        wrong = bytearray(content)
        wrong[100:116] = rng.bytes(16)
        assert corrected(bytes(wrong), checksum(content), unit) == (content, checksum(content))
    assert corrected(rng.bytes(1024), checksum(content), unit) is None
    assert corrected(b"", checksum(unit.tobytes()), unit) == (unit.tobytes(), checksum(unit.tobytes()))


def test_feed_and_segments_are_held_against_each_other(catalog: Catalog) -> None:
    with catalog.writing() as connection:
        for statement in (
            "UPDATE change SET segment_id = 9999 WHERE segment_id = 3",
            "INSERT INTO change (op, segment_id, recording_id) VALUES ('-', 4, 1)",
            "DELETE FROM vector WHERE segment_id = 5",
            "UPDATE segment SET end_s = -1 WHERE id = 6",
            "UPDATE segment SET scores = vector.vector FROM vector WHERE segment.id = 7 AND segment_id = 8",
        ):
            connection.execute(text(statement))
    assert faults(catalog) == [
        ("change feed", "the change feed never added seg:3"),
        ("change feed", "the change feed removed seg:4, which is there"),
        ("change feed", "the change feed has seg:9999, which is gone"),
        ("segments", "seg:5 has no vector"),
        ("rows", "what segment holds of seg:6 is damaged"),
        ("rows", "what segment holds of seg:7 is damaged"),
    ]


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small collection in SQLite, ingested from audio."""
    return make_collection(tmp_path_factory.mktemp("ingested"))


@pytest.fixture
def index(ingested: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(ingested, tmp_path / "index"))


@pytest.fixture
def opened(index: Path) -> Iterator[Collection]:
    with e2vsearch.open(index) as collection:
        yield collection


def execute(index: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(index / "catalog.db", isolation_level=None)) as connection:
        connection.execute(statement, values)


def test_a_date_that_is_none_is_named_and_mended(index: Path, run: Run, tmp_path: Path) -> None:
    execute(index, "UPDATE recording SET recorded_at = '2024-0s-01 00:00:00.000000' WHERE id = 2")
    for command in (("export", tmp_path / "out"), ("remove", "call:2", "--yes"), ("query", "seg:1")):
        done = run(*command, "--index", index)
        assert done.code == 1
        assert "recorded_at of call:2 reads '2024-0s-01 00:00:00.000000', which is no date" in done.err
        assert "e2vsearch db verify --repair" in done.err
    assert not (tmp_path / "out").exists()
    with e2vsearch.open(index) as collection, pytest.raises(DamagedDate, match="call:2"):
        collection.recordings()
    checked = run("db", "verify", "--index", index)
    assert checked.code == 1
    assert "recorded_at of call:2 reads" in checked.out
    done = run("db", "verify", "--repair", "--index", index, "-f", "json")
    assert (done.code, json.loads(done.out)[0]["name"]) == (0, "mended")
    with e2vsearch.open(index) as collection:
        (recording,) = collection.recordings("call:2")
        assert recording.recorded_at.timestamp() == pytest.approx(recording.mtime_ns / 1e9, abs=1)


def test_a_document_that_is_none_is_told_and_found(index: Path, run: Run) -> None:
    execute(index, """UPDATE space SET labels = replace(labels, '[', '{')""")
    done = run("query", "seg:1", "--index", index)
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "should hold JSON, and is damaged - find it: e2vsearch db verify" in done.err
    execute(index, """UPDATE space SET labels = replace(labels, '{', '[')""")
    execute(index, "UPDATE projection SET report = 'x' || report")
    execute(index, "UPDATE recording SET roles = '[1'")
    with e2vsearch.open(index) as collection:
        assert ("documents", "roles of recording 1 is no JSON") in faults(collection.catalog)


def leave_out_of_index(index: Path) -> None:
    """Leave another name of a recording in the index, as a lost page write does."""
    path = index / "catalog.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'ix_recording_name'").fetchone()
        (name,) = connection.execute("SELECT name FROM recording WHERE id = 2").fetchone()
        connection.execute("UPDATE recording SET name = 'other' WHERE id = 2")
    for definition in (f"{sql} WHERE id > 99", sql):
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'ix_recording_name'", (definition,))
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            if definition != sql:
                connection.execute("UPDATE recording SET name = ? WHERE id = 2", (name,))
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.parametrize(
    ("line", "is_of_an_index"),
    [
        ("malformed inverted index for FTS5 table main.segment_words", True),
        ('fts5: corruption found reading blob 137438953473 from table "segment_words"', True),  # SQLite 3.53
        ("row 2 missing from index ix_recording_name", True),
        ("Tree 4 page 4: btreeInitPage() returns error code 11", False),
        ("database disk image is malformed", False),
    ],
)
def test_what_an_integrity_check_finds_in_an_index_alone(line: str, is_of_an_index: bool) -> None:
    assert integrity.only_indexes([line]) == is_of_an_index
    assert not integrity.only_indexes([line, "database disk image is malformed"])


def test_indexes_are_made_again(index: Path, run: Run) -> None:
    leave_out_of_index(index)
    execute(index, "UPDATE segment_words_data SET block = x'00' WHERE id > 10")
    with e2vsearch.open(index) as collection:
        found = [each for each in integrity.verify(collection.catalog) if not each.ok]
        assert {each.name for each in found} == {"file", "text index"}
        assert all(each.cure == "e2vsearch db verify --repair" for each in found)
        assert repair(collection.catalog, collection.index.copies) == ["the text index", "the indexes of the tables"]
        assert faults(collection.catalog) == []
        assert [hit.recording for hit in collection.query("seg:1", text="refund", k=1)] == ["call:2"]
    assert run("db", "verify", "--index", index).code == 0


@pytest.mark.slow
def test_doctor_and_db_verify_tell_what_is_damaged(index: Path, run: Run) -> None:
    assert run("db", "verify", "--index", index).out.count("intact") == 10
    assert "intact" in next(line for line in run("doctor", "--index", index).out.splitlines() if "database" in line)
    with e2vsearch.open(index) as collection:
        damage(collection.catalog, 2, 1, 9, 17)
    done = run("db", "verify", "--index", index, "-f", "json")
    assert done.code == 1
    (fault,) = [row for row in json.loads(done.out) if not row["ok"]]
    assert (fault["name"], fault["found"]) == ("vectors", "damaged: seg:2")
    assert "e2vsearch remove call:1 && e2vsearch ingest " in fault["cure"]
    told = run("doctor", "--index", index, "-f", "json")
    assert told.code == 1
    assert [row["name"] for row in json.loads(told.out) if not row["ok"] and row["needed"]][:1] == ["database: vectors"]
    for command in (("export", index / "out"), ("index", "build"), ("query", "seg:2"), ("backup", index / "copy.db")):
        refused = run(*command, "--index", index)
        assert refused.code == 1
        assert "seg:2" in refused.err, command
        assert "e2vsearch db verify --repair" in refused.err
    assert sorted(path.name for path in index.iterdir() if "copy" in path.name or "out" in path.name) == []


def test_a_backup_checks_every_page(index: Path, tmp_path: Path) -> None:
    """Which a quick check does not: an index without one of its rows passes it."""
    leave_out_of_index(index)
    with closing(sqlite3.connect(index / "catalog.db")) as connection:
        assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
    with e2vsearch.open(index) as collection, pytest.raises(CatalogError, match=r"was not backed up .*verify --repair"):
        collection.backup(tmp_path / "copy" / "catalog.db")
    assert list((tmp_path / "copy").iterdir()) == []
