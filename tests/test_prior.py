"""The class prior of a collection: what it recovers, what its anchor holds, and posteriors under it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from e2vsearch.projections.prior import CONVERSATION, adapt_prior, conversation, with_prior

LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "sad")
UNIFORM = np.full(6, 1 / 6)


def simulated(prior: NDArray[np.float64], count: int, apart: float = 2.0, seed: int = 0) -> NDArray[np.float64]:
    """Posteriors under a uniform prior of draws from Gaussian classes that come as often as `prior` says."""
    rng = np.random.default_rng(seed)
    classes = rng.choice(prior.size, count, p=prior)
    drawn = apart * np.eye(prior.size)[classes] + rng.standard_normal((count, prior.size))
    raised = np.exp(apart * drawn - (apart * drawn).max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return shares


def test_calls_are_mostly_neutral() -> None:
    prior = conversation(LABELS)
    assert prior[4] == CONVERSATION
    assert np.allclose(np.delete(prior, 4), (1 - CONVERSATION) / 5)
    assert prior.sum() == pytest.approx(1)
    assert conversation(("Neutral", "x")).tolist() == [CONVERSATION, 1 - CONVERSATION]
    assert conversation(("low", "high")).tolist() == [0.5, 0.5]
    assert conversation(("neutral",)).tolist() == [1.0]


@pytest.mark.parametrize("prior", [[0.8, 0.04, 0.04, 0.04, 0.04, 0.04], [0.3, 0.05, 0.05, 0.1, 0.4, 0.1]])
def test_a_known_prior_is_recovered(prior: list[float]) -> None:
    truth = np.array(prior)
    found = adapt_prior(simulated(truth, 8000), conversation(LABELS), 10.0)
    assert found == pytest.approx(truth, abs=0.025)
    # what the mean of the posteriors alone would say is farther off
    assert np.abs(simulated(truth, 8000).mean(axis=0) - truth).max() > 2 * np.abs(found - truth).max()


def test_an_anchor_pulls_as_its_weight_says() -> None:
    posteriors, anchor = simulated(UNIFORM, 500), conversation(LABELS)
    away = [np.abs(adapt_prior(posteriors, anchor, weight) - anchor).max() for weight in (1.0, 100.0, 1e4, 1e9)]
    assert away == sorted(away, reverse=True)
    assert away[-1] < 1e-6
    assert np.allclose(adapt_prior(np.empty((0, 6)), anchor, 5.0), anchor)
    assert np.allclose(adapt_prior(np.full((50, 6), 1 / 6), anchor, 5.0), anchor)  # posteriors that tell nothing


def test_a_classifiers_mistakes_do_not_take_over() -> None:
    """Two in three neutral segments taken for disgusted: what the anchor is for."""
    taken = np.tile([0.02, 0.55, 0.02, 0.02, 0.37, 0.02], (300, 1))
    alone, held = (adapt_prior(taken, conversation(LABELS), weight) for weight in (1e-6, 300.0))
    names = [with_prior(taken[:1], prior).argmax() for prior in (alone, held)]
    assert [LABELS[at] for at in names] == ["disgusted", "neutral"]


def posteriors_of(labels: int) -> st.SearchStrategy[NDArray[np.float64]]:
    """Of a few segments, from almost sure of one class to about even; none is quite impossible."""

    def drawn(seed: int, count: int, even: float) -> NDArray[np.float64]:
        sure = np.random.default_rng(seed).dirichlet([even] * labels, count) + 1e-6
        shares: NDArray[np.float64] = sure / sure.sum(axis=1, keepdims=True)
        return shares

    return st.builds(drawn, st.integers(0, 2**32 - 1), st.integers(1, 8), st.sampled_from([0.1, 0.5, 3.0]))


def priors(labels: int) -> st.SearchStrategy[NDArray[np.float64]]:
    return posteriors_of(labels).map(lambda rows: rows[0])


@given(posteriors_of(4), priors(4), st.floats(0.01, 1e6))
@settings(max_examples=60, deadline=None)
def test_what_comes_out_is_a_prior_and_better_than_its_anchor(
    posteriors: NDArray[np.float64], anchor: NDArray[np.float64], weight: float
) -> None:
    found = adapt_prior(posteriors, anchor, weight)
    assert found.sum() == pytest.approx(1)
    assert (found > 0).all()

    def penalised(prior: NDArray[np.float64]) -> float:
        return float(np.log(posteriors @ prior).sum() + weight * (anchor * np.log(prior)).sum())

    assert penalised(found) >= penalised(anchor) - 1e-9 * (1 + weight)


@given(posteriors_of(5), priors(5))
@settings(deadline=None)
def test_posteriors_under_a_prior_and_back(posteriors: NDArray[np.float64], prior: NDArray[np.float64]) -> None:
    changed = with_prior(posteriors, prior)
    assert changed.sum(axis=1) == pytest.approx(1)
    back = 1 / prior
    assert with_prior(changed, back / back.sum()) == pytest.approx(posteriors, rel=1e-6)
    assert np.allclose(with_prior(posteriors, np.full(5, 0.2)), posteriors)


@pytest.mark.parametrize("prior", [[0.5, 0.5], [0.5, 0.5, 0.5], [1.0, 0.0, 0.0], [np.nan, 0.5, 0.5]])
def test_what_is_no_prior_is_refused(prior: list[float]) -> None:
    posteriors = np.full((2, 3), 1 / 3)
    with pytest.raises(ValueError, match="a prior of 3 classes"):
        with_prior(posteriors, np.array(prior))
    with pytest.raises(ValueError, match="a prior of 3 classes"):
        adapt_prior(posteriors, np.array(prior), 1.0)
    with pytest.raises(ValueError, match="above 0, not 0"):
        adapt_prior(posteriors, np.full(3, 1 / 3), 0.0)
