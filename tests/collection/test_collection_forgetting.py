"""A recording that is forgotten leaves no byte behind: in the database, its log, the index, and all that was made."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

import e2vsearch
from e2vsearch.catalog import labels, maps, queue
from e2vsearch.catalog.named_vectors import attach
from e2vsearch.catalog.text_search import put
from e2vsearch.collection import Collection
from e2vsearch.errors import NotStored
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
        connection = connect(*arguments, **options)
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
    zeros = np.zeros(len(ids), np.float32)
    points = maps.Points(ids, zeros, zeros, zeros.astype(np.int32), zeros, zeros.astype(np.bool_))
    of_all = maps.StoredMap("all", "segment", None, {}, [cluster], datetime.now(UTC))
    maps.save(catalog, of_all, points)
    of_it = maps.StoredMap("hers", "recording", f'customer = "{CUSTOMER}"', {}, [cluster], datetime.now(UTC))
    maps.save(
        catalog,
        of_it,
        maps.Points(np.array([call]), *(each[:1] for each in (zeros, zeros, points.cluster, zeros, points.placed))),
    )
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
