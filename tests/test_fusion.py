"""Side vectors and fusion: attached by id, weighed with the emotion, exact, the same on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from databases import Copied
from numpy.typing import NDArray

import e2vsearch
from e2vsearch.catalog import named_vectors
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.collection import Collection
from e2vsearch.errors import NotStored, QueryError, SettingsError, SpaceMismatch, VectorFileError
from e2vsearch.search import query, rank
from e2vsearch.transfer import vector_files
from e2vsearch.types import Space

CALLS, SEGMENTS, DIM, SIDE_DIM = 12, 9, 8, 5


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def make(url: str) -> None:
    rng = np.random.default_rng(0)
    with e2vsearch.open(url, create=True) as collection:
        collection.catalog.pin(Space("saved", "made", DIM), "saved")
        for call in range(CALLS):
            made = tuple(
                NewSegment(at % 2, float(at), at + 1.0, rng.standard_normal(DIM).astype(np.float32))
                for at in range(SEGMENTS)
            )
            when = datetime(2024, 3, 1, tzinfo=UTC)
            row = NewRecording(f"/{call}.wav", str(call), f"{call:064x}", 1, 1, when, 9.0, 2, 8000, "WAV", made)
            collection.catalog.store(row)


@pytest.fixture
def collection(copied: Copied) -> Iterator[Collection]:
    """Twelve calls of nine segments, with vectors of 8 numbers."""
    with e2vsearch.open(copied(make)) as collection:
        yield collection


@pytest.fixture
def text(collection: Collection, rng: np.random.Generator) -> NDArray[np.float32]:
    """A side called "text" on all but every seventh segment; gives its vectors in order of ids, zeros for those."""
    vectors = rng.standard_normal((CALLS * SEGMENTS, SIDE_DIM)).astype(np.float32)
    vectors[::7] = 0
    ids = np.flatnonzero(vectors.any(axis=1)) + 1
    attached = collection.named_vectors.attach("text", [f"seg:{number}" for number in ids], vectors[ids - 1])
    assert (attached.name, attached.dim, attached.segments) == ("text", SIDE_DIM, len(ids))
    return vectors


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)


def truth(
    collection: Collection, reference: NDArray[np.float32], others: list[tuple[float, NDArray[np.float32], object]]
) -> NDArray[np.float64]:
    """``(q, n)`` fused scores, written out; `others` are weight, stored vectors and reference of each side."""
    stored = collection.catalog.feed().fetch(np.arange(1, CALLS * SEGMENTS + 1)).vectors
    total = unit(np.atleast_2d(reference)) @ unit(stored).T
    for weight, vectors, side_reference in others:
        total = total + weight * (unit(np.atleast_2d(np.asarray(side_reference, np.float32))) @ unit(vectors).T)
    return total / (1 + sum(weight for weight, _, _ in others))


@pytest.mark.parametrize("block", [4096, 5])
def test_the_score_is_the_weighted_mean_of_cosines(
    collection: Collection, text: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(rank, "_BLOCK", block)
    reference, wanted = np.ones(DIM, np.float32), np.arange(SIDE_DIM, dtype=np.float32)
    scores = truth(collection, reference, [(0.5, text, wanted)])[0]
    result = collection.query(reference, by="segment", k=500, named_vectors={"text": (0.5, wanted)})
    assert len(result) == result.searched == CALLS * SEGMENTS
    assert result.exact
    assert [hit.score for hit in result] == pytest.approx(sorted(scores, reverse=True), abs=1e-6)
    for hit in result:
        number = int(hit.segment.removeprefix("seg:"))
        assert hit.score == pytest.approx(scores[number - 1], abs=1e-6)
        assert hit.score == pytest.approx(
            (hit.named_vector_scores["emotion"] + 0.5 * hit.named_vector_scores["text"]) / 1.5, abs=1e-6
        )
        assert hit.segment_score == pytest.approx(hit.named_vector_scores["emotion"], abs=1e-6)
        assert (hit.named_vector_scores["text"] == 0) == (
            not text[number - 1].any()
        )  # nothing in common, and not left out


@pytest.mark.parametrize("block", [4096, 5])
def test_calls_are_ranked_by_the_mean_of_their_best_matches(
    collection: Collection, text: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(rank, "_BLOCK", block)
    reference = np.random.default_rng(1).standard_normal((3, DIM)).astype(np.float32)
    wanted = np.ones(SIDE_DIM)
    fused = truth(collection, reference, [(2.0, text, wanted)])
    of_calls = fused.reshape(3, CALLS, SEGMENTS)
    scores = of_calls.max(axis=2).mean(axis=0)
    result = collection.query(reference, k=CALLS, named_vectors={"text": (2, wanted.tolist())})
    assert [hit.recording for hit in result] == [f"call:{at + 1}" for at in np.argsort(-scores)]
    for hit in result:
        call = int(hit.recording.removeprefix("call:")) - 1
        assert hit.score == pytest.approx(scores[call], abs=1e-6)
        best = of_calls[:, call].max(axis=0).argmax()
        assert hit.segment == f"seg:{call * SEGMENTS + best + 1}"
    assert [hit.recording for hit in collection.query(reference, k=3, named_vectors={"text": (2, wanted)})] == [
        hit.recording for hit in result[:3]
    ]


def test_without_weight_nothing_changes(collection: Collection, text: NDArray[np.float32]) -> None:
    for by in ("recording", "segment"):
        plain = collection.query("seg:5", by=by, k=20)
        fused = collection.query("seg:5", by=by, k=20, named_vectors={"text": (0, np.ones(SIDE_DIM))})
        assert [(hit.segment, pytest.approx(hit.score, abs=1e-6)) for hit in fused] == [  # type: ignore[comparison-overlap]
            (hit.segment, hit.score) for hit in plain
        ]
        assert all(hit.named_vector_scores == {} for hit in plain)


def test_a_side_alone(collection: Collection, text: NDArray[np.float32]) -> None:
    result = collection.query("seg:5", by="segment", named_vectors={"emotion": 0, "text": (1, "seg:20")}, k=3)
    assert result[0].segment == "seg:20"
    assert result[0].score == pytest.approx(1.0, abs=1e-6)
    assert result[0].named_vector_scores["text"] == pytest.approx(1.0, abs=1e-6)


def test_stored_references_bring_their_own_side_vectors(collection: Collection, text: NDArray[np.float32]) -> None:
    one = collection.query("seg:5", by="segment", k=10, named_vectors={"text": 1})
    assert [hit.segment for hit in one] == [
        hit.segment for hit in collection.query("seg:5", by="segment", k=10, named_vectors={"text": (1, text[4])})
    ]
    ids = np.arange(SEGMENTS, 2 * SEGMENTS) + 1  # of call:2, some without a side vector
    reference = collection.catalog.feed().fetch(ids).vectors
    scores = truth(collection, reference, [(1.0, text, text[ids - 1])]).reshape(SEGMENTS, CALLS, SEGMENTS)
    result = collection.query("call:2", k=CALLS, named_vectors={"text": 1})
    assert "call:2" not in {hit.recording for hit in result}
    assert {hit.recording: hit.score for hit in result} == pytest.approx(
        {f"call:{at + 1}": scores.max(axis=2).mean(axis=0)[at] for at in range(CALLS) if at != 1}, abs=1e-6
    )


def test_filters_hold(collection: Collection, text: NDArray[np.float32]) -> None:
    fuse = {"text": (1.0, np.ones(SIDE_DIM))}
    result = collection.query("seg:1", by="segment", where="channel = 1", k=500, named_vectors=fuse)
    assert {hit.channel for hit in result} == {1}
    assert result.searched == len(result) == CALLS * (SEGMENTS // 2)
    assert [hit.name for hit in collection.query("seg:1", where="name = 3", named_vectors=fuse)] == ["3"]
    assert len(collection.query("seg:1", where="name = nobody", named_vectors=fuse)) == 0
    assert len(collection.query("seg:1", where="name = nobody", named_vectors=fuse, by="segment")) == 0


def test_two_sides(collection: Collection, text: NDArray[np.float32], rng: np.random.Generator) -> None:
    screen = rng.standard_normal((CALLS * SEGMENTS, 3)).astype(np.float32)
    collection.named_vectors.attach("screen", np.arange(1, CALLS * SEGMENTS + 1), screen)
    assert [(side.name, side.dim) for side in collection.named_vectors.list()] == [("screen", 3), ("text", SIDE_DIM)]
    assert collection.status().named_vectors == collection.named_vectors.list()[:]
    reference, a, b = np.ones(DIM, np.float32), np.ones(SIDE_DIM), np.ones(3)
    scores = truth(collection, reference, [(0.5, text, a), (0.25, screen, b)])[0]
    result = collection.query(reference, by="segment", k=5, named_vectors={"text": (0.5, a), "screen": (0.25, b)})
    assert [hit.score for hit in result] == pytest.approx(np.sort(scores)[::-1][:5], abs=1e-6)
    assert collection.named_vectors.detach("screen") == CALLS * SEGMENTS
    with pytest.raises(NotStored, match="there are text"):
        collection.query(reference, named_vectors={"screen": (1, b)})


def test_vectors_are_replaced_and_go_with_their_segments(collection: Collection, text: NDArray[np.float32]) -> None:
    again = collection.named_vectors.attach("text", [2, 3], np.eye(2, SIDE_DIM))
    assert again.segments == np.count_nonzero(text.any(axis=1))
    assert again.created_at == collection.named_vectors.list()[0].created_at
    [batch] = named_vectors.batches(collection.catalog, again)
    assert np.array_equal(batch[1][batch[0] == 2], np.eye(1, SIDE_DIM))
    collection.remove("call:1")
    assert collection.named_vectors.list()[0].segments == np.count_nonzero(text[SEGMENTS:].any(axis=1))
    with pytest.raises(NotStored, match="seg:3"):
        collection.query("seg:20", named_vectors={"text": (1, "seg:3")})


@pytest.mark.parametrize(
    ("name", "ids", "vectors", "error", "says"),
    [
        ("emotion", ["seg:1"], np.ones((1, 5)), SettingsError, "cannot be called"),
        ("a=b", ["seg:1"], np.ones((1, 5)), SettingsError, "cannot be called"),
        ("text", ["seg:1"], np.ones((1, 6)), SpaceMismatch, "e2vsearch vectors detach text"),
        ("new", ["seg:1", "seg:999"], np.ones((2, 5)), NotStored, "seg:999"),
        ("new", ["call:1"], np.ones((1, 5)), NotStored, "seg:NUMBER"),
        ("new", ["seg:1"], np.ones((2, 5)), VectorFileError, "give one row"),
        ("new", ["seg:1"], np.ones(5), VectorFileError, "give one row"),
        ("new", [], np.ones((0, 5)), VectorFileError, "nothing to attach"),
        ("new", ["seg:1", 1], np.ones((2, 5)), VectorFileError, "seg:1 is there twice"),
        ("new", ["seg:1", "seg:2"], [[1.0], [np.nan]], VectorFileError, "seg:2"),
        ("new", ["seg:1", "seg:2"], [[1.0], [1e300]], VectorFileError, "seg:2"),
        ("new", ["seg:1", "seg:2"], [[1.0], [1.0, 2.0]], VectorFileError, "several lengths"),
        ("new", ["seg:1"], [["loud"]], VectorFileError, "no numbers"),
    ],
)
def test_what_cannot_be_attached(
    collection: Collection,
    text: NDArray[np.float32],
    name: str,
    ids: list[str],
    vectors: NDArray[np.float32],
    error: type[Exception],
    says: str,
) -> None:
    before = collection.named_vectors.list()
    with pytest.raises(error, match=says):
        collection.named_vectors.attach(name, ids, vectors)
    assert collection.named_vectors.list() == before  # all or nothing


@pytest.mark.parametrize(
    ("fuse", "error", "says"),
    [
        ({"sound": 1}, NotStored, "no named vectors are called 'sound', there are text"),
        ({"text": -1}, QueryError, "0 or more"),
        ({"text": float("nan")}, QueryError, "0 or more"),
        ({"text": (0, np.ones(5)), "emotion": 0}, QueryError, "all weights are 0"),
        ({"emotion": (1, "seg:1")}, QueryError, "takes a weight alone"),
        ({"text": (1, np.ones(4))}, QueryError, "5 numbers"),
        ({"text": (1, np.ones((2, 5)))}, QueryError, "5 numbers"),
        ({"text": (1, np.zeros(5))}, QueryError, "all zeros"),
        ({"text": (1, "seg:1")}, NotStored, "seg:1 has no vector in 'text'"),
        ({"text": (1, "call:1")}, NotStored, "seg:NUMBER"),
        ({"text": 1}, QueryError, "text=0.5:seg:12"),
    ],
)
def test_what_cannot_be_fused(
    collection: Collection,
    text: NDArray[np.float32],
    fuse: query.NamedVectorWeights,  # type: ignore[name-defined]
    error: type[Exception],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        collection.query(np.ones(DIM, np.float32), named_vectors=fuse)


# ----------------------------------------------------------------------------------------------------------- files


def test_ids_and_vectors_of_files(tmp_path: Path) -> None:
    vectors = np.arange(6, dtype=np.float64).reshape(2, 3)
    np.save(tmp_path / "v.npy", vectors)
    np.save(tmp_path / "ids.npy", np.array([4, 7]))
    (tmp_path / "ids.txt").write_text("\ufeffseg:4\n\n7\r\n", encoding="utf-8")
    for ids in ("ids.npy", "ids.txt"):
        numbers, matrix = vector_files.read(tmp_path / "v.npy", tmp_path / ids)
        assert numbers.tolist() == [4, 7]
        assert np.array_equal(matrix, vectors)


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("segment", [["seg:4", "seg:7"], [4, 7]])
def test_parquet(tmp_path: Path, fixed: bool, segment: list[str] | list[int]) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    kind = pa.list_(pa.float32(), 3) if fixed else pa.list_(pa.float64())
    table = pa.table({"vector": pa.array([[0, 1, 2], [3, 4, 5]], kind), "more": ["x", "y"], "segment": segment})
    parquet.write_table(table, tmp_path / "v.parquet")
    numbers, matrix = vector_files.read(tmp_path / "v.parquet")
    assert numbers.tolist() == [4, 7]
    assert matrix.tolist() == [[0, 1, 2], [3, 4, 5]]
    for wrong, says in (
        (pa.table({"segment": [1]}), "no column vector"),
        (pa.table({"segment": [1, 2], "vector": [[1.0], [1.0, 2.0]]}), "one length"),
        (pa.table({"segment": [1, 2], "vector": [[1.0], None]}), "one length"),
        (pa.table({"segment": [1.5], "vector": [[1.0]]}), "no id"),
    ):
        parquet.write_table(wrong, tmp_path / "wrong.parquet")
        with pytest.raises(VectorFileError, match=says):
            vector_files.read(tmp_path / "wrong.parquet")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((2, 3)))
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    (tmp_path / "ids.txt").write_text("seg:1\nseg:2\n")
    (tmp_path / "calls.txt").write_text("seg:1\ncall:2\n")
    (tmp_path / "broken.parquet").write_text("x")
    for path, ids, says in (
        ("v.npy", None, "--ids"),
        ("v.npy", "calls.txt", "call:2"),
        ("v.npy", "none.txt", "cannot be read"),
        ("none.npy", "ids.txt", "cannot be read"),
        ("words.npy", "ids.txt", "numbers"),
        ("v.npy", "words.npy", "numbers"),
        ("v.csv", None, r"\.npy or \.parquet"),
    ):
        with pytest.raises(VectorFileError, match=says) as caught:
            vector_files.read(tmp_path / path, None if ids is None else tmp_path / ids)
        assert "\n" not in str(caught.value)
    pytest.importorskip("pyarrow")
    with pytest.raises(VectorFileError, match="Parquet"):
        vector_files.read(tmp_path / "broken.parquet")
