"""What a query can say: weights, what is unwanted, emotions and floors, diversity, reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import save, silence, speech
from numpy.typing import NDArray

import e2vsearch
from e2vsearch.catalog import labels
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.collection import Collection
from e2vsearch.errors import NotStored, QueryError
from e2vsearch.search import score
from e2vsearch.search.query import Reference
from e2vsearch.search.result import QueryResult
from e2vsearch.types import Hit, Space

DIM = 12
EMOTIONS = ("angry", "neutral", "sad")
CALLS, TURNS = 40, 6


def made_recording(
    number: int, vectors: NDArray[np.floating], scores: NDArray[np.floating] | None = None, **metadata: str
) -> NewRecording:
    """A call whose segments follow one another, ten of them a day."""
    segments = tuple(
        NewSegment(
            0, 2.0 * at, 2.0 * at + 1.5, vector.astype(np.float32), None if scores is None else scores[at].astype("f4")
        )
        for at, vector in enumerate(vectors)
    )
    when = datetime(2024, 1, 1, 12, tzinfo=UTC) + timedelta(days=number // 10)
    names = f"/{number}.wav", f"{number:03d}", f"{number:064x}"
    return NewRecording(*names, 1, 1, when, 60.0, 1, 8000, "WAV", segments, metadata)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """240 moments around three emotions' directions; each call belongs to one of four agents, one in five to none."""
    rng = np.random.default_rng(4)
    centres = rng.standard_normal((3, DIM))
    with e2vsearch.open(tmp_path_factory.mktemp("asked") / "index", create=True) as collection:
        collection.catalog.pin(Space("saved", "made", DIM, EMOTIONS), "saved")
        for number in range(CALLS):
            kinds = rng.integers(3, size=TURNS)
            vectors = centres[kinds] + 0.8 * rng.standard_normal((TURNS, DIM))
            scores = rng.dirichlet([0.5] * 3, TURNS)
            scores[np.arange(TURNS), kinds] += 0.6
            scores /= scores.sum(axis=1, keepdims=True)
            product = {} if number % 5 == 4 else {"product": f"a{number % 4}"}
            collection.catalog.store(made_recording(number, vectors, scores, **product))
        yield collection


@pytest.fixture(scope="module")
def units(collection: Collection) -> NDArray[np.float64]:
    """Unit vectors of all segments; segment n is row n - 1."""
    vectors = collection.projections.view().source.fetch(np.arange(1, CALLS * TURNS + 1)).vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)  # type: ignore[no-any-return]


def rows(*ids: int) -> list[int]:
    return [number - 1 for number in ids]


def of_call(call: int) -> list[int]:
    return list(range((call - 1) * TURNS, call * TURNS))


def number(identifier: str) -> int:
    return int(identifier.partition(":")[2])


# --------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("k", [3, 500])
def test_weights_and_what_is_unwanted_by_segment(
    collection: Collection, units: NDArray[np.float64], exact: bool, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The score of the docstring, worked out by hand for every moment."""
    monkeypatch.setattr(score, "_ALL_CELLS", 0)  # through the index, unless asked to compare all
    result = collection.query(
        Reference("seg:1", 2.0),
        Reference("call:3", 1.0),
        avoid=[Reference("seg:50", 0.7), "call:9"],
        by="segment",
        k=k,
        exact=exact,
    )
    wanted = (2 * units @ units[0] + (units @ units[of_call(3)].T).max(axis=1)) / 3
    taken = 0.7 * np.maximum(units @ units[49], 0) + 0.5 * np.maximum((units @ units[of_call(9)].T).max(axis=1), 0)
    scores = wanted - taken
    scores[[0, 49, *of_call(3), *of_call(9)]] = -np.inf
    best = np.argsort(-scores)[: min(k, np.isfinite(scores).sum())]
    assert [number(hit.segment) - 1 for hit in result] == best.tolist()
    assert [hit.score for hit in result] == pytest.approx(scores[best].tolist(), abs=1e-5)
    assert result.references == ("seg:1", "call:3")
    assert result.avoid == ("seg:50", "call:9")
    assert result.exact


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("cells", [0, 1 << 20])
def test_weights_and_what_is_unwanted_by_call(
    collection: Collection, units: NDArray[np.float64], weighted: bool, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A penalty counts against moments: late interaction goes over what is left of each cosine."""
    monkeypatch.setattr(score, "_ALL_CELLS", cells)
    references: list[Any] = [Reference("call:3", 2.0), Reference("seg:1", 1.0)] if weighted else ["call:3", "seg:1"]
    result = collection.query(*references, avoid=["seg:50"], k=5)
    left = np.vstack([units[of_call(3)] @ units.T, units[:1] @ units.T]) - 0.5 * np.maximum(units[49] @ units.T, 0)
    left[:, [0, 49, *of_call(3)]] = -np.inf
    best = np.stack([left[:, of_call(call)].max(axis=1) for call in range(1, CALLS + 1)])
    scores = (2 * best[:, :TURNS].mean(axis=1) + best[:, TURNS]) / 3 if weighted else best.mean(axis=1)
    top = np.argsort(-scores)[:5]
    assert [number(hit.recording) - 1 for hit in result] == top.tolist()
    assert [hit.score for hit in result] == pytest.approx(scores[top].tolist(), abs=1e-5)


def test_equal_weights_of_single_segments_change_nothing_by_call(collection: Collection) -> None:
    plain = collection.query("seg:1", "seg:70", k=9)
    weighed = collection.query(Reference("seg:1", 3), Reference("seg:70", 3), k=9)
    assert [hit.recording for hit in weighed] == [hit.recording for hit in plain]
    assert [hit.score for hit in weighed] == pytest.approx([hit.score for hit in plain], abs=1e-6)


def test_a_heavier_weight_draws_nearer(collection: Collection) -> None:
    def nearness(weight: float) -> float:
        result = collection.query(Reference("seg:1", weight), Reference("seg:8", 1.0), by="segment", k=10, explain=True)
        cosines = [match.cosine for hit in result for match in hit.why.matches if match.reference == "seg:1"]  # type: ignore[union-attr]
        return float(np.mean(cosines))

    assert nearness(10.0) > nearness(1.0) > nearness(0.1)


def test_a_pair_of_numbers_is_a_vector(tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "flat", create=True) as flat:
        flat.catalog.pin(Space("saved", "made", 2), "saved")
        flat.catalog.store(made_recording(0, np.eye(2)))
        assert flat.query((0.0, 1.0), by="segment")[0].segment == "seg:2"
        assert flat.query(Reference((0.0, 1.0), 2.0), by="segment")[0].segment == "seg:2"


def test_a_penalty_is_never_a_bonus(collection: Collection, units: NDArray[np.float64]) -> None:
    opposite = -units[30]
    plain = collection.query("seg:31", by="segment", k=5)
    kept = collection.query("seg:31", avoid=[opposite], by="segment", k=5)
    assert [hit.score for hit in kept] == pytest.approx([hit.score for hit in plain], abs=1e-6)


@pytest.mark.parametrize("by", ["recording", "segment"])
def test_what_the_index_misses_is_found(
    collection: Collection, units: NDArray[np.float64], by: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all of its first look penalised, the answer lies further down and is still the true one."""
    monkeypatch.setattr(score, "_ALL_CELLS", 0)
    monkeypatch.setattr(score, "_FIRST_SEARCH", 10)
    plain = collection.query("seg:1", by="segment", k=10)
    asked: dict[str, Any] = {
        "avoid": [Reference(plain[0].segment, 2.0), Reference(plain[1].segment, 2.0)],
        "by": by,
        "k": 1,
    }
    near, true = collection.query("seg:1", **asked), collection.query("seg:1", **asked, exact=True)
    assert [hit.segment for hit in near] == [hit.segment for hit in true]
    assert near[0].segment not in {hit.segment for hit in plain}


# -------------------------------------------------------------------------------------------------------- emotions


def test_one_emotion_is_the_same_as_its_name(collection: Collection) -> None:
    assert collection.query(emotion="Angry", k=7).hits == collection.query("emotion:angry", k=7).hits


def test_a_mixture_of_emotions(collection: Collection, units: NDArray[np.float64]) -> None:
    vectors = {name: collection_target(collection, name) for name in EMOTIONS}
    result = collection.query(emotion={"angry": 1.0, "sad": 3.0, "neutral": -0.4}, by="segment", k=6)
    scores = (units @ vectors["angry"] + 3 * units @ vectors["sad"]) / 4
    scores -= 0.4 * np.maximum(units @ vectors["neutral"], 0)
    best = np.argsort(-scores)[:6]
    assert [number(hit.segment) - 1 for hit in result] == best.tolist()
    assert [hit.score for hit in result] == pytest.approx(scores[best].tolist(), abs=1e-5)
    assert result.references == ("emotion:angry + emotion:sad",)
    assert result.avoid == ("emotion:neutral",)


def collection_target(collection: Collection, name: str) -> NDArray[np.float64]:
    from e2vsearch.search import prototypes

    vector = prototypes.prototype(collection.catalog, f"emotion:{name}").vector.astype(np.float64)
    return vector / np.linalg.norm(vector)


def test_an_emotion_beside_a_reference(collection: Collection, units: NDArray[np.float64]) -> None:
    result = collection.query("seg:1", emotion={"sad": 2.0}, by="segment", k=4)
    scores = (units @ units[0] + 2 * units @ collection_target(collection, "sad")) / 3
    scores[0] = -np.inf
    assert [number(hit.segment) - 1 for hit in result] == np.argsort(-scores)[:4].tolist()


@pytest.mark.parametrize("references", [(), ("seg:1",)])
def test_a_floor_holds_for_any_class(collection: Collection, references: tuple[str, ...]) -> None:
    """Also where the emotion is not the likeliest; with a weight of 0 it is nothing but a floor."""
    emotion = {"angry": 0.0} if references else "angry"
    result = collection.query(
        *references, emotion=emotion, min_probability=0.25, by="segment", k=500, include_self=True
    )
    expected = {s.id for _, s in collection.catalog.segments() if s.scores["angry"] >= 0.25}
    assert {hit.segment for hit in result} == expected
    assert {hit.emotion for hit in result} > {"angry"}
    assert (result.searched, result.total) == (len(expected), CALLS * TURNS)
    if references:
        plain = {hit.segment: hit.score for hit in collection.query("seg:1", by="segment", k=500, include_self=True)}
        assert all(hit.score == pytest.approx(plain[hit.segment], abs=1e-6) for hit in result)
    narrowed = collection.query(
        *references, emotion=emotion, min_probability=0.25, where="product = a1", by="segment", k=500
    )
    assert {hit.metadata["product"] for hit in narrowed} == {"a1"}


def test_labels_of_ones_own_are_names_too(tmp_path: Path, database_url: str) -> None:
    rng = np.random.default_rng(0)
    with e2vsearch.open(database_url, create=True) as collection:
        collection.catalog.pin(Space("saved", "made", DIM, EMOTIONS), "saved")
        scores = np.tile([0.2, 0.5, 0.3], (5, 1))
        collection.catalog.store(made_recording(0, rng.standard_normal((5, DIM)), scores))
        labels.add_examples(collection.catalog, "curt", [labels.NewExample("seg:2", segment=2)])
        assert [hit.segment for hit in collection.query(emotion="curt", min_probability=0.9, include_self=True)] == [
            "seg:2"
        ]
        floor = collection.query("seg:1", emotion={"sad": 0}, min_probability=0.3, by="segment")
        assert len(floor) == 4
        assert len(collection.query("seg:1", emotion={"sad": 0}, min_probability=0.31)) == 0
        mixed = collection.query(emotion={"neutral": 1, "label:curt": -1}, by="segment", k=9)
        assert "seg:2" not in [hit.segment for hit in mixed]


# ------------------------------------------------------------------------------------------------------- diversity


@pytest.mark.parametrize(
    ("per", "by"),
    [
        ({"recording": 1}, "segment"),
        ({"recording": 2, "product": 3}, "segment"),
        ({"day": 2}, "recording"),
        ({"meta.product": 1, "day": 4}, "recording"),
        ({"product": 500}, "recording"),
    ],
)
@pytest.mark.parametrize("extra", [{}, {"avoid": ["seg:9"]}, {"where": "start_s < 6"}])
def test_at_most_so_many_of_a_kind(collection: Collection, per: dict[str, int], by: Any, extra: dict[str, Any]) -> None:
    """The same as going through the whole ranking from the top."""

    def values(hit: Hit) -> list[tuple[str, str]]:
        day = str((number(hit.recording) - 1) // 10)
        known = {"recording": hit.recording, "day": day, **hit.metadata}
        return [(name, known[key]) for name in per if (key := name.removeprefix("meta.")) in known]

    everything = collection.query("seg:1", k=1000, by=by, **extra)
    taken: Counter[tuple[str, str]] = Counter()
    expected = []
    for hit in everything:
        if all(taken[value] < per[value[0]] for value in values(hit)):
            taken.update(values(hit))
            expected.append(hit.segment)
    for k in (3, 12, 1000):
        result = collection.query("seg:1", k=k, by=by, group_by=tuple(per), group_size=tuple(per.values()), **extra)
        assert [hit.segment for hit in result] == expected[:k]


# --------------------------------------------------------------------------------------------------------- reasons


def test_reasons_of_a_plain_query(collection: Collection, units: NDArray[np.float64]) -> None:
    result = collection.query("call:5", k=6, explain=True)
    plain = collection.query("call:5", k=6)
    assert [hit.segment for hit in result] == [hit.segment for hit in plain]
    assert [(hit.why, hit.percentile) for hit in plain] == [(None, hit.percentile) for hit in result]
    reference = np.mean([list(segment.scores.values()) for segment in collection.segments("call:5")], axis=0)
    for hit in result:
        assert hit.why is not None
        assert [match.reference for match in hit.why.matches] == [f"seg:{row + 1}" for row in of_call(5)]
        assert np.mean([match.cosine for match in hit.why.matches]) == pytest.approx(hit.score, abs=1e-5)
        for match, row in zip(hit.why.matches, of_call(5), strict=True):
            cosines = units[of_call(number(hit.recording))] @ units[row]
            assert match.cosine == pytest.approx(cosines.max(), abs=1e-5)
            assert number(match.segment) - 1 == of_call(number(hit.recording))[int(cosines.argmax())]
            segment = collection.segments(match.segment)[0]
            assert (match.start_s, match.end_s) == (segment.start_s, segment.end_s)
            assert match.reference_start_s == collection.segments(match.reference)[0].start_s
        for shared in hit.why.shared:
            assert shared.reference == pytest.approx(reference[EMOTIONS.index(shared.emotion)], abs=1e-5)
            assert shared.segment == pytest.approx(hit.scores[shared.emotion])
        commonness = [min(shared.reference, shared.segment) for shared in hit.why.shared]
        assert commonness == sorted(commonness, reverse=True)


def test_reasons_of_a_mixture(collection: Collection, units: NDArray[np.float64]) -> None:
    result = collection.query(
        Reference("seg:1", 2.0), "seg:8", avoid=[Reference("seg:50", 0.3)], by="segment", k=5, explain=True
    )
    for hit in result:
        assert hit.why is not None
        unit = units[number(hit.segment) - 1]
        first, second = (match.cosine for match in hit.why.matches)
        (against,) = hit.why.avoided
        assert against.reference == "seg:50"
        assert against.cosine == pytest.approx(float(unit @ units[49]), abs=1e-5)
        assert against.penalty == pytest.approx(0.3 * max(0, float(unit @ units[49])), abs=1e-5)
        assert (2 * first + second) / 3 - against.penalty == pytest.approx(hit.score, abs=1e-5)
        assert all(match.segment == hit.segment for match in hit.why.matches)


def test_reasons_of_a_clip_and_of_fused_vectors(tmp_path: Path) -> None:
    clip = np.concatenate([speech(2.0, seed=1), silence(1.5), speech(2.0, seed=2)])
    for name in ("one", "two"):
        save(tmp_path / f"{name}.wav", clip)
        clip = clip[::-1].copy()
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        collection.ingest(tmp_path)
        (hit, *_) = collection.query(tmp_path / "one.wav", explain=True)
        assert hit.score == pytest.approx(1.0, abs=1e-5)
        assert hit.why is not None
        for match in hit.why.matches:
            assert match.reference.endswith("one.wav")
            assert (match.reference_start_s, match.reference_end_s) == (match.start_s, match.end_s)
        assert {shared.emotion for shared in hit.why.shared} <= {"low", "high"}
        assert hit.why.shared
        collection.named_vectors.attach("text", [1, 2], np.eye(2))
        (fused, *_) = collection.query("seg:1", named_vectors={"text": 0.5}, explain=True)
        assert fused.why is not None
        assert fused.why.matches[0].cosine == pytest.approx(fused.named_vector_scores["emotion"], abs=1e-5)


# ---------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("references", "options", "error", "says"),
    [
        ((), {"avoid": ["seg:1"]}, QueryError, "needs a reference"),
        ((), {"emotion": {"angry": -1}}, QueryError, "only taken off"),
        (("seg:1",), {"avoid": "seg:2"}, QueryError, "list"),
        (("seg:1",), {"avoid": ["seg:999"]}, NotStored, "seg:999"),
        ((), {"emotion": "bored"}, NotStored, "emotion:angry"),
        ((), {"emotion": {"angry": 1, "label:x": 1}}, NotStored, "label:x"),
        ((), {"emotion": {"angry": float("inf")}}, QueryError, "weight of angry"),
        (("seg:1",), {"min_probability": 0.5}, QueryError, "name one"),
        ((), {"emotion": "angry", "min_probability": 60}, QueryError, "between 0 and 1"),
        (("seg:1",), {"group_by": "recording", "group_size": 0}, QueryError, "1 or more"),
        (("seg:1",), {"group_by": "prodcut"}, QueryError, "did you mean product"),
        (("seg:1",), {"group_by": "zzz"}, QueryError, "day"),
        (("seg:1",), {"avoid": ["seg:2"], "named_vectors": {"text": 1}}, QueryError, "named vectors"),
    ],
)
def test_questions_that_make_no_sense(
    collection: Collection, references: Any, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        collection.query(*references, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weight", [0.0, float("nan"), -1])
def test_a_weight_is_above_0(weight: float) -> None:
    with pytest.raises(QueryError, match=r"above 0.*avoid"):
        Reference("seg:1", weight)


def test_a_plain_result_says_nothing_new(collection: Collection) -> None:
    result = collection.query("seg:1", k=2)
    assert isinstance(result, QueryResult)
    assert (result.avoid, result.trajectory) == ((), False)
    assert all(hit.alignment == () for hit in result)
