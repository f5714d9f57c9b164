"""The projection of an encoder's head, in a collection: adopted, adapted as it grows, and left alone where chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import e2vsearch
from e2vsearch import doctor, encoder_check
from e2vsearch.catalog import projections as catalog_projections
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.encoders.base import Embeddings, Encoder
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.errors import AnalysisError, EncoderError, QueryError
from e2vsearch.projections import adapt, refit
from e2vsearch.projections.base import softmax
from e2vsearch.projections.sample import speakers_of
from e2vsearch.search.compare import comparison_view
from e2vsearch.transfer import export, import_
from e2vsearch.types import Head

DIM = 16
LABELS = ("angry", "fearful", "happy", "neutral", "sad")
WHEN = datetime(2024, 3, 1, tzinfo=UTC)


def head() -> Head:
    rng = np.random.default_rng(7)
    return Head(rng.standard_normal((len(LABELS), DIM)).astype(np.float32), rng.standard_normal(5).astype(np.float32))


def said(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return softmax(vectors.astype(np.float64) @ head().weights.T + head().biases).astype(np.float32)


class Headed(FakeEncoder):
    """The fake encoder with five classes and the linear head that makes their scores."""

    def __init__(self, name: str = "emotion2vec_plus_base", *, own: bool = True) -> None:
        super().__init__()
        self.space = replace(self.space, encoder=name, labels=LABELS)
        self._own = own

    def head(self) -> Head | None:
        return head() if self._own else None

    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        vectors = super()._encode(signals).vectors
        return Embeddings(vectors, said(vectors))


def store(collection: e2vsearch.Collection, count: int, start: int, *, scored: bool = True) -> None:
    """One recording of so many segments, as an ingest stores it."""
    vectors = np.random.default_rng(start).standard_normal((count, DIM)).astype(np.float32) + 2
    rows = said(vectors)
    segments = tuple(
        NewSegment(at % 2, float(at), at + 1.0, vector, rows[at] if scored else None)
        for at, vector in enumerate(vectors)
    )
    name = f"{start}.wav"
    collection.catalog.store(
        NewRecording(f"/{name}", name, f"{start:064x}", 10, 0, WHEN, float(count), 2, 16_000, "WAV", segments)
    )


def expected(collection: e2vsearch.Collection, of: Head | None = None) -> str:
    """The revision of what a collection of these segments adopts."""
    batch = collection.catalog.feed().fetch(np.arange(10_000))
    voices = speakers_of(collection.catalog, batch.ids)
    return adapt.default(None, of or head(), batch.vectors, voices).revision


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[e2vsearch.Collection]:
    encoder = Headed()
    with e2vsearch.open(tmp_path / "index", encoder=encoder, create=True) as opened:
        encoder_check.pin_encoder(opened.catalog, encoder)
        yield opened


@pytest.fixture
def older(tmp_path: Path) -> Iterator[e2vsearch.Collection]:
    """A collection that was made before heads were adopted: its encoder is not at hand, its scores are."""
    with e2vsearch.open(tmp_path / "older", create=True) as opened:
        opened.catalog.pin(Headed().space, "emotion2vec_plus_base")
        store(opened, 40, 1)
        yield opened


def test_it_is_in_use_from_the_first_segment_and_adapted_as_the_collection_grows(
    collection: e2vsearch.Collection,
) -> None:
    resting = catalog_projections.used(collection.catalog)
    assert resting == ("head", adapt.without_collection(None, head(), DIM).revision)
    for start, (count, adapted) in enumerate([(1, True), (3, True), (3, False), (1, True), (12, True), (19, False)]):
        store(collection, count, start)
        before = catalog_projections.used(collection.catalog)
        assert (collection.index.due() is not None) >= adapted
        collection.index.maintain()
        used = catalog_projections.used(collection.catalog)
        assert (used != before) == adapted
        assert used is not None
        assert not adapted or used[1] == expected(collection)
    assert len(list(collection.catalog.segments())) == 39
    status = collection.status()
    assert status.space is not None
    assert status.space.projection == f"head@{used[1][:12]}"  # type: ignore[index]  # named wherever the space is
    report = catalog_projections.get(collection.catalog, "head").report
    assert (report["segments"], report["head"], report["speakers"]) == (20, "the encoder's own", 8)


def test_hits_are_those_of_the_adapted_head(collection: e2vsearch.Collection) -> None:
    store(collection, 30, 1)
    collection.index.maintain()
    batch = collection.catalog.feed().fetch(np.arange(100))
    seen = collection.projections.view().projection.apply(batch.vectors)
    (first,) = collection.query("seg:1", k=1, by="segment").hits
    assert first.score == pytest.approx(float(np.sort(seen @ seen[0])[-2]), abs=1e-5)


def test_the_index_of_a_projection_that_is_replaced_goes(collection: e2vsearch.Collection) -> None:
    store(collection, 30, 1)
    collection.index.maintain()
    collection.index.build()
    used = catalog_projections.used(collection.catalog)
    assert used is not None
    folder = collection.index.folder(used[1])
    assert folder.is_dir()
    store(collection, 40, 2)
    collection.index.maintain()
    assert catalog_projections.used(collection.catalog) == ("head", expected(collection))
    assert not folder.exists()


def test_raw_vectors_are_searched_by_name_alone_and_then_for_good(collection: e2vsearch.Collection) -> None:
    store(collection, 20, 1)
    collection.index.maintain()
    collection.projections.use("raw")
    store(collection, 30, 2)
    encoder_check.pin_encoder(collection.catalog, Headed())  # as the next ingest does
    collection.index.maintain()
    assert catalog_projections.used(collection.catalog) is None
    assert [(each.name, each.used) for each in collection.projections.list()] == [("raw", True), ("head", False)]
    with pytest.raises(QueryError, match="made by itself"):
        collection.projections.drop("head")
    collection.projections.use("head")
    assert catalog_projections.used(collection.catalog) == (
        "head",
        expected(collection),
    )  # adapted meanwhile all the same


def test_one_made_by_hand_agrees_and_is_not_made_again(collection: e2vsearch.Collection) -> None:
    store(collection, 30, 1)
    collection.index.maintain()
    assert collection.projections.fit_head(name="by-hand").revision == expected(collection)
    mine = collection.projections.fit_head(share=0.1)
    assert mine.used
    store(collection, 60, 2)
    encoder_check.pin_encoder(collection.catalog, Headed())
    collection.index.maintain()
    assert catalog_projections.used(collection.catalog) == ("head", mine.revision)
    collection.projections.drop("head")


def test_an_older_collection_finds_its_head_by_its_scores(older: e2vsearch.Collection) -> None:
    assert catalog_projections.used(older.catalog) is None
    assert "not in use yet" in (older.index.due() or "")
    older.index.maintain()
    report = catalog_projections.get(older.catalog, "head").report
    assert report["head"] == "found by the scores of 40 segments"
    found = catalog_projections.used(older.catalog)
    assert found is not None
    batch = older.catalog.feed().fetch(np.arange(100))
    shown = older.projections.view().projection.apply(batch.vectors)
    true = adapt.adapt_head(head(), batch.vectors, speakers_of(older.catalog, batch.ids)).apply(batch.vectors)
    assert shown @ shown.T == pytest.approx(true @ true.T, abs=1e-2)  # 40 vectors of 16 numbers tell all of it
    encoder_check.pin_encoder(older.catalog, Headed())  # the encoder's own replaces it
    assert catalog_projections.get(older.catalog, "head").report["head"] == refit.OWN
    assert catalog_projections.used(older.catalog) == ("head", expected(older))
    assert older.index.due() is None or "index" in (older.index.due() or "")


def test_an_older_collection_adopts_the_encoders_head_at_the_next_ingest(older: e2vsearch.Collection) -> None:
    encoder_check.pin_encoder(older.catalog, Headed())
    assert catalog_projections.used(older.catalog) == ("head", expected(older))


def test_whoever_asks_an_older_collection_for_raw_vectors_keeps_them(older: e2vsearch.Collection) -> None:
    older.projections.use("raw")
    store(older, 60, 2)
    older.index.maintain()
    encoder_check.pin_encoder(older.catalog, Headed())
    assert catalog_projections.used(older.catalog) is None


def test_a_projection_that_was_stored_before_is_a_choice(older: e2vsearch.Collection) -> None:
    batch = older.catalog.feed().fetch(np.arange(100))
    mine = adapt.adapt_head(head(), batch.vectors, batch.ids, name="mine")
    kept = catalog_projections.StoredProjection("mine", "head", mine.revision, mine.pack(), {}, WHEN)
    catalog_projections.put(older.catalog, kept)
    older.index.maintain()
    encoder_check.pin_encoder(older.catalog, Headed())
    assert catalog_projections.used(older.catalog) is None
    catalog_projections.use(older.catalog, "mine")
    store(older, 60, 2)
    older.index.maintain()
    assert catalog_projections.used(older.catalog) == ("mine", mine.revision)


@pytest.mark.parametrize(("count", "scored"), [(19, True), (40, False)])
def test_saved_vectors_that_tell_of_no_head_stay_raw_and_doctor_says_so(
    tmp_path: Path, count: int, scored: bool
) -> None:
    with e2vsearch.open(tmp_path / "index", create=True) as opened:
        opened.catalog.pin(replace(Headed().space, encoder="saved"), "saved")
        store(opened, count, 1, scored=scored)
        opened.index.maintain()
        assert catalog_projections.listed(opened.catalog) == []
    (found,) = [each for each in doctor.examine(str(tmp_path / "index")) if each.name == "projection"]
    assert (found.ok, found.needed) == (False, False)
    assert "raw: cosines of the encoder's own vectors" in found.found


def test_an_encoder_without_a_linear_head_is_searched_raw(tmp_path: Path) -> None:
    encoder: Encoder = Headed("another", own=False)
    with e2vsearch.open(tmp_path / "index", encoder=encoder, create=True) as opened:
        encoder_check.pin_encoder(opened.catalog, encoder)
        store(opened, 40, 1)
        opened.index.maintain()
        assert catalog_projections.listed(opened.catalog) == []


def test_a_damaged_projection_is_mended_by_its_encoder(collection: e2vsearch.Collection) -> None:
    store(collection, 30, 1)
    collection.index.maintain()
    stored = catalog_projections.get(collection.catalog, "head")
    catalog_projections.put(collection.catalog, replace(stored, parameters=stored.parameters[:-9], revision="old"))
    store(collection, 60, 2)
    with pytest.raises(AnalysisError, match="ingesting anything with its encoder mends it"):
        collection.index.maintain()
    encoder_check.pin_encoder(collection.catalog, Headed())
    assert catalog_projections.used(collection.catalog) == ("head", expected(collection))


def test_an_export_carries_the_head(collection: e2vsearch.Collection, tmp_path: Path) -> None:
    store(collection, 30, 1)
    collection.index.maintain()
    export.export(collection.catalog, tmp_path / "out")
    with e2vsearch.open(tmp_path / "copy", create=True) as copy:
        import_.load(copy.catalog, tmp_path / "out")
        assert catalog_projections.used(copy.catalog) == catalog_projections.used(collection.catalog)
        store(copy, 60, 2)
        copy.index.maintain()  # without the encoder
        assert catalog_projections.used(copy.catalog) == ("head", expected(copy))


def test_a_head_of_other_classes_is_refused(tmp_path: Path) -> None:
    encoder = Headed()
    encoder.space = replace(encoder.space, labels=("low", "high"))
    with (
        e2vsearch.open(tmp_path / "index", encoder=encoder, create=True) as opened,
        pytest.raises(EncoderError, match="2 classes and vectors of 16 numbers, and a head of shape"),
    ):
        encoder_check.pin_encoder(opened.catalog, encoder)


def test_clips_without_a_collection_are_compared_through_the_head() -> None:
    found = comparison_view(Headed(), None, None, "no collection here")
    assert found.space.projection == f"head@{found.projection.revision[:12]}"
    assert "it is the head of emotion2vec_plus_base" in found.reason
