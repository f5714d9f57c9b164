"""How well a head does on clips that it was not trained on. The yardstick is the project's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from light_data import COPIES, LABELS, Clips
from light_head import LightHead
from numpy.typing import NDArray

from e2vsearch.analysis.evaluation import figures
from e2vsearch.projections.shipped import Shipped

HELD_OUT_VOICES = 15


@dataclass(frozen=True, slots=True)
class Scores:
    """What is reported of one test; the query's own voice is left out but for the leak. The card explains each."""

    map: float
    map_raw: float  # of the encoder's own vectors
    map_chance: float
    precision_at_10: float
    leak: float  # own-speaker share of the ten nearest, as a multiple of chance
    words: float  # triplets
    voice: float
    both: float
    telephone_map: float
    recall: float  # unweighted, over the scored emotions
    recall_resting: float  # of what the encoder says by itself, not centred


def measured(head: LightHead, projection: Shipped, clips: Clips, features: NDArray[np.float32]) -> Scores:
    """The figures of a head on clips that it has not heard, each condition centred on itself as a collection is."""
    rows = clips.rows
    clean, line = (head(features[:, COPIES.index(name)]) for name in ("clean", "telephone"))
    centred = projection.centred(clean[0])
    vectors, far = centred.apply(clean[0]), projection.centred(line[0]).apply(line[0])
    found = figures(vectors, rows.emotions, rows.speakers, rows.texts)
    raw = figures(clean[0], rows.emotions, rows.speakers)
    away = figures(far, rows.emotions, rows.speakers)
    assert found.other_speakers is not None  # all speakers are known
    assert found.same_speaker is not None
    assert raw.other_speakers is not None
    assert away.other_speakers is not None
    scored = [index for index in np.unique(rows.emotions) if index < len(LABELS)]

    def recall(scores: NDArray[np.float32]) -> float:
        guesses = scores.argmax(axis=1)
        return float(np.mean([(guesses[rows.emotions == index] == index).mean() for index in scored]))

    return Scores(
        map=found.other_speakers.map,
        map_raw=raw.other_speakers.map,
        map_chance=found.other_speakers.map_chance,
        precision_at_10=found.other_speakers.precision_at_10,
        leak=found.same_speaker.ratio or 0.0,
        words=found.triplets["words"].accuracy,
        voice=found.triplets["voice"].accuracy,
        both=found.triplets["both"].accuracy,
        telephone_map=away.other_speakers.map,
        recall=recall(centred.scores(clean[0])),
        recall_resting=recall(clean[1]),
    )


def held_out(corpus: Clips) -> NDArray[np.bool_]:
    """Which clips ``(n,)`` are of the 15 voices that are kept out of training; always the same."""
    voices = np.random.default_rng(3).permutation(int(corpus.rows.speakers.max()) + 1)[:HELD_OUT_VOICES]
    return np.isin(corpus.rows.speakers, voices)


def chosen(corpus: Clips, kept: NDArray[np.bool_]) -> Clips:
    """Some of the clips."""
    return Clips(tuple(corpus.paths[index] for index in np.flatnonzero(kept)), corpus.rows[kept])
