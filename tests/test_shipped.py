"""The projection that ships with an encoder: its algebra, and in a collection adopted, centred and left alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from shipped_head import DIM, Ships, calls, knowing, made, vectors

import e2vsearch
from e2vsearch.catalog import projections as catalog_projections
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.emotions import named
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.errors import AnalysisError, EncoderError, QueryError, SpaceMismatch
from e2vsearch.projections import network, refit
from e2vsearch.projections.npz import pack
from e2vsearch.projections.speakers import Speakers, no_speakers
from e2vsearch.transfer import export, import_

# -- the algebra ---------------------------------------------------------------------------------------------------


def test_it_is_the_head_written_out() -> None:
    projection, one = made(), vectors(1)
    x = one[0].astype(np.float64) + projection.bias
    bent = x / (1 + np.exp(-x))
    parts = [bent[8 * i : 8 * i + 8] @ projection.narrow[i] + projection.narrow_bias[i] for i in range(2)]
    said = np.concatenate([part / np.linalg.norm(part) for part in parts]) @ projection.emotion
    rest = one[0].astype(np.float64) @ projection.nuance
    expected = np.concatenate([np.sqrt(0.7) * said / np.linalg.norm(said), np.sqrt(0.3) * rest / np.linalg.norm(rest)])
    assert projection.apply(one)[0] == pytest.approx(expected, abs=1e-6)
    units = [part / np.linalg.norm(part) for part in parts]
    logits = np.mean([units[i] @ projection.classes[i] + projection.classes_bias[i] for i in range(2)], axis=0)
    assert projection.scores(one)[0] == pytest.approx(np.exp(logits) / np.exp(logits).sum(), abs=1e-6)
    assert (projection.dim_in, projection.dim_emotion, projection.dim_out(DIM)) == (DIM, 5, 9)
    skewed = replace(projection, prior=np.array([0.9, 0.1], np.float32)).scores(one)[0]
    assert skewed == pytest.approx(np.exp(logits) * [0.9, 0.1] / (np.exp(logits) @ [0.9, 0.1]), abs=1e-6)


def test_a_row_is_the_same_beside_any_others_and_zeros_stay_zeros() -> None:
    rows = vectors(300)
    rows[7] = 0
    rows[8] *= 1e4  # nothing overflows
    together = made().apply(rows)
    assert np.abs(together[5] - made().apply(rows[5:6])[0]).max() < 1e-6
    assert not together[7].any()
    assert np.isfinite(together).all()
    assert np.linalg.norm(np.delete(together, 7, axis=0), axis=1) == pytest.approx(1.0, abs=1e-5)


def test_vectors_of_another_encoder_are_refused() -> None:
    with pytest.raises(SpaceMismatch, match="16 numbers"):
        made().apply(np.ones((2, 3), np.float32))


def test_packed_it_is_the_same_bytes_and_the_same_projection() -> None:
    data = made().pack()
    again = network.unpack(data)
    assert data == made().pack() == again.pack()
    assert again.revision == made().revision != made(1).revision
    assert again.apply(vectors(5)) == pytest.approx(made().apply(vectors(5)), abs=1e-6)  # the share is a float32 now


@pytest.mark.parametrize("cut", [0, 10, 300, -1])
def test_damaged_parameters_are_one_clear_error(cut: int) -> None:
    with pytest.raises(AnalysisError, match="damaged"):
        network.unpack(made().pack()[:cut])


@pytest.mark.parametrize(
    "change",
    [
        {"prior": np.zeros(2, np.float32)},
        {"anchor": np.full(3, 1 / 3, np.float32)},
        {"emotion": np.zeros((12, 0), np.float32)},
        {"nuance": np.zeros((3, 4), np.float32)},
        {"share": 1.5},
        {"bias": np.full(DIM, np.nan, np.float32)},
        {"means": np.zeros((2, 3), np.float32)},
        {"narrow": np.zeros((3, 8, 6), np.float32)},
        {"emotion": np.zeros((11, 5), np.float32)},
        {"centre": np.zeros(3, np.float32)},
        {"classes": np.zeros((2, 6, 3), np.float32)},
        {"classes_bias": np.zeros((2, 3), np.float32)},
        {"speakers": no_speakers(4, 0, DIM)},
        {"speakers": no_speakers(5, 0, DIM - 1)},
        {
            "speakers": Speakers(
                np.zeros((6, 2), np.float32), np.ones((3, 2), np.float32), np.ones((4, DIM), np.float32)
            )
        },
    ],
)
def test_parameters_that_do_not_fit_together_are_damaged(change: dict[str, object]) -> None:
    with pytest.raises(AnalysisError, match="damaged"):
        network.unpack(replace(made(), **change).pack())  # type: ignore[arg-type]


# -- centring ------------------------------------------------------------------------------------------------------

SHIFT = np.linspace(-1, 1, DIM).astype(np.float32)


def shifted(counts: tuple[int, ...], seed: int = 3) -> NDArray[np.float32]:
    """So many of each class around what the encoder knows of it, all shifted."""
    truth = np.repeat(np.arange(len(counts)), counts)
    return (made().means[truth] + SHIFT + 0.1 * vectors(len(truth), seed)).astype(np.float32)


@pytest.mark.parametrize("counts", [(2000, 2000), (3800, 200)])
def test_the_shift_is_found_however_frequent_a_class_is(counts: tuple[int, int]) -> None:
    rows = shifted(counts)
    centre = knowing().centred(rows).centre
    assert np.abs(centre - SHIFT).max() < 0.35
    plain = rows.mean(axis=0) - made().means.mean(axis=0)
    if counts[0] != counts[1]:
        assert np.abs(plain - SHIFT).max() > 2 * np.abs(centre - SHIFT).max()


def test_where_it_was_centred_before_does_not_matter() -> None:
    rows = shifted((50, 30))
    once = knowing().centred(rows)
    assert once.centred(rows).revision == once.revision != knowing().revision


def test_a_few_segments_shift_little() -> None:
    lengths = [np.linalg.norm(knowing().centred(shifted((n, n))).centre) for n in (1, 10, 1000)]
    assert lengths[0] < 0.2 * lengths[2]
    assert lengths[0] < lengths[1] < lengths[2]


def test_what_has_no_direction_says_nothing() -> None:
    rows = shifted((50, 50))
    assert not knowing().centred(np.zeros((3, DIM), np.float32)).centre.any()
    assert not knowing().centred(rows[:0]).centre.any()
    beside = np.concatenate([rows, np.zeros((30, DIM), np.float32)])
    assert np.abs(knowing().centred(beside).centre - knowing().centred(rows).centre).max() < 1e-6


def test_a_centre_takes_what_the_encoder_mistakes_back_to_its_class() -> None:
    one = knowing()
    truth = np.repeat([0, 1], 400)
    towards = 0.4 * (one.means[1] - one.means[0])  # so that many of the first are taken for the second
    rows = (one.means[truth] + towards + vectors(800, 5)).astype(np.float32)
    resting, centred = (float((each.scores(rows).argmax(axis=1) == truth).mean()) for each in (one, one.centred(rows)))
    assert centred > resting + 0.05
    assert centred > 0.95


# -- in a collection -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_collection_adopts_what_ships_and_centres_it_as_it_grows(tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "index", encoder=Ships(), create=True) as collection:
        collection.ingest(calls(tmp_path / "calls", 3))
        assert catalog_projections.used(collection.catalog) == ("shipped", made().revision)  # too few to be centred on
        folder = collection.index.folder(made().revision)
        folder.mkdir(parents=True, exist_ok=True)
        collection.ingest(calls(tmp_path / "calls", 12, start=3))
        used = catalog_projections.used(collection.catalog)
        assert used is not None
        assert used[1] != made().revision
        assert not folder.exists()  # nobody will look through that any more
        count = len(list(collection.catalog.segments()))
        assert count >= refit.LEAST_SEGMENTS
        batch = collection.catalog.feed().fetch(np.arange(count + 1))
        expected = made().centred(batch.vectors)
        assert used[1] == expected.revision
        assert scores_of(collection) == pytest.approx(expected.scores(batch.vectors), abs=1e-7)
        (first,) = collection.query("seg:1", k=1, include_self=False).hits
        seen = expected.apply(batch.vectors)
        cosines = seen @ seen[0]
        assert first.score == pytest.approx(float(np.sort(cosines)[-2]), abs=1e-5)
        collection.ingest(calls(tmp_path / "calls", 1, start=15))  # not twice as many: left alone
        assert catalog_projections.used(collection.catalog) == used
        every = collection.catalog.feed().fetch(np.arange(1000)).vectors
        assert len(every) > len(batch.ids)
        assert scores_of(collection) == pytest.approx(expected.scores(every), abs=1e-7)  # of what came since, too
        heard = collection.embed(tmp_path / "calls" / "15.wav")
        own = [segment.scores for segment in collection.segments(f"call:{max(batch.recordings) + 1}")]
        assert [list(each.values()) for each in own] == pytest.approx(
            np.stack([moment.scores for moment in heard.segments if moment.scores is not None]), abs=1e-6
        )


def scores_of(collection: e2vsearch.Collection) -> NDArray[np.float64]:
    """What the catalog says of all segments, where its parts agree with each other."""
    found = []
    for _, segment in collection.catalog.segments():
        found.append(list(segment.scores.values()))
        length, labels = segment.end_s - segment.start_s, tuple(segment.scores)
        (expected,) = named(np.array(found[-1:]), labels, [length], [segment.level_db])
        assert (segment.emotion, segment.emotion_score) == (expected.name, expected.score)
        assert (segment.arousal, segment.valence) == (expected.arousal, expected.valence)
    return np.array(found)


@contextmanager
def grown(folder: Path) -> Iterator[e2vsearch.Collection]:
    """A collection with segments enough to be centred on, which it has not been."""
    with e2vsearch.open(folder / "index", encoder=Ships(), create=True) as collection:
        collection.ingest(calls(folder / "calls", 1))
        stored(collection, 50, 0)
        yield collection


def test_an_export_leaves_behind_how_far_segments_were_scored(tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "index", encoder=Ships(), create=True) as collection:
        collection.ingest(calls(tmp_path / "calls", 1))
        for start in range(3):
            stored(collection, 20, start)
        collection.index.maintain()
        mark = catalog_projections.get(collection.catalog, "shipped").report[catalog_projections.SCORED_TO]
        export.export(collection.catalog, tmp_path / "out")
        expected = scores_of(collection)
        assert catalog_projections.get(collection.catalog, "shipped").report[catalog_projections.SCORED_TO] == mark
    with e2vsearch.open(tmp_path / "other", encoder=Ships(), create=True) as other:
        import_.load(other.catalog, tmp_path / "out")
        assert catalog_projections.SCORED_TO not in catalog_projections.get(other.catalog, "shipped").report
        stored(other, 5, 3)  # far below that mark of the first one's feed
        other.index.maintain()
        every = other.catalog.feed().fetch(np.arange(1000)).vectors
        centred = network.unpack(catalog_projections.get(other.catalog, "shipped").parameters)
        assert scores_of(other) == pytest.approx(centred.scores(every), abs=1e-7)
        assert scores_of(other)[: len(expected)] == pytest.approx(expected, abs=1e-6)


def test_a_centre_that_does_not_move_is_not_due_for_ever(tmp_path: Path) -> None:
    with grown(tmp_path) as collection:
        collection.index.maintain()
        mine = catalog_projections.get(collection.catalog, "shipped")
        catalog_projections.report(
            collection.catalog, replace(mine, report={**mine.report, "segments": 20})
        )  # as if it had grown to the same
        assert "was fitted to 20" in (refit.refit_due(collection.catalog) or "")
        collection.index.maintain()
        assert catalog_projections.get(collection.catalog, "shipped").revision == mine.revision
        assert refit.refit_due(collection.catalog) is None


def test_scoring_that_was_cut_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with grown(tmp_path) as collection:
        whole = catalog_projections.put_scores

        def killed(*given: Any) -> bool:
            whole(*given)
            raise KeyboardInterrupt

        monkeypatch.setattr(catalog_projections, "put_scores", killed)
        with pytest.raises(KeyboardInterrupt):
            refit.refit(collection.catalog, rows=20)
        monkeypatch.setattr(catalog_projections, "put_scores", whole)
        vectors_ = collection.catalog.feed().fetch(np.arange(1000)).vectors
        expected = made().centred(vectors_).scores(vectors_)
        off = np.abs(scores_of(collection) - expected).max(axis=1) > 1e-6
        assert not off[:20].any()
        assert off[20:].any()
        assert "no scores" in (collection.index.due() or "")
        collection.index.maintain()
        assert scores_of(collection) == pytest.approx(expected, abs=1e-7)
        assert refit.refit_due(collection.catalog) is None


def test_whoever_scores_by_a_centre_that_is_replaced_leaves_it(tmp_path: Path) -> None:
    with grown(tmp_path) as collection:
        collection.index.maintain()
        mine = catalog_projections.get(collection.catalog, "shipped")
        before = scores_of(collection)
        late = replace(mine, revision="another")
        assert not catalog_projections.put_scores(
            collection.catalog, np.array([1]), np.array([[1.0, 0.0]], np.float32), late
        )
        assert not catalog_projections.report(collection.catalog, replace(late, report={}))
        assert scores_of(collection) == pytest.approx(before)
        assert catalog_projections.get(collection.catalog, "shipped").report == mine.report


@pytest.mark.parametrize("damage", [b"", b"of another version"])
def test_what_ships_replaces_one_that_cannot_be_read(tmp_path: Path, damage: bytes) -> None:
    with e2vsearch.open(tmp_path / "index", encoder=Ships(), create=True) as collection:
        collection.ingest(calls(tmp_path / "calls", 1))
        old = catalog_projections.get(collection.catalog, "shipped")
        catalog_projections.put(
            collection.catalog, replace(old, parameters=damage, revision="old", report={"segments": 60})
        )
        with pytest.raises(AnalysisError, match="ingesting anything"):
            collection.query("seg:1")
        collection.projections.use("raw")  # as its message says
        assert collection.query(tmp_path / "calls" / "0.wav").hits
        catalog_projections.use(collection.catalog, "shipped")
    with e2vsearch.open(tmp_path / "index", encoder=Ships(), create=True) as collection:
        collection.ingest(calls(tmp_path / "calls", 1, start=1))
        assert catalog_projections.used(collection.catalog) == ("shipped", made().revision)
        assert collection.query("seg:1").hits


def test_status_names_a_stored_projection_of_an_earlier_format_and_works(tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "index", encoder=Ships(), create=True) as collection:
        collection.ingest(calls(tmp_path / "calls", 1))
        old = catalog_projections.get(collection.catalog, "shipped")
        parts = {"bias": made().bias, "centre": made().centre, "means": made().means}
        catalog_projections.put(collection.catalog, replace(old, parameters=pack(parts), revision="old"))
        status = collection.status()
        assert status.problem is not None
        assert "earlier version" in status.problem
        assert "\n" not in status.problem
        assert (status.space, status.index) == (collection.catalog.space, None)
        assert status.counts.segments > 0
        collection.ingest(calls(tmp_path / "calls", 1, start=1))  # as it says
        assert collection.status().problem is None


def test_a_projection_of_other_classes_is_refused(tmp_path: Path) -> None:
    class Wrong(FakeEncoder):
        def projection(self) -> bytes:
            return made(classes=3).pack()

    with (
        e2vsearch.open(tmp_path / "index", encoder=Wrong(), create=True) as collection,
        pytest.raises(EncoderError, match="2 classes, and its projection 3"),
    ):
        collection.ingest(calls(tmp_path / "calls", 1))


def test_whoever_chose_otherwise_is_left_alone(tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "index", encoder=Ships(), create=True) as collection:
        collection.ingest(calls(tmp_path / "calls", 2))
        collection.projections.use("raw")
        collection.ingest(calls(tmp_path / "calls", 12, start=2))
        assert catalog_projections.used(collection.catalog) is None
        assert [each.name for each in collection.projections.list()] == ["raw", "shipped"]
        with pytest.raises(QueryError, match="ships with the encoder"):
            collection.projections.drop("shipped")
        with pytest.raises(QueryError, match="cannot name"):
            collection.projections.fit_head(name="shipped")
        collection.projections.use("shipped")
        used = catalog_projections.used(collection.catalog)
        assert used is not None
        assert used[1] != made().revision  # centred meanwhile all the same


def test_an_encoder_that_ships_none_is_searched_raw(tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        collection.ingest(calls(tmp_path / "calls", 1))
        assert catalog_projections.listed(collection.catalog) == []
        assert collection.index.maintain() is None


# -- evaluation and clips alone ------------------------------------------------------------------------------------


def stored(collection: e2vsearch.Collection, count: int, start: int) -> None:
    """One recording of many segments, as an ingest would store it."""
    rng = np.random.default_rng(start)
    own = np.array([0.3, 0.7], np.float32)
    segments = tuple(
        NewSegment(0, at, at + 1.0, rng.standard_normal(DIM).astype(np.float32), own) for at in range(count)
    )
    when = datetime(2024, 3, 1, tzinfo=UTC)
    name = f"{start}.wav"
    collection.catalog.store(
        NewRecording(f"/{name}", name, f"{start:064x}", 10, 0, when, float(count), 1, 16_000, "WAV", segments)
    )


@pytest.mark.slow
def test_what_an_index_was_built_for_survives_a_new_centre(tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "index", encoder=Ships(), create=True) as collection:
        collection.ingest(calls(tmp_path / "calls", 1))
        stored(collection, 1100, 0)
        collection.index.maintain()
        collection.index.build("ivf-flat", recall=0.9)
        before = collection.index.folder(catalog_projections.used(collection.catalog)[1])  # type: ignore[index]
        stored(collection, 1200, 1100)
        built = collection.index.maintain()
        assert built is not None
        assert (built.requested_kind, built.tuned.target) == ("ivf-flat", 0.9)  # type: ignore[attr-defined]
        assert not before.exists()
        assert collection.index.engine.count() == collection.catalog.segment_count()
