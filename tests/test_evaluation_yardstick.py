"""Rows of the yardstick on made vectors: what a voice's mean costs, what is adapted on what, and calls by loops."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from e2vsearch.analysis.evaluation import adaptation, metrics, splits, yardstick
from e2vsearch.analysis.evaluation.yardstick import EmbeddedClips
from e2vsearch.errors import SettingsError, TooFewExamples
from e2vsearch.projections.base import RAW, Projection
from e2vsearch.vectors.exact import unit

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from _probes import nuisance_figures

MOODS = ("anger", "happiness", "neutral", "sadness")
VOICES, EACH, DIM = 10, 6, 24


@dataclass(frozen=True)
class Told:
    """A projection that removes something from the vectors that it was adapted to, a voice being known by its code."""

    removed: NDArray[np.float64]  # (VOICES, DIM)
    kind = "fitted"
    name = "told"
    revision = "1"
    dim_in = DIM + VOICES
    dim_emotion = DIM

    def dim_out(self, dim: int) -> int:
        return dim - VOICES

    def apply(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        voices = vectors[:, DIM:].argmax(axis=1)
        return np.asarray(vectors[:, :DIM] - self.removed[voices], np.float32)


def voices_means(vectors: NDArray[np.float32]) -> Projection:
    """Each voice's own mean off."""
    voices = vectors[:, DIM:].argmax(axis=1)
    means = [
        vectors[voices == each, :DIM].mean(axis=0) if (voices == each).any() else np.zeros(DIM)
        for each in range(VOICES)
    ]
    return Told(np.array(means, np.float64))


def mean(vectors: NDArray[np.float32]) -> Projection:
    """The mean of all off, whatever the voice."""
    return Told(np.tile(vectors[:, :DIM].mean(axis=0).astype(np.float64), (VOICES, 1)))


def clips(timbre: float = 1.0) -> EmbeddedClips:
    """Every voice in every mood, beside a code of the voice that is too faint to be compared."""
    rng = np.random.default_rng(5)
    moods, voices = np.meshgrid(np.arange(len(MOODS)), np.arange(VOICES))
    mood, voice = np.repeat(moods.ravel(), EACH), np.repeat(voices.ravel(), EACH)
    places = rng.standard_normal((len(MOODS), DIM))[mood] + timbre * rng.standard_normal((VOICES, DIM))[voice]
    vectors = np.concatenate(
        [places + 0.5 * rng.standard_normal((mood.size, DIM)), 1e-4 * np.eye(VOICES)[voice]], axis=1
    )
    texts = np.array([f"t{at % EACH}" for at in range(mood.size)])
    speakers = np.array([f"v{each}" for each in voice])
    return EmbeddedClips({"clean": vectors.astype(np.float32)}, np.array(MOODS)[mood], speakers, texts)


def test_taking_a_voices_mean_off_gains_on_actors_and_loses_on_one_mood_per_voice() -> None:
    kinds = (yardstick.ACTED, yardstick.ONE_MOOD)
    acted, one_mood = yardstick.rows("made", clips(), voices_means, kinds).rows
    assert acted.gain > 0.1
    assert one_mood.gain < -0.2
    assert one_mood.map == pytest.approx(one_mood.map_chance, abs=0.1)
    for row in yardstick.rows("made", clips(), mean, kinds).rows:
        assert row.gain > -0.02


def test_rows_are_the_figures_of_their_clips() -> None:
    made = clips()
    found = {row.name: row for row in yardstick.rows("", made, mean).rows}
    everything, mixed = found[""], found["fitted on all angry"]
    angry = made.emotions == "anger"
    vectors = made.vectors["clean"]
    for row, fit in ((everything, vectors), (mixed, vectors[angry])):
        ranking = metrics.measure(mean(fit).apply(vectors), made.emotions, made.speakers, draws=1).other_speakers
        raw = metrics.measure(vectors, made.emotions, made.speakers, draws=1).other_speakers
        assert ranking is not None
        assert raw is not None
        assert (row.map, row.map_interval, row.map_chance) == (ranking.map, ranking.map_interval, ranking.map_chance)
        assert (row.raw, row.raw_interval, row.queries) == (raw.map, raw.map_interval, raw.queries)
        assert row.gain == pytest.approx(row.map - row.raw)
        assert row.adapted_on == len(fit)
    assert everything.map != mixed.map


def test_one_mood_is_the_mean_over_draws_of_what_is_adapted_and_searched() -> None:
    made = clips()
    (row,) = yardstick.rows("", made, mean, (yardstick.ONE_MOOD,), draws=3).rows
    total, queries = 0.0, 0
    for seed in range(3):
        kept = splits.one_mood_per_voice(made.emotions, made.speakers, seed)
        vectors = made.vectors["clean"][kept]
        each = metrics.measure(mean(vectors).apply(vectors), made.emotions[kept], made.speakers[kept], draws=1)
        assert each.other_speakers is not None
        total += each.other_speakers.map * each.other_speakers.queries
        queries += each.other_speakers.queries
    assert row.queries == queries
    assert row.map == pytest.approx(total / queries)


def test_telephone_and_heard_need_their_vectors_and_labels() -> None:
    plain = clips()
    assert [row.name for row in yardstick.rows("made", plain, adaptation.raw, yardstick.KINDS[:3]).rows] == ["made"]
    heard = np.where(np.arange(len(plain.emotions)) % 3 == 0, "", plain.emotions)
    both = replace(plain, heard=heard, vectors={**plain.vectors, "telephone": 2 * plain.vectors["clean"]})
    acted, less, telephone = yardstick.rows("made", both, adaptation.raw, yardstick.KINDS[:3]).rows
    assert [acted.name, less.name, telephone.name] == ["made acted", "made heard", "made telephone"]
    assert (acted.searched, less.searched, less.adapted_on) == (240, 160, 240)
    assert telephone.map == acted.map


def test_calls_are_compared_by_the_mean_of_best_matches() -> None:
    made = clips()
    (row,) = yardstick.rows("", made, mean, (yardstick.CALLS,), draws=1).rows
    calls = splits.composed_calls(made.emotions, made.speakers, 0)
    vectors = made.vectors["clean"]
    projected = unit(mean(vectors[calls.items.ravel()]).apply(vectors))
    averages = []
    for query, items in enumerate(calls.items):
        others = [at for at in range(len(calls.items)) if calls.speakers[at] != calls.speakers[query]]
        scores = [np.mean([max(projected[a] @ projected[b] for b in calls.items[at]) for a in items]) for at in others]
        right = [calls.emotions[others[at]] == calls.emotions[query] for at in np.argsort(-np.array(scores))]
        averages.append(np.mean([sum(right[: at + 1]) / (at + 1) for at, hit in enumerate(right) if hit]))
    assert row.searched == row.queries == len(calls.items)
    assert row.map == pytest.approx(np.mean(averages), abs=1e-6)


def test_what_cannot_be_made_is_told() -> None:
    made = clips()
    few = np.flatnonzero(np.isin(made.speakers, ["v0", "v1"]) & (made.emotions != "neutral"))
    less = EmbeddedClips({"clean": made.vectors["clean"][few]}, made.emotions[few], made.speakers[few])
    found = yardstick.rows("made", less, adaptation.raw)
    assert found.notes == (
        "made one mood per voice is left out: 4 voices and two emotions are needed, not 2 and 3",
        "made fitted on 8 of 10 neutral is left out: no item is labelled neutral",
    )
    assert len(found.rows) == 4
    with pytest.raises(SettingsError, match="no row 'mumbled'"):
        yardstick.rows("made", less, adaptation.raw, ("mumbled",))
    with pytest.raises(TooFewExamples, match="no row"):
        yardstick.summary(())


def test_summary_is_the_mean_and_the_worst() -> None:
    rows = yardstick.rows("made", clips(), voices_means).rows
    whole = yardstick.summary(rows)
    assert whole.map - whole.raw == pytest.approx(whole.gain) == pytest.approx(np.mean([row.gain for row in rows]))
    assert whole.worst.name == "made one mood per voice"
    assert whole.rows == len(rows)


def test_what_is_carried_falls_where_it_is_taken_off() -> None:
    made = clips(timbre=2.0)
    raw, less = (nuisance_figures(made, adapt, triplets=500) for adapt in (adaptation.raw, voices_means))
    for side in (raw, less):
        assert side.leak is not None
        assert side.voice is not None
        assert side.sentence is not None
        assert side.sentence.accuracy == pytest.approx(side.sentence.chance, abs=0.08)
    assert raw.voice is not None
    assert less.voice is not None
    assert raw.voice.accuracy > 0.98
    assert less.voice.accuracy < 0.2
    assert raw.triplets["voice"] < less.triplets["voice"]


def test_without_texts_only_the_voice_is_probed() -> None:
    found = nuisance_figures(replace(clips(), texts=None), adaptation.raw)
    assert found.sentence is None
    assert found.voice is not None
    assert found.triplets == {}


def test_a_stored_projection_adapts_where_it_can_and_raw_is_raw() -> None:
    vectors = clips().vectors["clean"]
    told = mean(vectors)
    assert adaptation.of(told)(vectors[:9]) is told
    assert adaptation.raw(vectors) is RAW
