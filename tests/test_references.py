"""Names as queries: labels of one's own and emotions; a file of that name goes first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from search_context import search_context

import e2vsearch
from e2vsearch.catalog import labels as rows
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.collection import Collection
from e2vsearch.errors import AudioNotFound, E2vsearchError, NotStored, QueryError
from e2vsearch.search import prototypes
from e2vsearch.search.resolve import from_name, resolve_reference
from e2vsearch.types import Space

DIM = 8
SPACE = Space("saved", "made", DIM, ("Angry", "sad", "fearful"))  # nobody is ever fearful here


def a_call(number: int, moments: int) -> NewRecording:
    """Angry moments along the first axis, sad ones along the second, in turn; the later the surer."""
    rng = np.random.default_rng(number)
    segments = []
    for at in range(moments):
        vector = rng.uniform(0.0, 0.2, DIM).astype(np.float32)
        vector[at % 2] += 1.0
        sure = np.float32(0.6 + 0.3 * at / moments)
        scores = np.array([sure, 0.9 - sure, 0.1] if at % 2 == 0 else [0.9 - sure, sure, 0.1], np.float32)
        segments.append(NewSegment(0, 2.0 * at, 2.0 * at + 1.5, vector * rng.uniform(1, 9), scores))
    when = datetime(2024, 1, 1, tzinfo=UTC)
    about = (f"/calls/{number}.wav", str(number), f"{number:064x}", 1, 1, when, 60.0, 1, 8000, "WAV")
    return NewRecording(*about, tuple(segments))


@pytest.fixture
def collection(database_url: str) -> Iterator[Collection]:
    with e2vsearch.open(database_url, create=True) as collection:
        collection.catalog.pin(SPACE, "saved")
        for number in range(5):
            collection.catalog.store(a_call(number, 20 if number == 0 else 6))
        yield collection


def units(collection: Collection, ids: list[int]) -> np.ndarray:
    vectors = collection.projections.view().source.fetch(np.array(ids)).vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)  # type: ignore[no-any-return]


def test_a_label_is_the_mean_of_its_examples(collection: Collection) -> None:
    collection.labels.add("hesitant", "seg:2", "seg:3", "seg:21")
    found = resolve_reference("label:hesitant", search_context(collection))
    assert (found.name, found.vectors.shape, found.stored.tolist()) == ("label:hesitant", (1, DIM), [2, 3, 21])
    np.testing.assert_allclose(found.vectors[0], units(collection, [2, 3, 21]).mean(axis=0), rtol=1e-6)
    hits = collection.query("label:hesitant", by="segment", k=100)
    assert len(hits) == 44 - 3
    assert not {"seg:2", "seg:3", "seg:21"} & {hit.segment for hit in hits}
    assert len(collection.query("label:hesitant", by="segment", k=100, include_self=True)) == 44
    assert collection.query(emotion="hesitant", by="segment", k=5).hits == hits.hits[:5]


def test_examples_from_elsewhere_count_as_much(collection: Collection) -> None:
    outside = np.arange(DIM, dtype=np.float32)
    collection.labels.add("x", "seg:1")
    rows.add_examples(collection.catalog, "x", [rows.NewExample("a.wav@0.00-1.00#0", None, outside)])
    found = resolve_reference("label:x", search_context(collection))
    both = np.concatenate([units(collection, [1]), outside[None] / np.linalg.norm(outside)])
    np.testing.assert_allclose(found.vectors[0], both.mean(axis=0), rtol=1e-6)
    assert found.stored.tolist() == [1]


def test_an_emotion_is_the_mean_of_the_surest(collection: Collection) -> None:
    found = resolve_reference("emotion:angry", search_context(collection))  # the space spells it Angry
    assert (found.name, found.stored.size) == ("emotion:Angry", 0)
    hits = collection.query("emotion:angry", by="segment", k=22)
    assert {hit.emotion for hit in hits} == {"Angry"}
    # the long call has ten angry moments, and its three surest stand for it; the others have three each
    chosen = [15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43]
    scores = [collection.segments(f"seg:{number}")[0].scores["Angry"] for number in chosen]
    expected = np.average(units(collection, chosen), axis=0, weights=scores)
    np.testing.assert_allclose(found.vectors[0], expected, rtol=1e-5)
    assert collection.query(emotion="ANGRY", by="segment", k=3).hits == hits.hits[:3]


def test_no_more_than_the_surest_hundred(tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "index", create=True) as collection:
        collection.catalog.pin(SPACE, "saved")
        for number in range(prototypes.SUREST + 5):
            collection.catalog.store(a_call(number, 1 if number < prototypes.SUREST else 4))
        found = prototypes.prototype(collection.catalog, "emotion:Angry")
        surest = rows.confident_emotion(collection.catalog, "Angry", prototypes.SUREST)
        expected = np.average(
            units(collection, sorted(surest.ids.tolist())), axis=0, weights=surest.scores[np.argsort(surest.ids)]
        )
        np.testing.assert_allclose(found.vector, expected, rtol=1e-5)


def test_an_emotion_that_nothing_is_named_is_that_of_which_it_is_likeliest(tmp_path: Path) -> None:
    probabilities = np.array([[0.5, 0.4, 0.1], [0.45, 0.41, 0.14], [0.4, 0.5, 0.1], [0.1, 0.8, 0.1]], np.float32)
    vectors = np.eye(4, DIM, dtype=np.float32)
    segments = [NewSegment(0, 2.0 * at, 2.0 * at + 1.5, vectors[at], probabilities[at]) for at in range(4)]
    with e2vsearch.open(tmp_path / "index", create=True) as collection:
        collection.catalog.pin(SPACE, "saved")
        collection.catalog.store(replace(a_call(0, 0), segments=tuple(segments)))
        assert [each.emotion for _, each in collection.catalog.segments()] == ["unsure", "unsure", "unsure", "sad"]
        found = prototypes.prototype(collection.catalog, "emotion:angry")
        expected = np.average(vectors[:2], axis=0, weights=[0.5, 0.45])
        np.testing.assert_allclose(found.vector, expected, rtol=1e-5)
        np.testing.assert_allclose(
            prototypes.prototype(collection.catalog, "emotion:sad").vector, vectors[3]
        )  # one is named
        outstanding = prototypes.prototype(
            collection.catalog, "emotion:fearful"
        ).vector  # .14 is 1.24 times its mean there
        np.testing.assert_allclose(outstanding, vectors[1])
        with pytest.raises(QueryError, match="'unsure' is no emotion"):
            collection.query(emotion={"unsure": 1.0})
        collection.labels.add("unsure", "seg:2")  # a label of one's own may be called so
        assert from_name("unsure", search_context(collection)).name == "label:unsure"
        assert len(collection.query(emotion={"unsure": 1.0}, by="segment")) == 3


def test_a_label_that_only_a_classifier_gave(collection: Collection) -> None:
    made = rows.store_classifier(collection.catalog, "c", ["calm", "other"], b"", {})
    predictions = rows.Predictions(np.array([2, 4]), np.zeros(2, np.int16), np.array([0.9, 0.6], np.float32))
    rows.replace_predictions(collection.catalog, made, predictions, None, None, 0.5)
    found = from_name("calm", search_context(collection))
    np.testing.assert_allclose(
        found.vectors[0], np.average(units(collection, [2, 4]), axis=0, weights=[0.9, 0.6]), rtol=1e-6
    )
    assert found.stored.size == 0


def test_a_label_goes_before_an_emotion(collection: Collection) -> None:
    collection.labels.add("sad", "seg:1")
    assert from_name("sad", search_context(collection)).name == "label:sad"
    assert resolve_reference("emotion:sad", search_context(collection)).name == "emotion:sad"


def test_a_bare_word_is_a_path(collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AudioNotFound, match="sad: no such file - did you mean emotion:sad"):
        resolve_reference("sad", search_context(collection))
    monkeypatch.chdir(tmp_path)
    Path("sad").write_bytes(b"a file without a suffix, and no audio either")
    with pytest.raises(E2vsearchError, match="saved vectors"):  # it is taken for a clip, which nothing here can embed
        resolve_reference("sad", search_context(collection))
    np.save("angry.npy", np.ones(DIM, np.float32))
    assert resolve_reference("angry.npy", search_context(collection)).name == "angry.npy"


def test_results_are_references(collection: Collection) -> None:
    hit = collection.query("seg:5", by="segment")[0]
    assert collection.query(hit, k=3).hits == collection.query(hit.segment, k=3).hits
    segment, recording = collection.segments("seg:7")[0], collection.recordings("call:2")[0]
    assert collection.query(segment, k=3).hits == collection.query("seg:7", k=3).hits
    assert collection.query(recording, k=3).hits == collection.query("call:2", k=3).hits


@pytest.mark.parametrize(
    ("query", "error", "says"),
    [
        ("angri", AudioNotFound, "angri: no such file - known names: emotion:Angry, emotion:sad.*label:x"),
        ("emotion:joy", NotStored, "no emotion 'joy' - known: emotion:Angry"),
        ("label:y", NotStored, "no label 'y' - known: label:x"),
        ("label:", NotStored, "known: label:x"),
        ("emotion:fearful", NotStored, "no segment is named 'fearful' here"),
        ("fearful", AudioNotFound, "did you mean emotion:fearful"),
        ("emotion:unsure", QueryError, r"'unsure' is no emotion to search by.*--where 'emotion = \"unsure\"'"),
        ("emotion:Too Short", QueryError, "'too short' is no emotion"),
    ],
)
def test_unknown_names_say_what_is_known(collection: Collection, query: str, error: type, says: str) -> None:
    collection.labels.add("x", "seg:1")
    with pytest.raises(error, match=says) as caught:
        collection.query(query)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["none.wav", "a/b", "~x", "c:x", "x" * 65])
def test_what_reads_like_a_path_suggests_no_names(collection: Collection, name: str) -> None:
    with pytest.raises(E2vsearchError) as caught:
        collection.query(name)
    assert "emotion:" not in str(caught.value)
