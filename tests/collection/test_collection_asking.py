"""An open collection is asked: every kind of reference, calls and moments, filters, with and without an index."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from made import save, silence, sine, speech, wav_bytes

import e2vsearch
from e2vsearch import audio
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.collection import Collection
from e2vsearch.errors import AudioNotFound, BadFilter, NotStored, QueryError, SpaceMismatch
from e2vsearch.types import Space
from e2vsearch.vectors.engine import IndexOptions


def test_a_cut_finds_its_call_and_moment(collection: Collection, calls: Path, tmp_path: Path) -> None:
    segment = collection.segments(collection.recordings(str(calls / "voice1.wav"))[0].id)[1]
    cut = save(tmp_path / "cut.wav", audio.cut(calls / "voice1.wav", segment.start_s, segment.end_s))
    result = collection.query(cut, k=3)
    assert result[0].name == "voice1"
    assert result[0].start_s < segment.end_s
    assert result[0].end_s > segment.start_s
    assert (result[0].score or 0) > 0.999
    assert [hit.score for hit in result] == sorted((hit.score or 0 for hit in result), reverse=True)
    assert len({hit.recording for hit in result}) == 3
    assert result.searched == result.total == collection.status().counts.segments


def test_a_stored_segment_leaves_itself_out(collection: Collection) -> None:
    without = collection.query("seg:1", by="segment", k=100)
    assert "seg:1" not in [hit.segment for hit in without]
    assert len(without) == without.searched == collection.status().counts.segments - 1
    itself = collection.query("seg:1", by="segment", k=100, include_self=True)
    assert itself[0].segment == "seg:1"
    assert itself[0].score == pytest.approx(1.0, abs=1e-6)
    assert len(itself) == len(without) + 1
    # by call, only the segment is left out, not its call
    first = collection.query("seg:1", k=10)
    assert len(first) == 4
    assert all(hit.segment != "seg:1" for hit in first)


def test_a_stored_call_leaves_itself_out(collection: Collection) -> None:
    without = collection.query("call:1", k=10)
    assert "call:1" not in [hit.recording for hit in without]
    assert len(without) == 3
    itself = collection.query("call:1", k=10, include_self=True)
    assert itself[0].recording == "call:1"
    assert itself[0].score == pytest.approx(1.0, abs=1e-6)


def test_every_kind_of_reference_gives_the_same(collection: Collection, tmp_path: Path) -> None:
    clip = speech(3.0, seed=11, pitch_hz=130.0)
    path = save(tmp_path / "a clip.wav", clip, subtype="FLOAT")
    vectors = np.stack([moment.vector for moment in collection.embed(path).segments])
    assert len(vectors) == 1
    np.save(tmp_path / "ref.npy", vectors[0])
    expected = [(hit.segment, round(hit.score or 0, 5)) for hit in collection.query(path)]
    for reference in (
        str(path),
        path.as_uri(),
        wav_bytes(clip, subtype="FLOAT"),
        clip,
        clip[None],
        tmp_path / "ref.npy",
        vectors,
        vectors[0].astype(np.float64),
        vectors[0].tolist(),
    ):
        hits = collection.query(reference)
        assert [(hit.segment, round(hit.score or 0, 5)) for hit in hits] == expected, type(reference)


def test_late_interaction_is_the_mean_of_best_matches(collection: Collection) -> None:
    catalog = collection.catalog
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((3, 16)).astype(np.float32)
    ids, recordings = catalog.segments_of([1, 2, 3, 4])
    batch = catalog.feed().fetch(ids)
    unit = batch.vectors.astype(np.float64) / np.linalg.norm(batch.vectors.astype(np.float64), axis=1, keepdims=True)
    wanted = reference / np.linalg.norm(reference, axis=1, keepdims=True)
    cosines = wanted @ unit.T
    scores = {f"call:{call}": cosines[:, recordings == call].max(axis=1).mean() for call in np.unique(recordings)}
    result = collection.query(reference, k=4)
    assert {hit.recording: hit.score for hit in result} == pytest.approx(scores, abs=1e-6)
    assert [hit.recording for hit in result] == sorted(scores, key=lambda call: -scores[call])
    for hit in result:
        own = ids[recordings == int(hit.recording.removeprefix("call:"))]
        best = own[np.argmax(cosines[:, np.isin(ids, own)].max(axis=0))]
        assert hit.segment == f"seg:{best}"
        assert hit.segment_score == pytest.approx(cosines[:, ids == best].max(), abs=1e-6)


def test_late_interaction_keeps_to_the_filter(collection: Collection) -> None:
    reference = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    hits = collection.query(reference, where="channel = 1", k=10)
    assert [hit.channel for hit in hits] == [1]
    [only] = hits
    ids = collection.catalog.select("channel = 1")
    cosines = collection.index.engine.scores(reference, ids)
    assert only.score == pytest.approx(cosines.max(axis=1).mean(), abs=1e-6)


def test_several_references_count_as_one(collection: Collection) -> None:
    together = collection.query("seg:1", "seg:5", k=4)
    vectors = collection.catalog.feed().fetch(np.array([1, 5])).vectors
    excluded = {"seg:1", "seg:5"}
    assert not excluded & {hit.segment for hit in together}
    assert together.references == ("seg:1", "seg:5")
    kept = collection.query(vectors, k=4)
    assert {hit.recording for hit in kept} == {hit.recording for hit in together}


def test_filters_hold_for_every_hit(collection: Collection) -> None:
    result = collection.query("seg:1", by="segment", where="channel = 1", k=50)
    assert len(result) >= 1
    assert {hit.channel for hit in result} == {1}
    assert result.searched == len(result) < result.total
    assert result.where == "channel = 1"
    assert len(collection.query("seg:1", where="name = voice2")) == 1
    assert len(collection.query("seg:1", where="name = nobody")) == 0
    with pytest.raises(BadFilter):
        collection.query("seg:1", where="nonsense")


def test_one_long_call_does_not_fill_the_list(collection: Collection) -> None:
    vector = np.ones(16, np.float32)
    rng = np.random.default_rng(0)
    near = tuple(
        NewSegment(0, float(at), at + 1.0, vector + 0.01 * rng.standard_normal(16).astype(np.float32))
        for at in range(1500)
    )
    recording = collection.recordings(where="name = voice0")[0]
    fields = {name: getattr(recording, name) for name in NewRecording.__slots__ if hasattr(recording, name)}
    fields |= {"uri": "/long.wav", "content_sha256": "f" * 64, "segments": near}
    collection.catalog.store(NewRecording(**fields))
    assert len(collection.query(vector, k=5)) == 5


BAD_REFERENCES: list[tuple[e2vsearch.search.query.AudioQuery, type[Exception], str]] = [
    ("seg:999", NotStored, "seg:999"),
    ("call:999", NotStored, "call:999"),
    ("seg:x", NotStored, "seg:NUMBER"),
    ("no such.wav", AudioNotFound, "no such.wav"),
    ("s3://bucket/a.wav", QueryError, "file://"),
    (np.ones((2, 3, 4), np.float32), e2vsearch.E2vsearchError, ""),
    (np.full(16, np.nan, np.float32), QueryError, "NaN"),
    ([1.0, 2.0], QueryError, "2 numbers"),
    (wav_bytes(silence(3.0)), QueryError, "no speech"),
]


def test_references_that_cannot_be(collection: Collection) -> None:
    for reference, error, says in BAD_REFERENCES:
        with pytest.raises(error) as caught:
            collection.query(reference)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)


def test_queries_that_make_no_sense(collection: Collection) -> None:
    with pytest.raises(QueryError, match="reference"):
        collection.query()
    with pytest.raises(QueryError, match="k must be"):
        collection.query("seg:1", k=0)
    with pytest.raises(QueryError, match="by recording or by segment"):
        collection.query("seg:1", by="product")


def test_vectors_of_another_dimension_are_refused(collection: Collection, tmp_path: Path) -> None:
    np.save(tmp_path / "ref.npy", np.ones(384, np.float32))
    with pytest.raises(e2vsearch.E2vsearchError, match="384"):
        collection.query(tmp_path / "ref.npy")


def test_another_encoder_is_refused(collection: Collection, database_url: str) -> None:
    from e2vsearch.encoders.fake import FakeEncoder

    with (
        e2vsearch.open(database_url, encoder=FakeEncoder("fake-2"), create=True) as other,
        pytest.raises(SpaceMismatch, match=r"the version of e2vsearch whose fake made them, or .*--index"),
    ):
        other.query(sine(2.0))


def test_removed_calls_are_not_found(collection: Collection, calls: Path) -> None:
    vector = np.ones(16, np.float32)
    before = collection.query(vector, k=10)
    assert collection.remove(before[0].recording) == 1
    after = collection.query(vector, k=10)
    assert len(after) == len(before) - 1
    assert before[0].recording not in [hit.recording for hit in after]
    assert collection.remove(str(calls)) == 3
    for gone in ("call:1", str(calls)):
        with pytest.raises(NotStored, match="is not in"):
            collection.remove(gone)
    assert collection.status().counts.recordings == 0


def test_the_index_is_built_and_answers_the_same(collection: Collection) -> None:
    before = collection.query("seg:1", by="segment", k=100)
    collection.index.build("flat")
    assert collection.status().index.kind == "flat"  # type: ignore[union-attr]
    assert collection.index.engine.verify() == []
    after = collection.query("seg:1", by="segment", k=100)
    assert [(hit.segment, hit.score) for hit in after] == [(hit.segment, pytest.approx(hit.score)) for hit in before]  # type: ignore[comparison-overlap]


@pytest.mark.slow
def test_a_collection_above_the_threshold_goes_through_the_index(database_url: str) -> None:
    """Built when due, by call and by moment the same as exactly, and fresh rows are found before the next build."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 16))

    def recording(number: int) -> NewRecording:
        made = (centres[rng.integers(40, size=30)] + 0.4 * rng.standard_normal((30, 16))).astype(np.float32)
        segments = tuple(NewSegment(0, 2.0 * at, 2.0 * at + 1.5, vector) for at, vector in enumerate(made))
        when = datetime(2024, 1, 1, tzinfo=UTC)
        return NewRecording(f"/{number}.wav", str(number), f"{number:064x}", 1, 1, when, 60.0, 1, 8000, "WAV", segments)

    options = IndexOptions(exact_below=2000)
    with e2vsearch.open(database_url, index_options=options, create=True) as collection:
        collection.catalog.pin(Space("saved", "made", 16), "saved")
        for number in range(100):
            collection.catalog.store(recording(number))
        assert "no index yet" in str(collection.index.engine.due())
        manifest = collection.index.maintain()
        assert manifest is not None
        assert manifest.kind == "ivf-rabitq"
        assert manifest.tuned.recall >= 0.95  # type: ignore[attr-defined]
        assert collection.index.engine.due() is None
        assert collection.index.engine.verify() == []
        for by in ("segment", "recording"):
            near = collection.query("seg:7", by=by, k=10)
            true = collection.query("seg:7", by=by, k=10, exact=True)
            assert not near.exact
            assert true.exact
            assert len({hit.segment for hit in near} & {hit.segment for hit in true}) >= 9
            assert all(
                hit.score == pytest.approx(other.score, abs=1e-6)
                for hit in near
                for other in true
                if hit.segment == other.segment
            )
        new = collection.catalog.store(recording(100)).id
        collection.catalog.remove([3])
        hits = collection.query(f"call:{new}", include_self=True, k=5)
        assert hits[0].recording == f"call:{new}"
        assert "call:3" not in {hit.recording for hit in collection.query("seg:7", k=99)}
        filtered = collection.query("seg:7", where="recording between 10 and 12", k=99)
        assert {hit.recording for hit in filtered} == {"call:10", "call:11", "call:12"}
