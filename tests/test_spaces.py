"""Projections of a collection: fitted, compared, put to use, dropped, carried over; what a query sees meanwhile."""

from __future__ import annotations

import csv
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from command import Run
from numpy.typing import NDArray

import e2vsearch
from e2vsearch.catalog import projections as catalog_projections
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.encoders.base import Embeddings, Encoder
from e2vsearch.errors import AnalysisError, NotStored, QueryError, TooFewExamples
from e2vsearch.pipeline import stored_audio
from e2vsearch.search.result import QueryResult
from e2vsearch.transfer import export, import_
from e2vsearch.types import Head, Space

DIM = 24
EMOTIONS, VOICES, SENTENCES = ("angry", "calm", "sad"), 6, 4
SPACE = Space("fake", "planted-1", DIM, EMOTIONS)
NOW = datetime(2024, 3, 1, tzinfo=UTC)


def planted() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]:
    """Vectors, the emotion, voice and sentence of each, and the emotions' directions, which the others outweigh."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    grid = np.indices((len(EMOTIONS), VOICES, SENTENCES)).reshape(3, -1)
    voice, words = (rng.standard_normal((n, 3)) for n in (VOICES, SENTENCES))
    vectors = (
        2 * directions[20]
        + directions[grid[0]]
        + 2.5 * voice[grid[1]] @ directions[8:11]
        + 2.0 * words[grid[2]] @ directions[12:15]
        + 0.05 * rng.standard_normal((grid.shape[1], DIM))
    )
    return vectors.astype(np.float32), grid, directions[: len(EMOTIONS)]


VECTORS, GRID, DIRECTIONS = planted()


class Planted(Encoder):
    """Hears nothing, and has a head that knows the planted emotions."""

    def __init__(self, head: bool = True) -> None:
        self.space = SPACE
        self._has_head = head

    def head(self) -> Head | None:
        return Head(DIRECTIONS.astype(np.float32) * 8, np.zeros(3, np.float32)) if self._has_head else None

    def _encode(self, signals: object) -> Embeddings:
        raise AssertionError("what is planted is never heard")


def fill(place: str | Path, encoder: Encoder | None = None) -> e2vsearch.Collection:
    """One recording a moment, as acted corpora have it; a speaker is in the metadata."""
    collection = e2vsearch.open(str(place), encoder=encoder or Planted(), create=True)
    collection.catalog.pin(SPACE, "fake")
    logits = VECTORS @ DIRECTIONS.T * 8
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for number, (vector, said) in enumerate(zip(VECTORS, scores, strict=True)):
        segment = NewSegment(0, 0.0, 2.0, vector, said.astype(np.float32))
        uri, voice = f"/calls/{number}.wav", {"speaker": f"s{GRID[1, number]}"}
        new = NewRecording(uri, str(number), f"{number:064x}", 1, 1, NOW, 2.0, 1, 8000, "WAV", (segment,), voice)
        collection.catalog.store(new)
    return collection


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled") / "index"
    fill(folder).close()
    return folder


@pytest.fixture
def collection(filled: Path, tmp_path: Path) -> Iterator[e2vsearch.Collection]:
    shutil.copytree(filled, tmp_path / "index")
    with e2vsearch.open(tmp_path / "index", encoder=Planted()) as opened:
        yield opened


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Labels of all that is stored."""
    path = tmp_path / "labels.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "emotion", "speaker", "text"])
        for number, (emotion, voice, words) in enumerate(GRID.T):
            writer.writerow([f"/calls/{number}.wav", EMOTIONS[emotion], f"s{voice}", f"t{words}"])
    return path


def right(result: QueryResult, emotion: int) -> float:
    """Share of an emotion among hits."""
    return float(np.mean([GRID[0, int(hit.name)] == emotion for hit in result]))


def precision(collection: e2vsearch.Collection) -> float:
    """Of the ten nearest to each of six moments."""
    asked = range(0, len(VECTORS), 12)
    return float(np.mean([right(collection.query(VECTORS[at], k=10), GRID[0, at]) for at in asked]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fitted", "head"])
def test_emotion_comes_out_and_nothing_is_ingested_again(
    database_url: str, table: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with fill(database_url) as collection:
        stored = collection.catalog.feed().fetch(np.arange(1, 5)).vectors
        before = precision(collection)
        made = collection.projections.fit(table) if kind == "fitted" else collection.projections.fit_head()
        assert (made.kind, made.used) == (kind, False)
        assert precision(collection) == before
        collection.projections.use(made.name)
        assert before < 0.6 < 0.9 < precision(collection)
        np.testing.assert_array_equal(collection.catalog.feed().fetch(np.arange(1, 5)).vectors, stored)
        status = collection.status()
        assert status.space is not None
        assert status.space.projection == f"{kind}@{made.revision[:12]}"
        collection.projections.use("raw")
        assert precision(collection) == before


def test_fitting_says_how_well_it_does_on_held_out_voices(collection: e2vsearch.Collection, table: Path) -> None:
    report = collection.projections.fit(table).report
    assert report["map"] > report["map_raw"] + 0.2
    assert report["sentences_held_out"]
    assert (report["examples"], report["speakers"]) == (len(VECTORS), VOICES)


def test_every_kind_of_reference_is_projected_once(
    collection: e2vsearch.Collection, table: Path, tmp_path: Path
) -> None:
    collection.projections.fit(table)
    collection.projections.use("fitted")
    np.save(tmp_path / "one.npy", VECTORS[0])
    by_id = collection.query("seg:1", k=5, include_self=True)
    assert by_id[0].segment == "seg:1"
    assert by_id[0].score == pytest.approx(1.0, abs=1e-6)
    for reference in (VECTORS[0], VECTORS[0] * 50, VECTORS[:1].tolist(), tmp_path / "one.npy", "call:1"):
        found = collection.query(reference, k=5, include_self=True)
        assert [hit.segment for hit in found] == [hit.segment for hit in by_id]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in by_id], abs=1e-5)


def test_names_stand_for_projected_moments(collection: e2vsearch.Collection, table: Path) -> None:
    collection.labels.add("mine", *(f"seg:{n + 1}" for n in range(4)))
    collection.projections.fit(table)
    collection.projections.use("fitted")
    for name in ("emotion:angry", "label:mine"):
        found = collection.query(name, k=10)
        assert right(found, 0) == 1.0
        assert (found[0].score or 0) > 0.9


def test_what_a_classifier_learns_from_stays_raw(collection: e2vsearch.Collection, table: Path) -> None:
    collection.projections.fit(table)
    collection.projections.use("fitted")
    np.testing.assert_array_equal(stored_audio(collection.catalog, "seg:1").segments[0].vector, VECTORS[0])
    assert collection.projections.view().source.dim != DIM == collection.catalog.feed().dim


def test_comparing_puts_raw_beside_each(collection: e2vsearch.Collection, table: Path) -> None:
    collection.projections.fit(table)
    collection.projections.fit_head()
    collection.projections.use("head")
    raw, fit, head = collection.projections.compare(table, draws=300)
    assert [each.name for each in (raw, fit, head)] == ["raw", "fitted", "head"]
    assert [each.used for each in (raw, fit, head)] == [False, False, True]
    assert raw.map is not None
    assert raw.gain is None
    for each in (fit, head):
        assert each.gain is not None
        assert each.map == pytest.approx(raw.map + each.gain)
        assert each.gain > 0.2
        assert each.triplets["both"] > raw.triplets["both"] + 0.1
        assert (each.same_speaker_at_10 or 1) < (raw.same_speaker_at_10 or 0)


def test_a_better_one_is_not_replaced(collection: e2vsearch.Collection, table: Path, tmp_path: Path) -> None:
    collection.projections.fit(table)
    worse = tmp_path / "shuffled.csv"
    rows = list(csv.reader(table.read_text().splitlines()))
    emotions = np.random.default_rng(0).permutation([row[1] for row in rows[1:]])
    with worse.open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *([a, e, *r] for (a, _, *r), e in zip(rows[1:], emotions, strict=True))])
    good = catalog_projections.get(collection.catalog, "fitted").revision
    collection.projections.use("fitted")
    assert collection.projections.fit(table).revision == good  # the same again is not worse
    with pytest.raises(AnalysisError, match=r"'?fitted'? reaches .*--force"):
        collection.projections.fit(table, share=1.0)
    assert catalog_projections.get(collection.catalog, "fitted").revision == good
    forced = collection.projections.fit(worse, force=True)
    assert forced.used
    assert catalog_projections.used(collection.catalog) == ("fitted", forced.revision) != ("fitted", good)


def test_a_head_is_found_by_stored_scores(tmp_path: Path) -> None:
    with fill(tmp_path / "index", Planted(head=False)) as collection:
        made = collection.projections.fit_head(speaker_keys=["speaker"])
        assert "72 segments" in made.report["head"]
        assert made.report["speakers"] == VOICES
        collection.projections.use("head")
        assert precision(collection) > 0.9


def test_what_cannot_be_had_says_so(collection: e2vsearch.Collection, tmp_path: Path) -> None:
    with pytest.raises(NotStored, match="known: raw"):
        collection.projections.use("nothing")
    with pytest.raises(NotStored, match="projection fit"):
        collection.projections.drop("nothing")
    with pytest.raises(QueryError, match="always there"):
        collection.projections.drop("raw")
    with pytest.raises(QueryError, match="cannot name"):
        collection.projections.fit_head(name="raw")
    with pytest.raises(TooFewExamples, match="no segment is labelled"):
        collection.projections.fit(None)
    with e2vsearch.open(tmp_path / "other", encoder="fake", create=True) as other:
        other.catalog.pin(Space("saved", "1", 4), "saved")
        with pytest.raises(AnalysisError, match="no head"):
            other.projections.fit_head()


def test_damaged_parameters_are_named_and_raw_is_the_way_out(collection: e2vsearch.Collection) -> None:
    made = collection.projections.fit_head()
    stored = catalog_projections.get(collection.catalog, "head")
    broken = catalog_projections.StoredProjection("head", "head", "0" * 64, stored.parameters[:-9], {}, NOW)
    catalog_projections.put(collection.catalog, broken)
    catalog_projections.use(collection.catalog, made.name)
    with pytest.raises(AnalysisError, match="'head' is damaged"):
        collection.query(VECTORS[0])
    catalog_projections.use(collection.catalog, None)
    assert collection.query(VECTORS[0])


def test_dropping_the_one_in_use_goes_back_to_raw(collection: e2vsearch.Collection, table: Path) -> None:
    before = [hit.segment for hit in collection.query(VECTORS[0])]
    made = collection.projections.fit(table)
    collection.projections.use("fitted")
    collection.index.build()
    folder = collection.index.folder(made.revision)
    assert (folder / "generations").is_dir()
    collection.projections.drop("fitted")
    assert not folder.exists()
    assert [hit.segment for hit in collection.query(VECTORS[0])] == before
    assert [each.name for each in collection.projections.list()] == ["raw"]


def test_each_projection_has_its_index_and_finds_it_again(collection: e2vsearch.Collection) -> None:
    first = collection.index.build().watermark
    collection.projections.fit_head()
    collection.projections.use("head")
    built = collection.index.build()
    assert (built.dim, built.n, built.watermark) == (collection.projections.view().source.dim, len(VECTORS), first)
    assert collection.index.engine.status().generation is not None
    collection.projections.use("raw")
    status = collection.index.engine.status()
    assert (status.damage, status.due) == (None, None)
    assert collection.index.engine.verify() == []


def test_readers_see_one_projection_or_the_other(collection: e2vsearch.Collection, tmp_path: Path) -> None:
    """Another process changes what is in use, over and over; no answer mixes the two."""
    collection.projections.fit_head()
    expected = {}
    for name in ("raw", "head"):
        collection.projections.use(name)
        expected[name] = [round(hit.score or 0, 4) for hit in collection.query("seg:1", k=5)]
    assert expected["raw"] != expected["head"]
    stop = threading.Event()

    def switch() -> None:
        with e2vsearch.open(tmp_path / "index", create=False) as other:
            while not stop.is_set():
                for name in ("raw", "head"):
                    other.projections.use(name)

    writer = threading.Thread(target=switch)
    writer.start()
    seen = set()
    try:
        for _ in range(60):
            scores = [round(hit.score or 0, 4) for hit in collection.query("seg:1", k=5)]
            assert scores in expected.values()
            seen.add(scores == expected["raw"])
    finally:
        stop.set()
        writer.join()
    assert seen == {True, False}


@pytest.mark.slow
def test_an_export_carries_projections(collection: e2vsearch.Collection, table: Path, tmp_path: Path) -> None:
    made = collection.projections.fit(table)
    collection.projections.fit_head()
    collection.projections.use("fitted")
    before = [round(hit.score or 0, 5) for hit in collection.query(VECTORS[3], k=8)]
    assert export.export(collection.catalog, tmp_path / "out").found.projections == 2
    with e2vsearch.open(tmp_path / "copy", create=True) as copy:
        assert import_.load(copy.catalog, tmp_path / "out").found.projections == 2
        assert catalog_projections.used(copy.catalog) == ("fitted", made.revision)
        assert [round(hit.score or 0, 5) for hit in copy.query(VECTORS[3], k=8)] == before
        copy.projections.use("raw")
        assert import_.load(copy.catalog, tmp_path / "out").found.projections == 0
        assert catalog_projections.used(copy.catalog) is None  # what is in use is changed by nobody's import


def test_command_line(run: Run, collection: e2vsearch.Collection, table: Path, tmp_path: Path) -> None:
    index = ("--index", tmp_path / "index")
    fit = run("projection", "fit", table, *index)
    assert fit.code == 0, fit.err
    assert (fit.rows[0]["name"], fit.rows[0]["used"]) == ("fitted", False)
    assert "projection use fitted" in fit.err
    assert run("projection", "fit", "--head", *index).code == 0
    compared = run("projection", "compare", table, *index, "-f", "table")
    assert [line.split()[0] for line in compared.out.splitlines()[1:] if "over raw:" not in line] == [
        "*",
        "fitted",
        "head",
    ]
    used = run("projection", "use", "fitted", *index)
    assert (used.code, used.rows[0]["projection"]) == (0, "fitted")
    rows = run("projection", "list", *index).rows
    assert [(row["name"], row["used"]) for row in rows] == [("raw", False), ("fitted", True), ("head", False)]
    assert run("query", "emotion:sad", "-k", 5, *index).rows[0]["score"] > 0.9
    assert run("projection", "fit", table, "--share", 1, *index).code == 1
    assert run("projection", "drop", "fitted", *index).code == 0
    assert run("projection", "use", "fitted", *index).code == 2
    assert run("projection", "fit", table, "--head", *index).code == 2
