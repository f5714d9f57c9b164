"""Training on labels: splits by voice, honest figures, and what a report says."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_labels import A_CALL, CALLS, DIM, FEELINGS, fill, give_all

import e2vsearch
from e2vsearch.analysis.labels import fit, types
from e2vsearch.analysis.labels import metrics as classification
from e2vsearch.catalog.schema import ClassifierRow
from e2vsearch.collection import Collection
from e2vsearch.errors import AnalysisError, MissingExtra, NotStored, TooFewExamples

# --- splits and figures


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 12), max_size=3), min_size=1, max_size=20))
def test_groups_share_nothing(ties: list[list[int]]) -> None:
    numbers = fit.join(ties)
    for a, one in enumerate(ties):
        for b, other in enumerate(ties):
            if set(one) & set(other):
                assert numbers[a] == numbers[b]
    assert set(numbers) == set(range(len(set(numbers))))
    untied = [at for at, tied in enumerate(ties) if not tied]
    assert len({int(numbers[at]) for at in untied}) == len(untied)


@pytest.mark.parametrize("seed", range(5))
def test_splits_keep_groups_together(seed: int) -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(seed)
    voices = rng.integers(0, 9, 60)
    truth = rng.integers(0, 3, 60)
    splits = fit.split(truth, voices, seed)
    assert len(splits) >= 2
    assert sorted(np.concatenate([test for _, test in splits]).tolist()) == list(range(60))
    for train, test in splits:
        assert not set(voices[train]) & set(voices[test])
        assert set(truth[train]) == {0, 1, 2}
    assert fit.split(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2]), seed) == []


def test_figures_are_what_they_say() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 200)
    probabilities = rng.dirichlet(np.ones(3), 200)
    probabilities[np.arange(150), truth[:150]] += 1
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    measured = classification.measure(truth, probabilities, np.arange(200) // 10, seed=1)
    said = probabilities.argmax(axis=1)
    assert measured.accuracy == pytest.approx(metrics.accuracy_score(truth, said))
    assert measured.uar == pytest.approx(metrics.balanced_accuracy_score(truth, said))
    np.testing.assert_array_equal(measured.confusion, metrics.confusion_matrix(truth, said))
    low, high = measured.uar_interval
    assert 0.6 < low < measured.uar < high < 1.0
    assert (
        classification.measure(truth, probabilities, np.arange(200) // 10, seed=1).uar_interval == measured.uar_interval
    )
    one_voice = classification.measure(truth, probabilities, np.zeros(200, np.int64))
    assert one_voice.uar_interval == pytest.approx((measured.uar, measured.uar))


def test_calibration_error() -> None:
    truth = np.array([0, 0, 0, 1])  # the second label weighs as much as the three of the first
    sure = np.array([[1.0, 0], [1, 0], [1, 0], [1, 0]])
    assert classification.calibration_error(truth, sure) == pytest.approx(0.5)
    assert classification.calibration_error(truth, np.full((4, 2), 0.5)) == pytest.approx(0.0)


@pytest.mark.slow
def test_probabilities_are_calibrated_and_labels_weigh_the_same() -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    truth = (rng.random(600) < 0.1).astype(np.int64)  # one in ten
    vectors = np.ones((600, DIM)) * 3 + rng.standard_normal((600, DIM))
    vectors[:, 0] += 1.2 * truth
    voices = np.arange(600) // 6
    held_out = fit.out_of_fold(vectors.astype(np.float32), truth, voices, seed=0)
    assert held_out is not None
    probabilities, folds = held_out
    assert folds == 5
    recalls = [(probabilities.argmax(axis=1) == truth)[truth == label].mean() for label in (0, 1)]
    assert min(recalls) > 0.5  # unweighted, the rare one would never be said
    assert classification.calibration_error(truth, probabilities) < 0.1


# --- training


def test_a_report_says_how_it_was_judged(collection: Collection, trained: types.ClassifierReport) -> None:
    assert (trained.name, trained.version, trained.labels) == ("mood", 1, FEELINGS)
    assert (trained.examples, trained.groups, trained.folds) == (36, 6, 5)  # agents, of two calls each
    assert trained.uar is not None
    assert trained.uar > 0.8
    assert (trained.uar_chance, trained.accuracy_chance) == pytest.approx((1 / 3, 1 / 3))
    assert [(each.label, each.examples, each.groups) for each in trained.classes] == [(n, 12, 6) for n in FEELINGS]
    assert [each.recall for each in trained.classes] == pytest.approx(
        [row[at] / 12 for at, row in enumerate(trained.confusion)]
    )
    assert sum(map(sum, trained.confusion)) == 36
    assert trained.calibration_error is not None
    assert trained.calibration_error < 0.3
    assert trained.contrast is None
    assert trained.warnings == ()
    assert collection.labels.classifiers() == (trained,)
    json.dumps(trained.confusion)


@pytest.mark.slow
def test_training_again_is_the_next_version_and_the_same(
    collection: Collection, trained: types.ClassifierReport
) -> None:
    again = collection.labels.train("mood", speaker_keys=["agent"])
    assert replace(again, version=1, created_at=trained.created_at) == trained
    assert again.version == 2
    with collection.catalog.reading() as connection:
        first, second = connection.execute(ClassifierRow.__table__.select()).all()
    assert first.parameters == second.parameters
    collection.labels.add("calm", "seg:4")
    assert collection.labels.train("mood", labels=["calm", "hesitant"]).labels == ("calm", "hesitant")
    assert collection.labels.remove_classifier("mood") == 3
    with pytest.raises(NotStored, match="train one with"):
        collection.labels.remove_classifier("mood")


@pytest.mark.slow
def test_a_voice_that_is_known_flatters_nobody(tmp_path: Path) -> None:
    """Vectors that tell voices and nothing else: split by recording alone it looks perfect, by voice it is not."""
    pytest.importorskip("sklearn")
    with e2vsearch.open(tmp_path / "voices", create=True) as collection:
        fill(collection, 24, voice=4.0, feeling=0.0)
        for number in range(24):
            agent = number // 2
            collection.labels.add("ab"[agent % 2], *(f"seg:{number * A_CALL + at}" for at in (1, 2)))
        by_call = collection.labels.train()
        by_agent = collection.labels.train(speaker_keys=["agent"])
        assert (by_call.groups, by_agent.groups) == (24, 12)
        assert by_call.uar is not None
        assert by_agent.uar is not None
        assert by_call.uar > 0.9
        assert by_agent.uar < 0.75
        assert by_agent.uar_interval is not None
        assert by_agent.uar_interval[0] < 0.5
        # a speaker who is named with the example counts as much as one in the metadata
        for number in range(24):
            names = [f"seg:{number * A_CALL + at}" for at in (1, 2)]
            collection.labels.add("ab"[number // 2 % 2], *names, speaker=f"agent{number // 2}")
        assert collection.labels.train().uar == by_agent.uar


def test_too_few_examples(local: Collection) -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(TooFewExamples, match="nothing is labelled"):
        local.labels.train()
    local.labels.add("calm", "seg:1", "seg:4", "seg:7")
    local.labels.add("hesitant", "seg:2", "seg:5")
    with pytest.raises(TooFewExamples, match="'hesitant' has 2 of the 3"):
        local.labels.train()
    with pytest.raises(NotStored, match="'calmer'"):
        local.labels.train(labels=["calm", "calmer"])
    with pytest.raises(AnalysisError, match="did you mean agent"):
        local.labels.train(speaker_keys=["agnet"])
    local.labels.add("hesitant", "seg:8")
    report = local.labels.train()  # all of one call: there is a classifier, and no figure
    assert (report.accuracy, report.uar, report.uar_interval, report.confusion) == (None, None, None, ())
    assert report.folds == 0
    said = " ".join(report.warnings)
    for words in ("'calm' has 3 examples", "may be the voice", "no figures", "not calibrated"):
        assert words in said
    assert local.labels.classify().scored == CALLS * A_CALL


@pytest.mark.slow
def test_one_label_is_told_from_the_rest(collection: Collection) -> None:
    pytest.importorskip("sklearn")
    give_all(collection, of=("hesitant",))
    report = collection.labels.train("hesitation")
    assert (report.labels, report.contrast) == (("hesitant", "other"), "other")
    assert report.examples == 12 + CALLS * A_CALL - 12
    assert any("drawn at random" in each for each in report.warnings)
    done = collection.labels.classify()
    assert set(done.labels) == {"hesitant"}
    assert done.stored == done.labels["hesitant"] < done.scored
    collection.labels.remove(label="hesitant")
    collection.labels.add("other", "seg:1", "seg:2", "seg:3")
    with pytest.raises(TooFewExamples, match="other than"):
        collection.labels.train()


def test_without_scikit_learn_the_extra_is_named(local: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    give_all(local)
    for name in [each for each in sys.modules if each.startswith("sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match=r"e2vsearch\[labels\]"):
        local.labels.train()
    local.labels.remove(segments=[f"seg:{n}" for n in range(1, 1 + CALLS * A_CALL)])
    with pytest.raises(MissingExtra, match=r"e2vsearch\[labels\]"):
        local.labels.suggest()
