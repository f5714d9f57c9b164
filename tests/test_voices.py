"""The voices of a collection, as a shipped projection tells them apart: found, shifted, and left alone where loose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from shipped_head import DIM, knowing

from e2vsearch.projections import network
from e2vsearch.projections import speakers as voices
from e2vsearch.projections.network import NetworkProjection

VOICE, SPEAKERS, EACH = 64, 6, 80


def hearing() -> NetworkProjection:
    """A projection of vectors that end in a voice part, whose head tells two classes apart."""
    one = knowing()
    return replace(one, speakers=voices.no_speakers(one.dim_emotion, VOICE, DIM))


def calls(blur: float = 0.1, apart: float = 0.8, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """``(n, DIM + VOICE)`` of six voices, half of each one's segments of each class, and whose they are.

    Args:
        blur: how far voice parts lie from their speaker's, whose length is one.
        apart: how far a voice shifts what is heard of emotion.
        seed: of everything.
    """
    rng = np.random.default_rng(seed)
    speakers, felt = np.repeat(np.arange(SPEAKERS), EACH), np.arange(SPEAKERS * EACH) % 2
    own, sounds = rng.standard_normal((SPEAKERS, DIM)), np.linalg.qr(rng.standard_normal((VOICE, VOICE)))[0]
    heard = hearing().means[felt] + apart * (own - own.mean(axis=0))[speakers]
    heard += 0.1 * rng.standard_normal(heard.shape)
    parts = sounds[speakers] + blur * rng.standard_normal((len(felt), VOICE))
    return np.concatenate([heard, parts], axis=1).astype(np.float32), speakers


def own_voice(seen: NDArray[np.float32], speakers: NDArray[np.int64]) -> float:
    """The share of the ten nearest that are of the same voice."""
    near = np.argsort(-(seen @ seen.T) + 9 * np.eye(len(seen)), axis=1)[:, :10]
    return float((speakers[near] == speakers[:, None]).mean())


def test_told_apart_voices_no_longer_draw_their_own() -> None:
    rows, speakers = calls()
    centred = hearing().centred(rows)
    without = replace(centred, speakers=hearing().speakers)
    assert len(centred.speakers.centroids) == 4 * (len(rows) // voices.PER_SPEAKER)
    assert own_voice(without.apply(rows), speakers) > 0.5
    assert own_voice(centred.apply(rows), speakers) < 0.3  # chance is a sixth
    felt = np.arange(len(rows)) % 2
    assert (centred.scores(rows).argmax(axis=1) == felt).mean() >= (without.scores(rows).argmax(axis=1) == felt).mean()
    assert centred.apply(rows[:3]) == pytest.approx(centred.apply(rows)[:3], abs=1e-6)  # whatever else is asked


def test_what_is_no_voice_shifts_nothing() -> None:
    rows, _ = calls(blur=3.0)
    centred = hearing().centred(rows)
    assert not len(centred.speakers.centroids)


def test_a_mood_that_changes_the_voice_part_is_no_voice() -> None:
    rng = np.random.default_rng(3)
    rows, _ = calls(apart=0.0)
    bored = np.arange(len(rows)) % 4 == 0  # a mood beside the first of the two classes, that the encoder does not name
    rows[:, :DIM] += (bored[:, None] * 2 * rng.standard_normal(DIM)).astype(np.float32)
    moods = np.where(bored, 2, np.arange(len(rows)) % 2)
    rows[:, DIM:] = rng.standard_normal((3, VOICE))[moods] + 0.1 * rng.standard_normal((len(rows), VOICE))
    centred = hearing().centred(rows)
    without = replace(centred, speakers=hearing().speakers)
    assert (centred.apply(rows) * without.apply(rows)).sum(axis=1).min() > 0.9


def test_a_small_collection_and_an_encoder_without_a_voice_part_have_none() -> None:
    rows, _ = calls()
    few = rows[:: len(rows) // (2 * voices.PER_SPEAKER - 1)][: 2 * voices.PER_SPEAKER - 1]
    assert not len(hearing().centred(few).speakers.centroids)
    assert not len(knowing().centred(rows[:, :DIM]).speakers.centroids)


def test_packed_the_voices_come_back_and_count_in_the_revision() -> None:
    rows, _ = calls()
    centred = hearing().centred(rows)
    again = network.unpack(centred.pack())
    assert again.pack() == centred.pack() == hearing().centred(rows).pack()  # and are found the same again
    assert again.revision == centred.revision != replace(centred, speakers=hearing().speakers).revision
    assert again.apply(rows) == pytest.approx(centred.apply(rows), abs=1e-6)
    assert again.dim_in == DIM + VOICE
    assert again.centred(rows).revision == centred.revision  # wherever it was centred before


def test_a_group_is_compared_class_by_class() -> None:
    rng = np.random.default_rng(0)
    belonging, sure, vectors, means = (rng.random(shape) for shape in ((30, 4), (30, 3), (30, DIM), (3, DIM)))
    found = voices.class_shifts(belonging, sure, vectors, means, 2.0)
    for group in range(4):
        counts = [float((belonging[:, group] * sure[:, each]).sum()) for each in range(3)]
        weights = [count / (count + 2.0) for count in counts]
        own = [(belonging[:, group] * sure[:, each]) @ vectors / counts[each] for each in range(3)]
        shift = sum(weights[each] * (own[each] - means[each]) for each in range(3)) / sum(weights)
        assert found[group] == pytest.approx(shift)
    assert not voices.class_shifts(belonging * 0, sure, vectors, means, 2.0).any()
