"""A recording that is forgotten leaves no byte behind: in the database, its log, the index, and all that was made."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from made_calls import new_recording
from numpy.typing import NDArray
from sqlalchemy import text

import e2vsearch
from e2vsearch import doctor
from e2vsearch.catalog import erasure, labels, maps, projections, queue, sqlite
from e2vsearch.catalog.named_vectors import attach
from e2vsearch.catalog.rows import NewSegment
from e2vsearch.catalog.text_search import put
from e2vsearch.cli.output import plain
from e2vsearch.collection import Collection
from e2vsearch.encoder_check import pin_encoder
from e2vsearch.encoders import registry as encoders
from e2vsearch.erasure import ForgetReport
from e2vsearch.errors import CatalogError, NotStored, QueryError
from e2vsearch.files import private_folder
from e2vsearch.types import number_of
from e2vsearch.vectors.engine import IndexOptions
from e2vsearch.vectors.exact import unit32

SAID = "Mein Zahnarzttermin in Quedlinburg ist storniert, bitte überweisen Sie die Anzahlung"
OTHERS = "Guten Tag, wie kann ich Ihnen helfen?"
WORDS = (b"Zahnarzttermin", b"zahnarzttermin", b"quedlinburg", b"\\u00fcberweisen", "überweisen".encode())
CUSTOMER = "Frieda Wertheimer-Lund"


@pytest.fixture(autouse=True)
def sqlite_that_overwrites_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's SQLite overwrites what is deleted by default; others leave it in the file."""
    connect = sqlite3.dbapi2.connect

    def connect_as_others(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.execute("PRAGMA secure_delete = OFF")
        return connection

    monkeypatch.setattr(sqlite3.dbapi2, "connect", connect_as_others)


@pytest.fixture
def collection(database_url: str, tmp_path: Path, calls: Path) -> Iterator[Collection]:
    """Four calls, of which ``voice1`` is in everything that a collection can hold."""
    index = IndexOptions(kind="flat")
    with e2vsearch.open(database_url, encoder="fake", create=True, index_options=index) as collection:
        meta = tmp_path / "meta.csv"
        meta.write_text(f"file,customer,queue\nvoice1.wav,{CUSTOMER},billing\nvoice2.wav,Kim,billing\n")
        assert collection.ingest(calls, meta=meta, workers=1).failures == ()
        meta.unlink()
        for recording in collection.recordings():
            said = SAID if recording.name == "voice1" else OTHERS
            numbers = [number_of(each.id, "seg") for each in collection.segments(recording.id)]
            put(collection.catalog, number_of(recording.id, "call"), dict.fromkeys(numbers, said))
        yield collection


def voice1(collection: Collection) -> tuple[int, list[int]]:
    (recording,) = collection.recordings(where="name = voice1")
    return number_of(recording.id, "call"), [number_of(each.id, "seg") for each in collection.segments(recording.id)]


def points(ids: NDArray[np.int64]) -> maps.Points:
    zeros = np.zeros(len(ids), np.float32)
    return maps.Points(ids, zeros, zeros, zeros.astype(np.int32), zeros, zeros.astype(np.bool_))


def spread(collection: Collection, calls: Path) -> None:
    """Put ``voice1`` wherever a recording can go."""
    catalog, (call, segments) = collection.catalog, voice1(collection)
    vectors = catalog.feed().fetch(np.array(segments)).vectors
    attach(catalog, "text", np.array(segments), vectors * 3)
    path = calls / "voice1.wav"
    labels.add_examples(catalog, "calm", [labels.NewExample(f"seg:{segments[0]}", segments[0])])
    labels.add_examples(catalog, "calm", [labels.NewExample(f"{path}@0.00-2.00", None, vectors[1] + 1, "Frieda")])
    labels.add_examples(catalog, "calm", [labels.NewExample("/elsewhere/copy.wav@0.00-2.00", None, vectors[1])])
    for parameters in (vectors.tobytes(), b"weights"):
        labels.store_classifier(catalog, "mood", ("calm", "other"), parameters, {})
    queue.enqueue(catalog, [queue.NewJob(str(path), {"customer": CUSTOMER})])
    catalog.fail(str(path), "audio-unreadable", f"{path}: it is damaged")
    central = {"segment": f"seg:{segments[0]}", "recording": f"call:{call}", "name": "voice1", "text": SAID}
    cluster = {
        "name": f"calm · customer={CUSTOMER}",
        "segments": [central],
        "metadata": [{"key": "customer", "value": CUSTOMER}, {"key": "queue", "value": "billing"}],
    }
    ids = catalog.ids(text("SELECT id FROM segment"))  # type: ignore[arg-type]
    now = datetime.now(UTC)
    maps.save(catalog, maps.StoredMap("all", "segment", None, {}, [cluster], now), points(ids))
    hers = maps.StoredMap("hers", "recording", f'customer = "{CUSTOMER}"', {}, [cluster], now)
    maps.save(catalog, hers, points(np.array([call])))
    collection.index.build()
    collection.index.build()
    collection.query(f"seg:{segments[0]}")
    collection.index.tune()  # writes what was asked


@pytest.fixture
def database_files(database_url: str, request: pytest.FixtureRequest) -> Callable[[], list[Path]]:
    """The files in which the database keeps rows, those of its write-ahead log in Postgres left out."""
    if database_url.startswith("sqlite"):
        return lambda: []  # in the collection's folder
    import psycopg

    url = database_url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT current_setting('data_directory'), oid FROM pg_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    folder = Path(row[0]) / "base" / str(row[1])

    def files() -> list[Path]:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        return [each for each in folder.iterdir() if each.is_file()]

    return files


def holding(paths: list[Path], wanted: dict[str, bytes]) -> set[str]:
    """Which byte strings the files hold; read by another process, as this one would lose SQLite's locks."""
    content = subprocess.run(["cat", *map(str, paths)], capture_output=True, check=True).stdout
    return {name for name, each in wanted.items() if each in content}


def of_collection(collection: Collection) -> list[Path]:
    return [each for each in collection.index.folder("raw").rglob("*") if each.is_file()]


@pytest.mark.parametrize("vacuum", [True, False])
def test_no_byte_is_left(
    collection: Collection, calls: Path, database_url: str, database_files: Callable[[], list[Path]], vacuum: bool
) -> None:
    if not vacuum and not database_url.startswith("sqlite"):
        pytest.skip("Postgres leaves the bytes of dead rows in its pages until VACUUM FULL rewrites them")
    spread(collection, calls)
    call, segments = voice1(collection)
    vectors = collection.catalog.feed().fetch(np.array(segments)).vectors
    traces = {f"word {number}": each for number, each in enumerate(WORDS)}
    traces |= {f"vector {number}": each.tobytes() for number, each in enumerate(vectors)}
    traces |= {f"unit {number}": each.tobytes() for number, each in enumerate(unit32(vectors))}
    traces |= {f"named {number}": (each * 3).tobytes() for number, each in enumerate(vectors)}
    traces |= {"name": b"voice1", "customer": CUSTOMER.encode(), "example": (vectors[1] + 1).tobytes()}
    with closing(collection):
        before = holding([*database_files(), *of_collection(collection)], traces)
        assert before == set(traces), set(traces) - before
        report = collection.forget(f"call:{call}", vacuum=vacuum)
    assert holding([*database_files(), *of_collection(collection)], traces) == set()
    erased = report.erased
    assert (erased.recordings, erased.segments, erased.label_examples) == (1, len(segments), 3)
    assert (erased.jobs, erased.failures) == (1, 1)
    assert report.map_points == len(segments) + 1
    assert report.proof is not None
    assert report.proof.left == ()
    assert report.audio == (str(calls / "voice1.wav"),)
    assert (calls / "voice1.wav").is_file()
    assert any("'mood'" in each for each in report.unreached)
    with e2vsearch.open(database_url) as after:
        assert len(after.recordings()) == 3
        assert after.index.verify() == []
        assert after.index.status().kind == "flat"
        assert len(list((after.index.folder("raw") / "generations").glob("2*Z-*"))) == 2  # one, and its stamp
        assert [each.map.name for each in maps.listing(after.catalog)] == ["all"]
        (cluster,) = maps.listing(after.catalog)[0].map.clusters
        assert cluster == {"name": "calm", "segments": [], "metadata": [{"key": "queue", "value": "billing"}]}
        assert len(labels.classifiers(after.catalog)) == 1
        assert {hit.name for hit in after.query("call:1", k=10)} == {"voice0", "voice2"} | {"pair"} - {
            after.recordings("call:1")[0].name
        }
        with pytest.raises(NotStored):
            after.forget(f"call:{call}")


def test_the_trend_of_a_map_forgets_the_day_of_a_call(database_url: str, tmp_path: Path, calls: Path) -> None:
    """A day of which one call is known, and that is erased, is in no trend; the proof finds no date of it."""
    meta = tmp_path / "meta.csv"
    dates = {
        "voice0.wav": "2024-03-01",
        "voice1.wav": "2024-03-06",
        "voice2.wav": "2024-03-01",
        "pair.flac": "2024-03-08",
    }
    meta.write_text("file,date\n" + "".join(f"{name},{day}\n" for name, day in dates.items()))
    with e2vsearch.open(database_url, encoder="fake", create=True) as collection:
        assert collection.ingest(calls, meta=meta, workers=1).failures == ()
        meta.unlink()  # it would hold the date
        ids = collection.catalog.ids(text("SELECT id FROM segment"))  # type: ignore[arg-type]
        one = {"recordings": 1, "of": 1, "share": 1.0}
        trend = [{"start": start, **one} for start in sorted(set(dates.values()))]
        cluster = {"number": 0, "name": "calm", "segments": [], "metadata": [], "period": "day", "trend": trend}
        maps.save(
            collection.catalog, maps.StoredMap("all", "segment", None, {}, [cluster], datetime.now(UTC)), points(ids)
        )
        report = collection.forget(where="name = voice1")
        assert report.proof is not None
        assert report.proof.left == ()
        (kept,) = maps.listing(collection.catalog)[0].map.clusters
        assert kept["trend"] == [
            {"start": "2024-03-01", "recordings": 2, "of": 2, "share": 1.0}, {"start": "2024-03-08", **one}
        ]  # fmt: skip


def test_what_is_left_is_found(collection: Collection, calls: Path) -> None:
    folder, (_, segments) = collection.index.folder("raw"), voice1(collection)
    vectors = collection.catalog.feed().fetch(np.array(segments)).vectors
    for name, content in (
        ("copy.bin", b"." * 1001 + unit32(vectors)[0].tobytes() + b"." * 300_000 + SAID.encode()),
        ("map.json", json.dumps({"text": SAID, "customer": CUSTOMER}).encode()),
        ("log.txt", f"stored {calls / 'voice1.wav'}".encode()),
        ("others.txt", OTHERS.encode()),
        ("shared.txt", b"queue=billing"),
    ):
        private_folder(folder).joinpath(name).write_bytes(content)
    proof = collection.forget(str(calls / "voice1.wav")).proof
    assert proof is not None
    assert proof.left == (
        f"{folder / 'copy.bin'}: vector, words",
        f"{folder / 'log.txt'}: name",
        f"{folder / 'map.json'}: metadata, words",
    )
    checked = collection.forget(str(calls / "voice1.wav"), "Quedlinburg", check=True)
    assert checked.proof is not None
    holders = {Path(each.partition(": ")[0]).name for each in checked.proof.left}
    assert holders == {"copy.bin", "log.txt", "map.json"}
    assert len(collection.recordings()) == 3
    for names in ((), ("call:1",), ("seg:1",)):
        with pytest.raises(QueryError, match="search"):
            collection.forget(*names, check=True)


def test_an_erasure_that_was_interrupted_is_finished_by_the_next(
    collection: Collection, calls: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread(collection, calls)
    _, segments = voice1(collection)
    units = unit32(collection.catalog.feed().fetch(np.array(segments)).vectors)
    traces = {"vector": units[0].tobytes(), "word": WORDS[1]}
    with monkeypatch.context() as patched:
        patched.setattr(erasure, "prune", interrupted)
        with pytest.raises(KeyboardInterrupt):
            collection.forget(where="name = voice1")
    assert len(collection.recordings()) == 3
    assert "vector" in holding(of_collection(collection), traces)
    assert ("erasure", "e2vsearch forget") in [(each.name, each.cure) for each in doctor.examine(database_url)]
    # named again it is not there, and what its erasure left is taken all the same
    report = collection.forget(where="name = voice1")
    assert report.erased == erasure.Erased()
    assert holding(of_collection(collection), traces) == set()
    generation = collection.index.status().generation
    assert "erasure" not in [each.name for each in doctor.examine(database_url)]
    assert collection.forget(where="name = voice1") == ForgetReport()
    assert collection.index.status().generation == generation  # nothing was begun, so nothing is done
    assert collection.forget().proof is None
    assert collection.index.status().generation != generation


def interrupted(_: object) -> int:
    raise KeyboardInterrupt


def test_what_only_failed_or_waits_or_is_an_example_is_forgotten_by_its_path(collection: Collection) -> None:
    catalog, path = collection.catalog, "/calls/never stored.wav"
    queue.enqueue(catalog, [queue.NewJob(path), queue.NewJob("/calls/other.wav")])
    catalog.fail(path, "audio-unreadable", f"{path}: it is damaged")
    labels.add_examples(catalog, "calm", [labels.NewExample(f"{path}@0.00-2.00", None, np.ones(16, np.float32))])
    assert {each["uri"] for each in collection.about(path)["jobs"]} == {path}
    report = collection.forget(path)
    assert report.erased == erasure.Erased(label_examples=1, jobs=1, failures=1)
    assert report.proof is not None
    assert report.proof.left == ()
    assert queue.depth(catalog).queued == 1
    with pytest.raises(NotStored, match="never stored"):
        collection.forget(path)


@pytest.mark.slow
def test_the_adopted_projection_is_fitted_anew(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    space = encoders.open("light").space
    with e2vsearch.open(tmp_path / "index", encoder="light", create=True) as collection:
        pin_encoder(collection.catalog, collection.encoder())
        for number in range(30):
            vectors = rng.standard_normal((4, space.dim)).astype(np.float32)
            segments = tuple(NewSegment(0, at * 2.0, at * 2.0 + 1.5, vector) for at, vector in enumerate(vectors))
            collection.catalog.store(new_recording(number, segments))
        collection.index.maintain()
        before = projections.listed(collection.catalog)
        numbers = [f"call:{number}" for number in range(1, 21)]
        assert collection.forget(*numbers).erased.segments == 80
        after = projections.listed(collection.catalog)
        assert [each.name for each in before] == [each.name for each in after]
        assert before[0].revision != after[0].revision
        assert after[0].report["segments"] == 40
        # as if they had never been there
        with e2vsearch.open(tmp_path / "never", encoder="light", create=True) as never:
            pin_encoder(never.catalog, never.encoder())
            for recording, segments in left(collection):
                never.catalog.store(new_recording(recording, segments))
            never.index.maintain()
            assert projections.listed(never.catalog)[0].revision == after[0].revision


def left(collection: Collection) -> Iterator[tuple[int, tuple[NewSegment, ...]]]:
    for recording in collection.recordings():
        numbers = [number_of(each.id, "seg") for each in collection.segments(recording.id)]
        vectors = collection.catalog.feed().fetch(np.array(numbers)).vectors
        segments = (NewSegment(0, at * 2.0, at * 2.0 + 1.5, vector) for at, vector in enumerate(vectors))
        yield number_of(recording.id, "call"), tuple(segments)


# --- the command line, and access


@pytest.mark.slow
def test_the_command_tells_what_it_does(collection: Collection, calls: Path, database_url: str, run: Run) -> None:
    index = ("--index", database_url)
    planned = run("forget", "call:1", "call:2", *index, "--dry-run", "-f", "table")
    assert (planned.code, planned.out) == (0, "2 recordings would be erased\n")
    assert len(planned.err.splitlines()) == 2
    done = run("forget", str(calls / "voice1.wav"), *index, "--yes", "-f", "table")
    assert (done.code, done.out) == (0, "erased 1 recording, 3 segments\n")
    assert done.err.splitlines()[0] == str(calls / "voice1.wav")
    assert re.fullmatch(r"searched \d+ files?, .*, for \d+ traces: nothing is left", done.err.splitlines()[1])
    assert "not reached: the audio, which the next ingest stores again" in done.err
    held = run("forget", "--check", str(calls / "voice2.wav"), "Guten Tag", *index, "-f", "table")
    assert held.code == (1 if database_url.startswith("sqlite") else 0)  # the rows of Postgres are no files of ours
    assert run("forget", "--check", "Zahnarzttermin", *index).code == 0
    for wrong in (("--older-than", "soon"), ("--older-than", "9" * 20 + "y"), ("--expired", "--older-than", "1d")):
        assert run("forget", *wrong, *index, "--yes").code == 2
    refused = run("forget", "--expired", *index, "--yes")
    assert refused.code == 2
    assert "e2vsearch policy set --retention-days 90" in refused.err
    (line,) = run("forget", "--older-than", "2w", *index, "--yes", "-f", "jsonl").rows
    assert line["erased"]["recordings"] == 0


def test_about_has_everything(collection: Collection, calls: Path, run: Run, database_url: str) -> None:
    spread(collection, calls)
    call, segments = voice1(collection)
    ran = run("about", str(calls / "voice1.wav"), "--index", database_url)
    assert ran.code == 0, ran.err
    held = json.loads(ran.out)
    assert held == plain(collection.about(f"call:{call}"))
    assert held["recording"]["metadata"] == {"customer": CUSTOMER, "queue": "billing"}
    assert [each["text"] for each in held["segments"]] == [SAID] * len(segments)
    assert held["segments"][0]["numbers_in_vectors"] == {"vector": 16, "text": 16}
    sources = [f"seg:{segments[0]}", f"{calls / 'voice1.wav'}@0.00-2.00"]
    assert [each["source"] for each in held["label_examples"]] == sources
    assert [(each["map"], each["item_id"]) for each in held["map_points"]] == [
        *(("all", number) for number in segments), ("hers", call)
    ]  # fmt: skip
    assert {each["map"] for each in held["map_quotations"]} == {"all", "hers"}
    assert [(each["name"], each["version"]) for each in held["classifiers_made_since"]] == [("mood", 1), ("mood", 2)]
    assert [each["details"] for each in held["jobs"]] == [{"customer": CUSTOMER}]
    assert [each["reason"] for each in held["failures"]] == ["audio-unreadable"]
    assert [each["op"] for each in held["changes"]] == ["+"] * len(segments)
    assert len(held["index_generations"]) == 2
    assert 'vector": [' not in ran.out
    with pytest.raises(QueryError, match="names 4 recordings"):
        collection.about(str(calls))
    with pytest.raises(NotStored):
        collection.about("call:99")


def test_a_log_that_others_read_is_named_and_emptied_by_the_next(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.1)
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        collection.ingest(calls / "voice1.wav")
        with closing(sqlite3.connect(tmp_path / "index" / "catalog.db")) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM recording").fetchone()
            with pytest.raises(CatalogError, match=r"catalog\.db-wal holds bytes .* finish with: e2vsearch forget"):
                collection.forget("call:1")
        collection.forget()
        assert (tmp_path / "index" / "catalog.db-wal").stat().st_size == 0


@pytest.mark.postgres
def test_rows_that_another_transaction_may_read_are_waited_for(
    collection: Collection, calls: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database_url.startswith("sqlite"):
        pytest.skip("SQLite's VACUUM waits for readers itself")
    import psycopg

    collection.ingest(calls)
    monkeypatch.setattr(erasure, "_WAIT_S", 0.2)
    with closing(collection), psycopg.connect(database_url.replace("+psycopg", "")) as other:
        other.execute("SELECT pg_current_xact_id()")
        with pytest.raises(CatalogError, match="finish with: e2vsearch forget"):
            collection.forget("call:1")
        other.rollback()
        monkeypatch.undo()
        assert collection.forget().erased.recordings == 0
