"""What a picture's bands tell of whose voice it is, whatever it feels.

Linear discriminants (Fisher 1936, https://doi.org/10.1111/j.1469-1809.1936.tb02137.x) of the speakers, of the mean and
the deviation over time of the 80 bands. What varies within a voice with its emotion counts many times as much as what
varies otherwise, since a voice part that knows of anger would have a collection take the anger for a voice; and what a
telephone changes counts once more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from light_data import Rows
from numpy.typing import NDArray

BANDS = 80
"""Of the picture."""

DIMS = 64
"""Of a voice part: 76 voices differ in 75 directions, and the last ones are noise."""

EMOTION = 30.0
"""How often the scatter of a voice's emotions counts. With 10, .009 mAP less on EMO-DB; with 100, .002 less there and a
telephone gains .01 less on unseen voices of CREMA-D."""

LINE = 0.3
"""How often the scatter between a clip and its telephone copy counts: with 1 as much on both corpora, with 0 .007 mAP
less on EMO-DB."""

_RIDGE = 0.005  # of the mean variance within voices: .001 is as good, .02 has .014 mAP less on EMO-DB


@dataclass(frozen=True, slots=True)
class VoicePart:
    """The last numbers of the encoder's vectors, linear in the picture's bands."""

    weight: NDArray[np.float32]  # (2 BANDS, dim)
    offset: NDArray[np.float32]  # (dim,)

    @property
    def dim(self) -> int:
        """How many numbers there are."""
        return int(self.offset.size)

    def __call__(self, bands: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(n, dim)`` of means and deviations ``(n, 2 BANDS)``."""
        return np.asarray(bands @ self.weight + self.offset)


def directions(bands: NDArray[np.float32], rows: Rows, length: float) -> VoicePart:
    """Return the discriminants of the speakers, whose emotions and telephones are noise.

    Args:
        bands: ``(n, 2, 2 BANDS)`` means and deviations of clips, and of their telephone copies.
        rows: emotions and speakers of the n clips.
        length: root mean square of the voice parts' lengths.
    """
    flat = bands.reshape(-1, bands.shape[2]).astype(np.float64)
    mean, deviation = flat.mean(axis=0), flat.std(axis=0) + 1e-6
    normal = (bands - mean) / deviation
    middles, beside, moods = [], [], []
    for speaker in np.unique(rows.speakers):
        own, felt = normal[rows.speakers == speaker], rows.acted[rows.speakers == speaker]
        middles.append(own.mean(axis=(0, 1)))
        beside.append((own - middles[-1]).reshape(-1, flat.shape[1]))
        moods += [own[felt == emotion].mean(axis=(0, 1)) - middles[-1] for emotion in np.unique(felt)]
    within = _scatter(np.concatenate(beside))
    level = _RIDGE * np.trace(within) / len(within) * np.eye(len(within))
    noise = within + EMOTION * _scatter(np.stack(moods)) + LINE * _scatter(normal[:, 1] - normal[:, 0]) + level
    variances, axes = np.linalg.eigh(noise)
    whitening = axes / np.sqrt(variances)
    _, found = np.linalg.eigh(whitening.T @ np.cov(np.stack(middles).T) @ whitening)
    weight = (whitening @ found)[:, ::-1][:, :DIMS] / deviation[:, None]
    said = (flat - mean) @ weight
    weight *= length / np.sqrt((said**2).sum(axis=1).mean())
    return VoicePart(weight.astype(np.float32), (-mean @ weight).astype(np.float32))


def shift(
    vectors: NDArray[np.float32], bands: NDArray[np.float32], rows: Rows, ridge: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the ridge regression of a voice's shift of the vectors on the bands' deviations, whatever the emotion.

    At rest, where no collection is there to tell its voices apart, that is .023 mAP more on EMO-DB, and .54 of six
    emotions named rightly, not .50. Means of the bands beside the deviations have .010 mAP less, as has the voice part.

    Args:
        vectors: ``(n, copies, dim)`` of clips.
        bands: ``(n, copies, BANDS)`` deviations of their pictures.
        rows: emotions and speakers of the n clips.
        ridge: as a share of what the bands vary.

    Returns:
        ``(BANDS, dim)`` slope, and ``(dim,)`` what to add where it is taken off so that means stay.
    """
    shifts = np.empty_like(vectors)
    for copy in range(vectors.shape[1]):
        beside = vectors[:, copy].copy()
        for emotion in np.unique(rows.acted):
            beside[rows.acted == emotion] -= beside[rows.acted == emotion].mean(axis=0)
        for speaker in np.unique(rows.speakers):
            shifts[rows.speakers == speaker, copy] = beside[rows.speakers == speaker].mean(axis=0)
    known, told = bands.reshape(-1, bands.shape[2]).astype(np.float64), shifts.reshape(-1, shifts.shape[2])
    mean, deviation = known.mean(axis=0), known.std(axis=0) + 1e-6
    normal = (known - mean) / deviation
    spread = normal.T @ normal + ridge * len(normal) * np.eye(normal.shape[1])
    slope = np.linalg.solve(spread, normal.T @ (told - told.mean(axis=0))) / deviation[:, None]
    return slope.astype(np.float32), (mean @ slope).astype(np.float32)


def _scatter(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values.T @ values / len(values))
