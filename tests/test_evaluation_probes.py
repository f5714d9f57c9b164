"""Probes: chance where nothing is to be read, one where the label is all there is, and folds that keep groups apart."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from e2vsearch.errors import TooFewExamples

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import _probes as probes

VOICES, TEXTS = 8, 6


def labels(each: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Voices and texts of all pairs, `each` times."""
    voices, texts = np.meshgrid(np.arange(VOICES), np.arange(TEXTS), indexing="ij")
    return np.tile(voices.ravel(), each), np.tile(texts.ravel(), each)


def noise(n: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim))


def test_noise_is_read_at_chance() -> None:
    voices, texts = labels(10)
    found = [probes.probe(noise(len(voices), 20, seed), voices, texts) for seed in range(4)]
    assert {each.chance for each in found} == {1 / VOICES}
    assert np.mean([each.accuracy for each in found]) == pytest.approx(1 / VOICES, abs=0.03)


@pytest.mark.parametrize("loudness", [1.0, 0.001])
def test_what_is_voice_is_read_however_faint(loudness: float) -> None:
    voices, texts = labels()
    faint = loudness * (np.eye(VOICES)[voices] + 0.05 * noise(len(voices), VOICES))
    vectors = np.concatenate([faint, noise(len(voices), 5)], axis=1)
    assert probes.probe(vectors, voices, texts).accuracy > 0.98
    assert probes.probe(vectors, texts, voices).accuracy < 0.35


def test_more_dimensions_than_items() -> None:
    voices, texts = labels(2)
    places = noise(VOICES, 300, seed=1)[voices]
    assert probes.probe(places + 0.3 * noise(len(voices), 300), voices, texts).accuracy == 1.0
    assert probes.probe(noise(len(voices), 300), voices, texts).accuracy < 0.35


def test_groups_are_never_on_both_sides() -> None:
    voices, texts = labels()
    pairs = voices * TEXTS + texts
    vectors = noise(VOICES * TEXTS, 60, seed=2)[pairs]  # each voice and sentence a place of its own: nothing in common
    apart = probes.probe(vectors, voices, texts)
    assert probes.probe(vectors, voices).accuracy == 1.0
    assert apart.accuracy < 0.35


def test_recall_counts_classes_alike() -> None:
    common = np.array([0] * 90 + [1] * 10)
    found = probes.probe(noise(100, 1), common)
    assert (found.chance, found.classes, found.n) == (0.5, 2, 100)
    assert found.accuracy == pytest.approx(0.5, abs=0.1)  # not the .9 of always naming the commoner


@pytest.mark.parametrize(("names", "groups"), [([1, 1, 1], [0, 1, 2]), ([1, 2, 1], [0, 0, 0]), ([], [])])
def test_too_little_to_probe(names: list[int], groups: list[int]) -> None:
    with pytest.raises(TooFewExamples, match="two labels and two groups"):
        probes.probe(noise(len(names), 3), np.array(names), np.array(groups))
