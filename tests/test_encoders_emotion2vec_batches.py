"""Batches: a clip gets what it gets alone, whatever else is in its batch, and whoever's that is."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import made
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opened_emotion2vec import NEEDED, SAME, SIGNALS, opened
from random_emotion2vec import write_model

from e2vsearch.encoders.emotion2vec import batch_plan as batches
from e2vsearch.encoders.emotion2vec.encoder import Emotion2vecEncoder

pytestmark = NEEDED


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Emotion2vecEncoder:
    return opened(folder)


def test_a_vector_does_not_depend_on_what_else_is_in_the_call(encoder: Emotion2vecEncoder) -> None:
    signals = list(SIGNALS.values())
    alone = [encoder.encode([signal]) for signal in signals]
    together = encoder.encode(signals[::-1])
    assert together.scores is not None
    for one, vector, scores in zip(alone, together.vectors[::-1], together.scores[::-1], strict=True):
        np.testing.assert_allclose(one.vectors[0], vector, atol=SAME)
        np.testing.assert_allclose(one.scores, [scores], atol=SAME)  # type: ignore[arg-type]


LENGTHS = st.lists(st.integers(400, 4 * 16_000) | st.integers(400, 1_000), min_size=2, max_size=7)


@settings(max_examples=25, deadline=None)
@given(lengths=LENGTHS, shuffle=st.randoms(use_true_random=False), cores=st.integers(1, 3))
def test_any_clips_in_any_order_are_what_each_is_alone(
    encoder: Emotion2vecEncoder, lengths: list[int], shuffle: random.Random, cores: int
) -> None:
    signals = [made.noise(length / 16_000, seed=length) * (1 + length % 5) for length in lengths]
    order = list(range(len(signals)))
    shuffle.shuffle(order)
    together = encoder.encode([signals[each] for each in order])
    assert together.scores is not None
    alone = [encoder.encode([signal]) for signal in signals]
    for vector, scores, each in zip(together.vectors, together.scores, order, strict=True):
        np.testing.assert_allclose(vector, alone[each].vectors[0], atol=SAME)
        np.testing.assert_allclose([scores], alone[each].scores, atol=SAME)  # type: ignore[arg-type]
    # one padded batch, whatever the plan would have said; where padding is most of it, too
    rows = in_one_batch(encoder, signals)
    for row, one in zip(rows, alone, strict=True):
        np.testing.assert_allclose(row, one.vectors[0], atol=SAME)
    plan = batches.plan_batches([encoder._network.frames_of(length) for length in lengths], 500, cores)
    assert sorted(position for batch in plan for position in batch) == list(range(len(lengths)))


def in_one_batch(encoder: Emotion2vecEncoder, signals: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    import torch

    with torch.inference_mode():
        return np.stack([clip.mean(dim=0).numpy() for clip in encoder._network.run(signals)])


def test_thirty_seconds_beside_a_twentieth_of_one(encoder: Emotion2vecEncoder) -> None:
    signals = [made.noise(0.05), made.speech(30.0), made.speech(1.0)]
    expected = [encoder.encode([signal]).vectors[0] for signal in signals]
    np.testing.assert_allclose(in_one_batch(encoder, signals), expected, atol=SAME)
    np.testing.assert_allclose(encoder.encode(signals).vectors, expected, atol=SAME)


def test_a_batch_as_a_gpu_has_it_is_the_same(encoder: Emotion2vecEncoder, folder: Path) -> None:
    """There, one mask for all clips, and FunASR's own convolutions."""
    other, signals = opened(folder), [made.speech(0.5), made.speech(2.0), made.noise(0.025), made.speech(1.3)]
    forward = type(other._network.module.modality_encoders["AUDIO"].local_encoder).forward
    local = other._network.module.modality_encoders["AUDIO"].local_encoder
    local.forward = lambda sources: forward(local, sources)
    other._network._together = True
    expected = [encoder.encode([signal]).vectors[0] for signal in signals]
    np.testing.assert_allclose(in_one_batch(other, signals), expected, atol=SAME)


def test_a_batch_is_of_clips_of_about_one_length_and_within_its_budget() -> None:
    rng = np.random.default_rng(0)
    frames = [int(each) for each in rng.uniform(99, 499, 64)]
    for budget in (1_000, 32_000):
        plan = batches.plan_batches(frames, budget)
        assert sorted(position for batch in plan for position in batch) == list(range(64))
        sizes = [(len(batch) * max(frames[each] for each in batch), sum(frames[each] for each in batch))
                 for batch in plan]  # fmt: skip
        assert 1 - sum(own for _, own in sizes) / sum(padded for padded, _ in sizes) < 0.1
        heavy = max(len(batch) * batches.weight(max(frames[each] for each in batch)) for batch in plan)
        assert heavy <= budget
    assert len(batches.plan_batches(frames, 32_000)) < len(batches.plan_batches(frames, 1_000)) < 64


def test_few_clips_are_shared_out_and_too_heavy_ones_are_alone() -> None:
    assert batches.plan_batches([100] * 4, 10_000) == [[0, 1, 2, 3]]
    assert batches.plan_batches([100] * 4, 10_000, shares=2) == [[0, 1], [2, 3]]
    assert batches.plan_batches([1499, 1499], 1_000) == [[0], [1]]
    assert batches.plan_batches([100, 100], 0) == [[0], [1]]
    assert batches.plan_batches([5, 100, 5], 10_000) == [[1], [0, 2]]
    assert batches.plan_batches([], 1_000, 2) == []


def test_four_threads_get_what_one_gets(encoder: Emotion2vecEncoder) -> None:
    signals = [made.noise(0.2 + 0.1 * i, seed=i) for i in range(8)]
    expected = [encoder.encode([signal]).vectors for signal in signals]
    with ThreadPoolExecutor(4) as pool:
        for round_ in range(5):
            for vectors, one in zip(pool.map(lambda s: encoder.encode([s]).vectors, signals), expected, strict=True):
                np.testing.assert_allclose(vectors, one, atol=SAME, err_msg=f"round {round_}")
        for vectors in pool.map(lambda _: encoder.encode(signals).vectors, range(6)):
            np.testing.assert_allclose(vectors, np.concatenate(expected), atol=SAME)
        for vectors in pool.map(lambda _: in_one_batch(encoder, signals), range(6)):  # without the encoder's lock
            np.testing.assert_allclose(vectors, np.concatenate(expected), atol=SAME)
