"""The algebra of projections, on emotion2vec's shapes with planted emotions and voices; how they are kept and read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from memory_source import MemorySource
from planted import DIM, LABELS, VOICES, Planted

from e2vsearch.errors import AnalysisError, SpaceMismatch, TooFewExamples
from e2vsearch.projections import discriminant, head
from e2vsearch.projections.base import RAW
from e2vsearch.projections.linear import NUANCE_DIMS, LinearProjection, unpack
from e2vsearch.projections.view import ProjectedVectors
from e2vsearch.vectors.engine import Kind
from e2vsearch.vectors.exact import unit
from e2vsearch.vectors.faiss.index import FaissEngine


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted()


@pytest.fixture(scope="module")
def small() -> Planted:
    """The same in 192 dimensions, where a fit takes a tenth of the time."""
    return Planted(192)


def test_a_planted_head_brings_emotion_out_and_voices_down(planted: Planted) -> None:
    made = head.head_projection(planted.vectors, planted.voices, planted.head)
    shown = made.apply(planted.vectors)
    assert planted.map(planted.vectors) < 0.35 < 0.95 < planted.map(shown)
    assert planted.leak(planted.vectors) > 0.5 > 0.25 > planted.leak(shown)  # chance is 1/8, less the item itself
    assert made.dim_emotion == LABELS - 1
    assert shown.shape == (len(planted.vectors), LABELS - 1 + made.nuance.shape[1])
    assert shown.shape[1] <= LABELS - 1 + NUANCE_DIMS


def test_a_random_head_brings_nothing_out(planted: Planted) -> None:
    """The gain above is the head's, not of the algebra around it."""
    weights = np.random.default_rng(3).standard_normal((LABELS, DIM))
    emotion_only = head.head_projection(planted.vectors, planted.voices, weights, share=0.0)
    assert planted.map(emotion_only.apply(planted.vectors)) < 0.35


@pytest.mark.slow
def test_nuance_has_no_voices_in_it(planted: Planted) -> None:
    made = head.head_projection(planted.vectors, planted.voices, planted.head, share=1.0)
    singles = head.head_projection(planted.vectors, np.arange(len(planted.vectors)), planted.head, share=1.0)
    assert planted.leak(made.apply(planted.vectors)) < 0.2 < planted.leak(singles.apply(planted.vectors))


def test_a_head_is_found_by_what_it_said(planted: Planted) -> None:
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((400, 64)).astype(np.float32)
    weights, biases = rng.standard_normal((LABELS, 64)) * 0.2, rng.standard_normal(LABELS)
    logits = vectors @ weights.T + biases
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = head.recover_head(vectors, scores.astype(np.float32))
    assert found.weights - found.weights.mean(0) == pytest.approx(weights - weights.mean(0), abs=1e-3)
    assert found.biases - found.biases.mean() == pytest.approx(biases - biases.mean(), abs=1e-2)


def test_classes_without_scores_and_rounded_scores_do_not_bend_the_head() -> None:
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((400, 16)).astype(np.float32)
    weights = rng.standard_normal((4, 16))
    scores = np.exp(vectors @ weights.T)
    scores /= scores.sum(axis=1, keepdims=True)
    partial = np.concatenate([scores, np.zeros((400, 2))], axis=1)  # two classes that a result file did not name
    found = head.recover_head(vectors, partial)
    assert found.weights[:4] - found.weights[:4].mean(0) == pytest.approx(weights - weights.mean(0), abs=1e-3)
    assert not found.weights[4:].any()
    rounded = head.recover_head(vectors, np.round(scores, 3))
    told, truth = (each - each.mean(0) for each in (rounded.weights, weights))
    assert float((told * truth).sum() / np.linalg.norm(told) / np.linalg.norm(truth)) > 0.9


@pytest.mark.torch
def test_emotion2vec_gives_the_head_that_makes_its_scores(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("funasr")
    from made import noise
    from random_emotion2vec import FIVE_TOKENS, write_model

    from e2vsearch.encoders.base import EncoderOptions
    from e2vsearch.encoders.emotion2vec.encoder import Emotion2vecEncoder

    encoder = Emotion2vecEncoder(str(write_model(tmp_path / "five", tokens=FIVE_TOKENS)), EncoderOptions(threads=1))
    heard = encoder.encode([noise(1.0, seed=seed) for seed in range(3)])
    given = encoder.head()
    assert given is not None
    assert given.weights.shape == (5, encoder.space.dim)
    logits = np.exp(heard.vectors @ given.weights.T + given.biases)
    assert heard.scores is not None
    np.testing.assert_allclose(logits / logits.sum(axis=1, keepdims=True), heard.scores, atol=1e-5)


def test_fitted_brings_emotion_out_on_held_out_voices(small: Planted) -> None:
    train, test = small.voices < VOICES // 2, small.voices >= VOICES // 2
    emotions, voices, texts = small.emotions[train], small.voices[train], small.texts[train]
    chosen = discriminant.fit(small.vectors[train], emotions.tolist(), voices.tolist(), texts.tolist())
    found = discriminant.mean_average_precision(
        unit(chosen.projection.apply(small.vectors[test])), small.emotions[test], small.voices[test], 0
    )
    raw = discriminant.mean_average_precision(unit(small.vectors[test]), small.emotions[test], small.voices[test], 0)
    assert found is not None
    assert raw is not None
    assert raw[0] < 0.4 < 0.9 < found[0]
    assert chosen.map_raw < 0.6 < 0.8 < chosen.map


def test_fitted_to_shuffled_labels_is_judged_to_be_nothing(small: Planted) -> None:
    """Cross-validation that let a voice or a sentence into both parts would see what is not there."""
    emotions = np.random.default_rng(0).permutation(small.emotions)
    chosen = discriminant.fit(small.vectors, emotions.tolist(), small.voices.tolist(), small.texts.tolist())
    assert chosen.map < chosen.map_raw + 0.08 < 0.4


def test_rivals_are_judged_on_the_same_queries(small: Planted) -> None:
    labels = small.emotions.tolist(), small.voices.tolist(), small.texts.tolist()
    good = head.head_projection(small.vectors, small.voices, small.head)
    chosen = discriminant.fit(small.vectors, *labels, rivals={"good": good, "raw": RAW})
    assert chosen.map_of["raw"] == pytest.approx(chosen.map_raw)
    assert chosen.map_of["good"] > 0.9


@pytest.mark.parametrize("voices", [3, 1])
def test_too_few_voices_fit_nothing(small: Planted, voices: int) -> None:
    some = small.voices < voices
    with pytest.raises(TooFewExamples, match="speakers"):
        discriminant.fit(small.vectors[some], small.emotions[some].tolist(), small.voices[some].tolist())


def test_an_emotion_of_one_voice_fits_nothing() -> None:
    vectors = np.random.default_rng(0).standard_normal((40, 16))
    speakers = np.arange(40) % 5
    with pytest.raises(TooFewExamples, match="several speakers"):
        discriminant.fit(vectors, ["angry" if each == 0 else "calm" for each in speakers], speakers.tolist())


@pytest.fixture(scope="module")
def parts() -> LinearProjection:
    rng = np.random.default_rng(2)
    small, wide = rng.standard_normal((32, 4)), rng.standard_normal((32, 6))
    return LinearProjection(
        "fitted",
        "fitted",
        rng.standard_normal(32).astype("f4") / 9,  # type: ignore[arg-type]
        small.astype("f4"),
        wide.astype("f4"),
        0.25,
    )


def test_cosine_is_the_weighted_mean_of_its_parts(parts: LinearProjection) -> None:
    shown = parts.apply(np.random.default_rng(0).standard_normal((2, 32))).astype(np.float64)
    emotion, nuance = shown[:, : parts.dim_emotion], shown[:, parts.dim_emotion :]
    np.testing.assert_allclose(np.linalg.norm(shown, axis=1), 1.0, atol=1e-6)
    of_emotion, of_nuance = (unit(part)[0] @ unit(part)[1] for part in (emotion, nuance))
    assert shown[0] @ shown[1] == pytest.approx(0.75 * of_emotion + 0.25 * of_nuance, abs=1e-6)


def test_length_does_not_matter_and_zeros_stay(parts: LinearProjection) -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 32))
    np.testing.assert_allclose(parts.apply(vectors), parts.apply(vectors * 1e4), atol=1e-6)
    assert not parts.apply(np.zeros((1, 32))).any()
    assert parts.apply(np.zeros((0, 32))).shape == (0, 10)


def test_a_row_is_the_same_whatever_is_beside_it() -> None:
    """What an index holds is compared with what is read again in other company, to 1e-6."""
    planted = Planted(seed=4)
    made = head.head_projection(planted.vectors, planted.voices, planted.head)
    together, alone = made.apply(planted.vectors), made.apply(planted.vectors[7:8])
    assert np.abs(together[7] - alone[0]).max() < 2e-7


def test_pack_brings_all_of_it_back(parts: LinearProjection) -> None:
    again = unpack(parts.pack(), "fitted", "another name", 32)
    vectors = np.random.default_rng(0).standard_normal((5, 32))
    np.testing.assert_array_equal(again.apply(vectors), parts.apply(vectors))
    assert again.revision == parts.revision
    assert again.pack() == parts.pack()


def test_any_parameter_is_in_the_revision(parts: LinearProjection) -> None:
    moved = parts.centre + np.float32(1e-3)
    others = [
        LinearProjection("fitted", "fitted", moved, parts.emotion, parts.nuance, parts.share),
        LinearProjection("fitted", "fitted", parts.centre, parts.emotion * 2, parts.nuance, parts.share),
        LinearProjection("fitted", "fitted", parts.centre, parts.emotion, parts.nuance[:, :5], parts.share),
        LinearProjection("fitted", "fitted", parts.centre, parts.emotion, parts.nuance, 0.5),
    ]
    assert len({parts.revision, *(each.revision for each in others)}) == 5


def _with_pickle() -> bytes:
    import io

    buffer = io.BytesIO()
    np.savez(buffer, centre=np.array([{}]), emotion=np.zeros((32, 2)), nuance=np.zeros((32, 2)), share=[0.1])
    return buffer.getvalue()


@pytest.mark.parametrize("damage", ["nothing", "cut", "pickled", "another dimension", "not finite"])
def test_damaged_parameters_are_refused(parts: LinearProjection, damage: str) -> None:
    bad = LinearProjection("fitted", "x", parts.centre * np.float32(np.nan), parts.emotion, parts.nuance, 0.5)
    data = {
        "nothing": b"",
        "cut": parts.pack()[:-40],
        "pickled": _with_pickle(),
        "another dimension": parts.pack(),
        "not finite": bad.pack(),
    }[damage]
    with pytest.raises(AnalysisError, match=r"'mine' is damaged.*projection fit"):
        unpack(data, "fitted", "mine", 33 if damage == "another dimension" else 32)


def test_vectors_of_another_space_are_refused(parts: LinearProjection) -> None:
    with pytest.raises(SpaceMismatch, match="32 numbers"):
        parts.apply(np.ones((2, 16)))
    with pytest.raises(SpaceMismatch, match="does not fit"):
        head.head_projection(np.ones((30, 16)), np.arange(30), np.ones((9, 8)))


def test_raw_changes_nothing() -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    assert RAW.apply(vectors) is vectors
    assert RAW.dim_out(8) == 8


# --- through an index


@pytest.mark.slow
def test_an_index_of_one_projection_is_not_answered_under_another(planted: Planted, tmp_path: Path) -> None:
    source = MemorySource(planted.vectors)
    one = ProjectedVectors(source, head.head_projection(planted.vectors, planted.voices, planted.head))
    two = ProjectedVectors(source, head.head_projection(planted.vectors, planted.voices, planted.head, share=0.2))
    assert len({source.space_id, one.space_id, two.space_id}) == 3
    FaissEngine(tmp_path, one).build("flat")
    other = FaissEngine(tmp_path, two)
    status = other.status()
    assert status.damage is not None
    assert "another space" in status.damage
    found = other.search(two.fetch(np.array([3])).vectors, 3)
    assert found.ids[0, 0] == 3
    assert found.scores[0, 0] == pytest.approx(1.0, abs=1e-6)
    assert other.due()


@pytest.mark.parametrize("kind", ["flat", "ivf-flat"])
def test_what_an_index_holds_is_what_is_read_again(planted: Planted, tmp_path: Path, kind: Kind) -> None:
    source = MemorySource(planted.vectors)
    source.batch_rows = 100
    projected = ProjectedVectors(source, head.head_projection(planted.vectors, planted.voices, planted.head))
    index = FaissEngine(tmp_path, projected)
    index.build(kind)
    added = source.add(planted.vectors[:3] * 2)
    found = index.search(projected.fetch(added).vectors, 2)
    assert {tuple(sorted(pair)) for pair in found.ids.tolist()} == {(n + 1, int(added[n])) for n in range(3)}
    assert index.verify() == []
