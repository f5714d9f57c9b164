"""Checksums of rows: every cell of every checked table is noticed when it changes, and one bit is mended."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stress
from command import Run
from small_collection import make_collection
from sqlalchemy import Connection, LargeBinary, Text, select, text

import e2vsearch
from e2vsearch.catalog import integrity, labels, text_search
from e2vsearch.catalog.columns import RowChecksum
from e2vsearch.catalog.dynamics import dynamics_of
from e2vsearch.catalog.labels import NewExample, Predictions
from e2vsearch.catalog.repair import repair
from e2vsearch.catalog.row_checksums import (
    ALL,
    CHANNEL_DYNAMICS,
    DYNAMICS,
    METADATA,
    RECORDING,
    SEGMENT,
    TEXT,
    damaged_rows,
)
from e2vsearch.catalog.schema import Base
from e2vsearch.catalog.writer import Catalog
from e2vsearch.collection import Collection
from e2vsearch.errors import CatalogError, DamagedRow, DamagedVector
from e2vsearch.types import ChannelDynamics, Dynamics

SCORES = np.array([0.9, 0.1], np.float32)
WHEN = datetime(2024, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture
def catalog(database_url: str) -> Iterator[Catalog]:
    """A catalog with a row in every checked table."""
    by_channel = (ChannelDynamics(0, None, 0.5, 3, 1, 4.25),)
    dynamics = Dynamics(0.5, 0.25, 2.5, 0.125, 1, 3, by_channel, ((1.0, 2.5),), ((3.0, 4.0),))
    with closing(Catalog.open(database_url, create=True)) as opened:
        opened.pin(replace(stress.SPACE, labels=("angry", "neutral")), "fake")
        for number in range(3):
            made = replace(stress.recording(number), recorded_at=WHEN, metadata={"queue": "Zürich", "wait": "12.5"})
            heard = tuple(replace(each, scores=SCORES, level_db=-20.5) for each in made.segments)
            opened.store(replace(made, segments=heard, roles=["customer"] * made.channels, dynamics=dynamics))
        ids = opened.feed().fetch(np.arange(10_000)).ids
        text_search.put(opened, 1, {int(ids[0]): "Das ist völlig unmöglich"})
        labels.add_examples(opened, "calm", [NewExample(f"seg:{ids[0]}", int(ids[0]))])
        made_by = labels.store_classifier(opened, "mood", ("calm", "cross"), b"p", {})
        found = Predictions(ids[1:2], np.array([1]), np.array([0.75], np.float32))
        labels.replace_predictions(opened, made_by, found, None, None, 0.5)
        yield opened


def rows_of(connection: Connection, checksum: RowChecksum) -> list[Any]:
    table = Base.metadata.tables[checksum.table]
    return list(connection.execute(select(table).order_by(*table.primary_key)).all())


def test_what_is_stored_is_sound_and_read_as_such(catalog: Catalog) -> None:
    with catalog.reading() as connection:
        for checksum in ALL:
            rows = rows_of(connection, checksum)
            assert rows, checksum.table
            assert all(checksum.is_sound(row) for row in rows), checksum.table
        assert list(damaged_rows(connection)) == []
        assert dynamics_of(connection, [1])
    assert len(list(catalog.recordings())) == 3
    assert list(catalog.segments())


def other(column: Any, value: Any) -> Any:
    """Return a near value of a column's type."""
    if value is None:
        return {LargeBinary: b"x", Text: "x"}.get(type(column.type), 1)
    if isinstance(column.type, LargeBinary):
        return bytes([value[0] ^ 1]) + value[1:]
    if isinstance(value, datetime):
        return value.replace(second=value.second ^ 1)
    if isinstance(value, float):
        return value * 1.0000001 + 1e-9
    if isinstance(value, str):
        return value[:-1] + chr(ord(value[-1]) ^ 1) if value else "x"
    return value + 1 if isinstance(value, int) else [value[0], *value]


def test_every_cell_that_changes_is_noticed(catalog: Catalog) -> None:
    with catalog.reading() as connection:
        for checksum in ALL:
            (row, *_) = rows_of(connection, checksum)
            for name in checksum.columns:
                column = Base.metadata.tables[checksum.table].c[name]
                changed = {**row._mapping, name: other(column, row._mapping[name])}
                assert checksum.of_values(changed) != row.crc32, column


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE recording SET duration_s = duration_s + 0.5 WHERE id = 2", "what recording holds of call:2"),
        ("UPDATE recording_metadata SET text = 'Zurich' WHERE recording_id = 2", "recording_metadata holds of call:2"),
        ("UPDATE dynamics SET talk_share = 0.625 WHERE recording_id = 2", "dynamics holds of call:2"),
        ("UPDATE channel_dynamics SET turns = 4 WHERE recording_id = 2", "channel_dynamics holds of call:2"),
        ("UPDATE segment SET end_s = end_s + 64 WHERE id = 1", "segment holds of seg:1"),
        ("UPDATE segment_text SET text = 'Das ist vollig'", "segment_text holds of seg:1"),
        ("UPDATE segment_label SET score = 0.5", "segment_label holds of seg:2"),
        ("UPDATE label_example SET label = 'cilm'", "label_example holds of seg:1"),
    ],
)
def test_a_damaged_row_is_refused_where_it_is_read_and_found(catalog: Catalog, statement: str, named: str) -> None:
    with catalog.writing() as connection:
        connection.execute(text(statement))

    def read() -> None:
        list(catalog.recordings())
        list(catalog.segments())
        with catalog.reading() as connection:
            dynamics_of(connection, [1, 2, 3])

    with pytest.raises(DamagedRow, match=f"{named} is damaged: .* e2vsearch db verify"):
        read()
    found = [each for each in integrity.verify(catalog) if each.name == "rows"]
    assert named.removeprefix("what ") in found[0].found


def flip(catalog: Catalog, checksum: RowChecksum, column: str, row: Any, bit: int) -> None:
    """Turn a bit of a text or of a float behind the catalog's back."""
    value = row._mapping[column]
    content = bytearray(value.encode() if isinstance(value, str) else np.float64(value).tobytes())
    content[bit // 8] ^= 1 << bit % 8
    changed = content.decode() if isinstance(value, str) else float(np.frombuffer(content, np.float64)[0])
    table = Base.metadata.tables[checksum.table]
    same = [key == row._mapping[key.name] for key in table.primary_key]
    with catalog.writing() as connection:
        connection.execute(table.update().where(*same).values({column: changed}))


def test_one_bit_of_a_row_is_mended(catalog: Catalog) -> None:
    for checksum, column, bit in (
        (DYNAMICS, "talk_share", 40),
        (CHANNEL_DYNAMICS, "talk_share", 40),
        (METADATA, "text", 3),
        (TEXT, "text", 3),
        (RECORDING, "name", 1),
        (RECORDING, "duration_s", 51),
    ):
        with catalog.reading() as connection:
            before = rows_of(connection, checksum)
        flip(catalog, checksum, column, before[0], bit)
        with catalog.reading() as connection:
            assert len(list(damaged_rows(connection))) == 1
        (line,) = repair(catalog, no_copies)
        assert line.startswith(f"{column} of {checksum.table} ")
        with catalog.reading() as connection:
            assert rows_of(connection, checksum) == before


def test_a_checksum_that_changed_is_mended(catalog: Catalog) -> None:
    with catalog.writing() as connection:
        connection.execute(text("UPDATE segment SET crc32 = crc32 + 1 - 2 * (crc32 % 2) WHERE id = 1"))
    assert repair(catalog, no_copies) == ["crc32 of segment 1"]
    assert list(catalog.segments([1]))


def test_two_changes_are_not_mended_and_the_recording_can_be_removed(catalog: Catalog) -> None:
    with catalog.writing() as connection:
        connection.execute(text("UPDATE recording SET name = 'other', format = 'none' WHERE id = 2"))
    assert repair(catalog, no_copies) == []
    with pytest.raises(DamagedRow, match="call:2"):
        catalog.annotate(2, {}, WHEN)  # a new checksum would hide it
    with pytest.raises(DamagedRow, match="call:2"):
        catalog.relocate(2, "/elsewhere.wav", "elsewhere", 1)
    (found,) = [each for each in integrity.verify(catalog) if not each.ok]
    assert "e2vsearch remove call:2, and ingest its file again" in found.cure
    assert [number for number, _ in catalog.recordings([2], damaged=True)] == [2]
    catalog.remove([2])
    assert all(each.ok for each in integrity.verify(catalog))


def test_changed_recordings_stay_sound(catalog: Catalog) -> None:
    catalog.annotate(1, {"queue": "Bern", "note": "été"}, datetime(2023, 1, 2, 3, 4, 5, 6))
    catalog.relocate(1, "/elsewhere/ä.wav", "ä", 12345678901234)
    ((_, recording),) = catalog.recordings([1])
    assert (recording.name, recording.metadata["note"]) == ("ä", "été")
    assert all(each.ok for each in integrity.verify(catalog))


def no_copies(ids: Any) -> Any:
    return np.zeros((len(ids), stress.DIM), np.float32), np.zeros(len(ids), np.bool_)


def test_numbers_of_any_kind_have_one_checksum() -> None:
    """What is inserted may be of NumPy, and -0.0; what is read is plain, and 0.0."""
    checksum = RowChecksum("t", integers=["a"], floats=["b"], texts=["c"])
    assert checksum.of(np.int64(3), np.float64(-0.0), "x") == checksum.of(3, 0.0, "x")
    apart = {
        checksum.of(None, None, None),
        checksum.of(0, 0.0, ""),
        checksum.of(0, None, None),
        checksum.of(0, 0.0, "0"),
    }
    assert len(apart) == 4
    assert not checksum.matches(1, "no number", 1.0, "x")


def test_the_command_line_refuses_removes_and_mends(tmp_path: Path, run: Run) -> None:
    index = make_collection(tmp_path)
    with e2vsearch.open(index) as collection, collection.catalog.writing() as connection:
        connection.execute(text("UPDATE recording SET uri = uri || 'x', duration_s = 1 WHERE id = 2"))
    done = run("query", "seg:1", "--index", index)
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "what recording holds of call:2 is damaged" in done.err
    checked = run("db", "verify", "--index", index, "-f", "json")
    assert checked.code == 1
    assert [row["name"] for row in json.loads(checked.out) if not row["ok"]] == ["rows"]
    with e2vsearch.open(index) as collection, pytest.raises(CatalogError, match="was not backed up"):
        collection.backup(tmp_path / "copy" / "catalog.db")
    assert run("remove", "call:2", "--yes", "--index", index).code == 0
    assert run("query", "seg:1", "--index", index).code == 0
    assert run("db", "verify", "--index", index).code == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE segment SET recording_id = x'020714' WHERE id = 5",
        "UPDATE segment SET start_s = 'x' WHERE id = 5",
        "UPDATE segment SET channel = 'x' WHERE id = 5",
    ],
)
def test_a_number_that_is_none_is_told(tmp_path: Path, statement: str) -> None:
    """SQLite keeps values of any type in any column, so a bit of a row's header may make one of another."""
    index = make_collection(tmp_path)
    with closing(sqlite3.connect(index / "catalog.db", isolation_level=None)) as connection:
        connection.execute(statement)

    def read(collection: Collection) -> None:
        collection.query("seg:1", by="segment", k=99, include_self=True)
        collection.index.build("flat")

    with e2vsearch.open(index) as opened, pytest.raises(CatalogError, match=r"damaged|number in the database is none"):
        read(opened)


def test_a_segment_of_another_recording_is_noticed_before_it_is_ranked(catalog: Catalog) -> None:
    """The finding: with one bit changed a segment counted for another call, and its own call lost a hit in silence."""
    with catalog.reading() as connection:
        before = rows_of(connection, SEGMENT)
    with catalog.writing() as connection:
        connection.execute(text("UPDATE segment SET recording_id = 3 WHERE id = 7"))
    with pytest.raises(DamagedVector, match="seg:7 is damaged"):
        catalog.feed().fetch(np.array([6, 7]))
    assert {each.name for each in integrity.verify(catalog) if not each.ok} == {"rows", "vectors"}
    assert repair(catalog, no_copies) == ["recording_id of segment 7"]
    with catalog.reading() as connection:
        assert rows_of(connection, SEGMENT) == before
    assert catalog.feed().fetch(np.array([6, 7])).recordings.tolist() == [2, 2]
