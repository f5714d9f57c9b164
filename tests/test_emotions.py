"""Names, arousal and valence from class probabilities, against a second formulation of the rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from e2vsearch.emotions import NAMELESS, RULES, TOO_SHORT, UNSURE, affect, named, named_as_one

LIGHT = ("angry", "disgusted", "fearful", "happy", "neutral", "sad")
NINE = ("angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "surprised", "unknown")


def name_of(probabilities: list[float], labels: tuple[str, ...], seconds: float = 3.0, db: float | None = -20.0) -> str:
    (found,) = named(np.array([probabilities]), labels, [seconds], [db])
    assert (found.score is None) == (found.name in NAMELESS)
    return found.name


@pytest.mark.parametrize(
    ("probabilities", "seconds", "db", "expected"),
    [
        ([0.65, 0.3, 0.05], 3.0, -20.0, "angry"),
        ([0.45, 0.1, 0.45], 3.0, -20.0, UNSURE),  # two are alike
        ([0.6, 0.35, 0.05], 3.0, -20.0, UNSURE),  # .25 over neutral
        ([0.6, 0.25, 0.15], 3.0, -20.0, "angry"),  # .35 over neutral
        ([0.25, 0.6, 0.15], 3.0, -20.0, "neutral"),  # is a name like any other, and needs its margin over the second
        ([0.4, 0.5, 0.1], 3.0, -20.0, UNSURE),
        ([0.9, 0.05, 0.05], 0.99, -20.0, TOO_SHORT),
        ([0.9, 0.05, 0.05], 4.3 - 3.3, -20.0, "angry"),  # 0.9999999999999996 s
        ([0.9, 0.05, 0.05], 3.0, -55.5, UNSURE),  # too quiet
        ([0.9, 0.05, 0.05], 3.0, -55.0, "angry"),
        ([0.9, 0.05, 0.05], 3.0, None, "angry"),  # a level that is not known is no reason to doubt
        ([0.9, 0.05, 0.05], 0.5, -80.0, TOO_SHORT),  # both: duration comes first
        ([0.4, 0.3, 0.3], 0.5, -20.0, TOO_SHORT),
    ],
)
def test_when_a_class_is_named(probabilities: list[float], seconds: float, db: float | None, expected: str) -> None:
    assert name_of(probabilities, ("angry", "neutral", "sad"), seconds, db) == expected


def test_one_class_and_no_segments() -> None:
    assert name_of([1.0], ("angry",)) == "angry"
    assert named(np.empty((0, 3)), ("a", "b", "c"), [], []) == []


def test_what_is_no_number_names_nothing() -> None:
    assert name_of([np.nan, np.nan], ("low", "high")) == UNSURE


def rows(labels: int, least: int = 1) -> st.SearchStrategy[NDArray[np.float64]]:
    """Class probabilities of a few segments, from almost sure of one class to about even."""

    def drawn(seed: int, count: int, even: float) -> NDArray[np.float64]:
        return np.random.default_rng(seed).dirichlet([even] * labels, count)

    return st.builds(drawn, st.integers(0, 2**32 - 1), st.integers(least, 5), st.sampled_from([0.1, 0.5, 3.0]))


@pytest.mark.slow
@settings(deadline=None)
@given(rows(len(NINE)), st.data())
def test_names_follow_the_rules(probabilities: NDArray[np.float64], data: st.DataObject) -> None:
    count = len(probabilities)
    seconds = data.draw(st.lists(st.floats(0.1, 9.0), min_size=count, max_size=count))
    levels = data.draw(st.lists(st.none() | st.floats(-90.0, 0.0), min_size=count, max_size=count))
    found = named(probabilities, NINE, seconds, levels)
    for row, each, length, level in zip(probabilities.tolist(), found, seconds, levels, strict=True):
        order = sorted(range(len(NINE)), key=lambda at: -row[at])
        if each.name == TOO_SHORT:
            assert length < RULES.least_s
        elif each.name == UNSURE:
            close = row[order[0]] - row[order[1]] < RULES.margin
            quiet = level is not None and level < RULES.least_db
            assert close or quiet  # the margin over neutral is no larger than that over the second
        else:
            assert each.name == NINE[order[0]]
            assert each.score == row[order[0]]
            assert row[order[0]] >= row[order[1]] + RULES.margin - 1e-12


@settings(deadline=None)
@given(rows(len(LIGHT)), st.permutations(range(len(LIGHT))))
def test_the_order_of_classes_does_not_matter(probabilities: NDArray[np.float64], order: list[int]) -> None:
    count = len(probabilities)
    first = named(probabilities, LIGHT, [2.0] * count, [None] * count)
    other = named(probabilities[:, order], [LIGHT[at] for at in order], [2.0] * count, [None] * count)
    for a, b in zip(first, other, strict=True):
        assert (a.name, a.score) == (b.name, b.score)
        assert (a.arousal, a.valence) == (pytest.approx(b.arousal), pytest.approx(b.valence))  # type: ignore[comparison-overlap]


@settings(deadline=None)
@given(rows(len(NINE), least=2))
def test_a_segment_is_named_the_same_whatever_is_named_beside_it(probabilities: NDArray[np.float64]) -> None:
    count = len(probabilities)
    together = named(probabilities, NINE, [2.0] * count, [None] * count)
    assert together == [named(row[None], NINE, [2.0], [None])[0] for row in probabilities]


# -- arousal and valence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "arousal", "valence"),
    [
        ("angry", 0.59, -0.51),
        ("disgust", 0.35, -0.60),
        ("Fearful", 0.60, -0.64),
        ("happiness", 0.51, 0.81),
        ("sad", -0.27, -0.63),
        ("surprised", 0.67, 0.40),
        ("boredom", -0.62, -0.65),
        ("neutral", 0.0, 0.0),
    ],
)
def test_a_class_alone_is_where_raters_put_its_word(label: str, arousal: float, valence: float) -> None:
    ((found_arousal,), (found_valence,)) = affect(np.array([[1.0]]), (label,))
    assert (found_arousal, found_valence) == (pytest.approx((arousal + 1) / 2), pytest.approx((valence + 1) / 2))  # type: ignore[comparison-overlap]


def test_classes_without_an_entry_are_left_out() -> None:
    labels = ("angry", "neutral", "other", "unknown")
    arousal, valence = affect(np.array([[0.2, 0.2, 0.5, 0.1], [0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.7, 0.3]]), labels)
    assert arousal[0] == pytest.approx(arousal[1]) == pytest.approx((0.295 + 1) / 2)
    assert valence[0] == pytest.approx(valence[1]) == pytest.approx((-0.255 + 1) / 2)
    assert (arousal[2], valence[2]) == (None, None)
    assert affect(np.array([[0.4, 0.6]]), ("low", "high")) == ([None], [None])


@settings(deadline=None)
@given(rows(len(NINE)))
def test_arousal_and_valence_lie_within_the_table(probabilities: NDArray[np.float64]) -> None:
    arousal, valence = affect(probabilities, NINE)
    for a, v in zip(arousal, valence, strict=True):
        assert a is not None
        assert v is not None
        assert (1 - 0.27) / 2 - 1e-9 <= a <= (1 + 0.67) / 2 + 1e-9
        assert (1 - 0.64) / 2 - 1e-9 <= v <= (1 + 0.81) / 2 + 1e-9


# -- several as one --------------------------------------------------------------------------------------------


def test_a_whole_is_named_by_its_mean() -> None:
    both = np.array([[0.9, 0.05, 0.05], [0.1, 0.1, 0.8]])
    whole = named_as_one(both, ("angry", "neutral", "sad"), [3.0, 1.0], [-20.0, -20.0])
    assert (whole.name, whole.score) == ("angry", pytest.approx(0.7))  # type: ignore[comparison-overlap]
    assert named_as_one(both, ("angry", "neutral", "sad"), [1.0, 1.0], [None, None]).name == UNSURE
    # together they are long enough
    assert named_as_one(both[:1].repeat(2, 0), ("angry", "neutral", "sad"), [0.6, 0.6], [None, None]).name == "angry"
    assert named_as_one(both[:1], ("angry", "neutral", "sad"), [0.6], [None]).name == TOO_SHORT


def test_a_whole_is_as_loud_as_its_signal() -> None:
    sure = np.array([[0.9, 0.1], [0.9, 0.1]])
    labels = ("angry", "neutral")
    # a hundredth of the time 15 dB over the limit is 5 dB below it in all
    assert named_as_one(sure, labels, [99.0, 1.0], [-90.0, -40.0]).name == UNSURE
    assert named_as_one(sure, labels, [90.0, 10.0], [-90.0, -40.0]).name == "angry"
    assert named_as_one(sure, labels, [99.0, 1.0], [None, -40.0]).name == "angry"
    assert named_as_one(sure, labels, [99.0, 1.0], [None, None]).name == "angry"


@settings(deadline=None)
@given(rows(len(LIGHT)), st.floats(0.5, 5.0), st.floats(-70.0, -10.0))
def test_equal_segments_are_as_one_what_each_is(probabilities: NDArray[np.float64], length: float, db: float) -> None:
    same = probabilities[:1].repeat(3, axis=0)
    whole = named_as_one(same, LIGHT, [length] * 3, [db] * 3)
    (one,) = named(same[:1], LIGHT, [3 * length], [round(db, 9)])
    assert whole.arousal == pytest.approx(one.arousal)
    if abs(db - RULES.least_db) > 1e-6 and abs(np.diff(np.sort(same[0]))[-1] - RULES.margin) > 1e-6:
        assert whole.name == one.name
