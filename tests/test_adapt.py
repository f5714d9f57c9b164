"""A head adapted to a collection without labels: its algebra, what it brings, and what it must not cost."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from planted import EMOTIONS, LABELS, Planted
from shipped_head import knowing

from e2vsearch.errors import AnalysisError, SpaceMismatch
from e2vsearch.projections import adapt, head, linear, network
from e2vsearch.projections.base import RAW, softmax
from e2vsearch.types import Head
from e2vsearch.vectors.exact import unit

Rows = NDArray[np.int64]


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted()


@pytest.fixture(scope="module")
def small() -> Planted:
    return Planted(192)


def apart(n: int) -> Rows:
    """Nothing is known to be of one voice."""
    return np.arange(n)


def mostly(planted: Planted, emotion: int, share: float, n: int = 120) -> Rows:
    """Items of which so many are of one emotion."""
    rng = np.random.default_rng(3)
    own, others = (np.flatnonzero(planted.emotions == emotion), np.flatnonzero(planted.emotions != emotion))
    count = min(len(own), round(share * n))
    rest = round(count * (1 - share) / share)
    return np.sort(np.concatenate([rng.choice(own, count, replace=False), rng.choice(others, rest, replace=False)]))


# -- what it brings ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_on_emotion2vecs_shapes_adapted_beats_the_head_and_the_head_raw_vectors(planted: Planted) -> None:
    of, voices = planted.head_beside(0.05), apart(len(planted.vectors))
    raw = planted.map(planted.vectors)
    posteriors = planted.map(adapt.log_posteriors(of, planted.vectors).apply(planted.vectors))
    plain = planted.map(head.head_projection(planted.vectors, voices, of.weights).apply(planted.vectors))
    made = adapt.adapt_head(of, planted.vectors, voices)
    adapted = planted.map(made.apply(planted.vectors))
    assert raw < 0.35
    assert plain > raw + 0.3
    assert adapted > plain + 0.02
    assert posteriors > raw + 0.3
    assert (made.kind, made.name, made.dim_emotion) == ("head", "head", LABELS - 1)


@pytest.mark.parametrize("voice", [0.03, 0.05, 0.1])
def test_adapted_is_no_worse_than_the_head_whatever_it_took_for_emotion(small: Planted, voice: float) -> None:
    of, voices = small.head_beside(voice), apart(len(small.vectors))
    plain = small.map(head.head_projection(small.vectors, voices, of.weights).apply(small.vectors))
    assert small.map(adapt.adapt_head(of, small.vectors, voices).apply(small.vectors)) >= plain


@pytest.mark.parametrize("share", [0.8, 1.0])
def test_a_collection_of_one_emotion_does_not_turn_the_head(small: Planted, share: float) -> None:
    of = small.head_beside(0.05)
    rows = small.vectors[mostly(small, 4, share)]
    rows = np.concatenate([rows] * 3)  # enough to be adapted to
    assert len(rows) > adapt.FROM
    assert adapt.adapt_weights(of, rows) == pytest.approx(of.weights - of.weights.mean(axis=0), abs=1e-6)
    assert not np.allclose(adapt.adapt_weights(of, small.vectors), of.weights - of.weights.mean(axis=0), atol=1e-3)


def test_voices_of_one_mood_keep_it(small: Planted) -> None:
    """What such a voice keeps throughout is its mood: it is not taken off nuance, as that of a varied voice is."""
    of = small.head_beside(0.0)
    one_mood = np.flatnonzero(small.emotions == small.voices % EMOTIONS)
    rows, voices = small.vectors[one_mood], small.voices[one_mood]
    varied = head.head_projection(rows, voices, of.weights)
    alone = head.head_projection(rows, voices, of.weights, varied=np.zeros(len(rows), bool))
    assert adapt.adapt_head(of, rows, voices).nuance == pytest.approx(alone.nuance)
    assert varied.nuance.shape[1] < alone.nuance.shape[1]
    every = adapt.adapt_head(of, small.vectors, small.voices)
    expected = head.head_projection(small.vectors, small.voices, of.weights)
    assert every.nuance == pytest.approx(expected.nuance)


# -- few segments --------------------------------------------------------------------------------------------------


def test_log_posteriors_are_the_heads_less_their_mean_over_classes(small: Planted) -> None:
    of = small.head_beside(0.3)
    rows = (20.0 * unit(small.vectors[:19])).astype(np.float32)
    made = adapt.adapt_head(of, rows, apart(19))
    logs = np.log(softmax(rows @ of.weights.T.astype(np.float64) + of.biases))  # type: ignore[arg-type]
    logs -= logs.mean(axis=1, keepdims=True)
    told = 19 / (19 + adapt.RESTING)  # centred on what there is, and on even probabilities
    expected = unit(logs - told * logs.mean(axis=0))
    shown = made.apply(rows)
    assert shown @ shown.T == pytest.approx(expected @ expected.T, abs=1e-4)
    assert made.dim_out(192) == made.dim_emotion == LABELS - 1


@pytest.mark.parametrize("n", [0, 1, 2])
def test_the_first_segments_can_be_compared(small: Planted, n: int) -> None:
    made = adapt.adapt_head(small.head_beside(0.1), small.vectors[:n], apart(n))
    shown = made.apply(small.vectors)
    assert np.linalg.norm(shown, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert small.map(shown) > small.map(small.vectors)


def test_below_enough_segments_the_head_is_as_it_was(small: Planted) -> None:
    of, n = small.head_beside(0.1), adapt.FROM
    expected = head.head_projection(small.vectors[:n], apart(n), of.weights)
    assert adapt.adapt_head(of, small.vectors[:n], apart(n)).revision == expected.revision
    assert adapt.adapt_head(of, small.vectors[: n + 20], apart(n + 20)).revision != expected.revision


def test_vectors_of_zeros_count_for_nothing(small: Planted) -> None:
    of = small.head_beside(0.1)
    beside = np.concatenate([small.vectors, np.zeros((9, 192), np.float32)])
    made = adapt.adapt_head(of, beside, apart(len(beside)))
    assert made.revision == adapt.adapt_head(of, small.vectors, apart(len(small.vectors))).revision


def test_whether_a_head_adapts_is_told_beforehand(planted: Planted) -> None:
    of = planted.head_beside(0.05)
    few = planted.vectors[: adapt.FROM]
    alike = Head(of.weights, (of.biases + 100.0 * (np.arange(LABELS) == 0)).astype(np.float32))  # all of one class
    for head_, vectors, expected in ((of, planted.vectors, True), (of, few, False), (alike, planted.vectors, False)):
        centred = head_.weights.astype(np.float64) - head_.weights.astype(np.float64).mean(axis=0)
        assert adapt.can_adapt(head_, vectors) == expected
        assert bool((adapt.adapt_weights(head_, vectors) != centred).any()) == expected


# -- what it is made of --------------------------------------------------------------------------------------------


def test_what_ships_comes_first_then_the_head_then_raw_vectors(small: Planted) -> None:
    of, voices = small.head_beside(0.1), apart(len(small.vectors))
    rows = np.random.default_rng(1).standard_normal((30, 16)).astype(np.float32)
    packed = knowing().pack()
    assert adapt.default(packed, None, rows, apart(30)).revision == network.unpack(packed).centred(rows).revision
    assert adapt.default(packed, None, rows[:5], apart(5)).revision == network.unpack(packed).revision
    made = adapt.default(None, of, small.vectors, voices)
    assert made.revision == adapt.adapt_head(of, small.vectors, voices).revision
    assert adapt.default(None, None, rows, apart(30)) is RAW
    assert (
        adapt.without_collection(None, of, 192).revision == adapt.adapt_head(of, small.vectors[:0], voices[:0]).revision
    )


def test_packed_with_its_head_it_is_read_as_any_projection_is(small: Planted) -> None:
    of = small.head_beside(0.1)
    made = adapt.adapt_head(of, small.vectors, apart(len(small.vectors)))
    data = adapt.pack_with_head(made, of)
    assert data == adapt.pack_with_head(made, of)
    assert linear.unpack(data, "head", "head", 192).revision == made.revision
    kept = adapt.stored_head(data)
    assert (kept.weights == of.weights).all()
    assert (kept.biases == of.biases).all()
    for damaged in (data[:-9], made.pack()):  # cut short, and one without a head
        with pytest.raises(AnalysisError, match="ingesting anything with its encoder mends it"):
            adapt.stored_head(damaged)


@pytest.mark.parametrize("shapes", [((9, 16), (9,)), ((9, 192), (8,)), ((192,), (192,)), ((1, 192), (1,))])
def test_a_head_of_another_encoder_is_refused(small: Planted, shapes: tuple[tuple[int, ...], ...]) -> None:
    of = Head(*(np.ones(shape, np.float32) for shape in shapes))
    for n in (5, 40):
        with pytest.raises(SpaceMismatch, match="take the encoder"):
            adapt.adapt_head(of, small.vectors[:n], apart(n))
