"""Class probabilities become what is shown: the name of an emotion, arousal and valence.

A likeliest class alone is no name. Acted corpora hold as much disgust as plain speech, so classifiers trained on them
give polite calls the names of strong emotions. A listener believes a name that is clearly likelier than the others, and
takes "unsure" for an answer. Arousal and valence need no decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNSURE = "unsure"
"""Named so: no class is clearly the likeliest, or the signal is too quiet for its classes to mean anything."""

TOO_SHORT = "too short"
"""Named so: less than `Rules.least_s` was spoken."""

NAMELESS = (UNSURE, TOO_SHORT)
"""What stands in a name's place where no class is named."""

NEUTRAL = "neutral"
"""The class that most of a conversation is of, where an encoder has one."""

_SAME_S = 1e-6  # seconds: 4.3 - 3.3 is 1 s


@dataclass(frozen=True, slots=True)
class Rules:
    """When a class is named."""

    # Over the second, in probability. Of unheard voices of CREMA-D, by light's held-out encoder, it leaves 24 %
    # unnamed, and names 82 % of the rest as most raters do (benchmarks/names.py).
    margin: float = 0.3
    least_s: float = 1.0  # a shorter segment is named `TOO_SHORT`
    least_db: float = -55.0  # dBFS, root mean square: a quieter segment is named `UNSURE`


RULES = Rules()

# Table 4 of Russell and Mehrabian: valence ("pleasure") and arousal, -1 to 1, as means over raters. Rows 82 angry,
# 75 disgusted, 101 fearful, 31 happy, 151 sad, 52 surprised, and bored; the origin is the scales' own neutral point.
_AFFECT = {
    ("angry", "anger"): (-0.51, 0.59),
    ("disgusted", "disgust"): (-0.60, 0.35),
    ("fearful", "fear"): (-0.64, 0.60),
    ("happy", "happiness"): (0.81, 0.51),
    ("sad", "sadness"): (-0.63, -0.27),
    ("surprised", "surprise"): (0.40, 0.67),
    ("bored", "boredom"): (-0.65, -0.62),
    (NEUTRAL,): (0.0, 0.0),
}
_OF_LABEL = {label: values for labels, values in _AFFECT.items() for label in labels}


@dataclass(frozen=True, slots=True)
class Emotion:
    """What is shown of a segment's class probabilities."""

    name: str  # a class, or one of `NAMELESS`
    score: float | None  # the class's probability, 0 to 1; None where none is named
    arousal: float | None  # 0 calm to 1 excited; None where no class has an entry in the table
    valence: float | None  # 0 unpleasant to 1 pleasant; None as for arousal


def named(
    probabilities: NDArray[np.floating],
    labels: Sequence[str],
    durations_s: Sequence[float],
    levels_db: Sequence[float | None],
    rules: Rules = RULES,
) -> list[Emotion]:
    """Return what is shown of each of n segments.

    One rule after the other: less than `Rules.least_s` is `TOO_SHORT`; what is quieter than `Rules.least_db` is
    `UNSURE`, and so is what has no class that leads the second by `Rules.margin`. What is left has the name of its
    likeliest class. Arousal and valence follow from the probabilities alone, whatever the name.

    Args:
        probabilities: ``(n, labels)``, 0 to 1.
        labels: of the encoder's classes, at least one.
        durations_s: ``(n,)``.
        levels_db: ``(n,)`` of the signal, root mean square in dBFS; None where that is not known, which is no reason
            to doubt a name.
        rules: when a class is named.

    >>> named(np.array([[0.7, 0.2, 0.1]]), ("angry", "neutral", "sad"), [3.0], [-20.0])[0].name
    'angry'
    >>> named(np.array([[0.4, 0.3, 0.3]]), ("angry", "neutral", "sad"), [3.0], [-20.0])[0].name
    'unsure'
    """
    wide = np.asarray(probabilities, np.float64).reshape(-1, len(labels))
    best = wide.argmax(axis=1)
    top = wide.max(axis=1)
    clear = top - _second(wide) >= rules.margin
    columns = zip(
        best.tolist(), top.tolist(), clear.tolist(), durations_s, levels_db, *affect(wide, labels), strict=True
    )
    found = []
    for at, score, is_clear, duration_s, level_db, arousal, valence in columns:
        name, given = labels[at], score
        if is_too_short(duration_s, rules):
            name, given = TOO_SHORT, None
        elif not is_clear or is_too_quiet(level_db, rules):
            name, given = UNSURE, None
        found.append(Emotion(name, given, arousal, valence))
    return found


def named_as_one(
    probabilities: NDArray[np.floating],
    labels: Sequence[str],
    durations_s: Sequence[float],
    levels_db: Sequence[float | None],
    rules: Rules = RULES,
) -> Emotion:
    """Return what is shown of n segments as a whole: of their mean probabilities, weighted by their length.

    The whole is as long as all of them together, and as loud as if they were one signal.

    Args:
        probabilities: ``(n, labels)``, n at least 1.
        labels: of the encoder's classes.
        durations_s: ``(n,)``.
        levels_db: ``(n,)`` as for `named`; those that are not known are left out of the whole's.
        rules: when a class is named.
    """
    lengths = np.asarray(durations_s, np.float64)
    mean = _mean(np.asarray(probabilities, np.float64), lengths)
    known = [at for at, level in enumerate(levels_db) if level is not None]
    level_db = None
    if known:
        powers = np.array([10 ** (level / 10) for level in levels_db if level is not None])
        level_db = 10 * float(np.log10(_mean(powers, lengths[known])))
    (whole,) = named(mean[None], labels, [float(lengths.sum())], [level_db], rules)
    return whole


def is_too_short(duration_s: float, rules: Rules = RULES) -> bool:
    """Whether too little was spoken for a name."""
    return duration_s < rules.least_s - _SAME_S


def is_too_quiet(level_db: float | None, rules: Rules = RULES) -> bool:
    """Whether a signal is too quiet for its classes to mean anything; one whose level is not known is not."""
    return level_db is not None and level_db < rules.least_db


def affect(probabilities: NDArray[np.floating], labels: Sequence[str]) -> tuple[list[float | None], list[float | None]]:
    """Arousal and valence, 0 to 1, as expected under class probabilities.

    Each class is where raters put its word (Russell and Mehrabian 1977, "Evidence for a three-factor theory of
    emotions", Journal of Research in Personality 11, 273-294, doi:10.1016/0092-6566(77)90037-X), its value x of -1 to 1
    as (x + 1) / 2. Classes without an entry, such as "other" and "unknown", are left out and the rest renormalised.

    Args:
        probabilities: ``(n, labels)``.
        labels: of the classes.

    Returns:
        Arousal and valence, n each; None where no class with an entry has any probability.
    """
    at = [position for position, label in enumerate(labels) if label.casefold() in _OF_LABEL]
    table = np.array([_OF_LABEL[labels[position].casefold()] for position in at], np.float64).reshape(-1, 2)
    known = np.asarray(probabilities, np.float64)[:, at]
    mass = known.sum(axis=1)
    there = mass > 0
    values = np.full((len(known), 2), np.nan)
    # no matrix product: its last bits depend on how many rows there are, and a segment's values must not
    expected = (known[there, :, None] * table).sum(axis=1) / mass[there, None]
    values[there] = np.clip((expected + 1) / 2, 0.0, 1.0)
    columns = values.T.tolist()
    valence, arousal = ([each if ok else None for each, ok in zip(one, there.tolist(), strict=True)] for one in columns)
    return arousal, valence


def _mean(values: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the first axis, weighted by length; saved vectors may be of no length at all, and then count alike."""
    mean: NDArray[np.float64] = np.average(values, axis=0, weights=lengths if lengths.any() else None)
    return mean


def _second(wide: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the second largest of each row; 0 where there is only one class."""
    if wide.shape[1] < 2:
        return np.zeros(len(wide))
    second: NDArray[np.float64] = np.partition(wide, -2, axis=1)[:, -2]
    return second
