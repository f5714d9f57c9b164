"""Other voices, tempi, rooms, microphones and lines, made on log-mel pictures.

Working on pictures instead of waveforms costs a twentieth of the network's own time, so that no two copies of a clip
are alike. What is only approximate here (a telephone, a room) is measured on real copies in validation.

    crop → tempo → length of the vocal tract → reverberation → tone colour → telephone band → ceiling → noise

The speech level needs no copies: `e2vsearch.encoders.light.picture` sets every picture to one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.encoders.light import CEILING_HZ
from e2vsearch.encoders.mel import RATE_HZ, centres_hz

_FLOOR = -10.0  # log10 of the least power that a picture holds, as in `mel.log_mel`
_CENTRES_HZ = centres_hz()
_HEARD = int((_CENTRES_HZ <= CEILING_HZ).sum())  # bands that hold anything
_TAIL_FRAMES = 60  # of reverberation
_SKIRT_HZ = 100.0  # over which a telephone's band falls off by a decade

Decades = NDArray[np.float32]  # (80, frames) log10 of power


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far copies stray, and how often; the defaults are those of the shipped weights."""

    crop_s: float = 2.2  # the shortest crop of a clip that is longer …
    crop_share: float = 0.5  # … and how many copies are crops
    tempo: float = 0.2  # log of the most that a clip is stretched or shrunk
    tempo_share: float = 0.7
    tract: float = 0.2  # log of the most that all frequencies, pitch included, are moved: another speaker's size
    tract_share: float = 0.8
    room_share: float = 0.36
    decay_s: tuple[float, float] = (0.1, 0.8)  # of the reverberation by 60 dB
    tail_decades: tuple[float, float] = (-1.7, -0.2)  # its energy against the direct sound's
    colour_db: float = 10.0
    colour_share: float = 0.63
    telephone_share: float = 0.32
    low_hz: tuple[float, float] = (220.0, 380.0)  # where a telephone begins
    high_hz: tuple[float, float] = (3250.0, 3650.0)  # and ends
    ceiling_share: float = 0.27
    ceiling_hz: tuple[float, float] = (3600.0, 5600.0)
    noise_share: float = 0.54
    noise_decades: tuple[float, float] = (-4.0, -1.0)  # against the clip's mean power


def degraded(decades: Decades, options: Augmentation, rng: np.random.Generator) -> Decades:
    """One copy of a picture as another voice might have said it, in another room, over another line.

    Args:
        decades: ``(80, frames)`` log10 of power.
        options: how far copies stray, and how often.
        rng: draws all that is random.

    Returns:
        ``(80, other frames)`` log10 of power; its level is not set again.
    """
    power = 10.0 ** _moved(_stretched(_cropped(decades, options, rng), options, rng), options, rng)[:_HEARD]
    centres = _CENTRES_HZ[:_HEARD, None]
    if rng.random() < options.room_share:
        power = _reverberated(power, options, rng)
    if rng.random() < options.colour_share:
        power *= 10 ** _curve(6, options.colour_db / 10, rng)
    if rng.random() < options.telephone_share:
        outside = np.maximum(rng.uniform(*options.low_hz) - centres, centres - rng.uniform(*options.high_hz))
        power *= 10 ** -np.clip(outside / _SKIRT_HZ, 0.0, 6.0)
    if rng.random() < options.ceiling_share:
        power *= np.where(centres > rng.uniform(*options.ceiling_hz), 1e-6, 1.0)
    if rng.random() < options.noise_share:
        hiss = rng.exponential(size=(2, *power.shape)).mean(axis=0)  # about what a triangle of bins sums to
        power += power.mean() * 10 ** (rng.uniform(*options.noise_decades) + _curve(4, 0.7, rng)) * hiss
    made = np.full((len(_CENTRES_HZ), power.shape[1]), _FLOOR, np.float32)
    made[:_HEARD] = np.log10(np.maximum(power, 10.0**_FLOOR))
    return made


def _cropped(decades: Decades, options: Augmentation, rng: np.random.Generator) -> Decades:
    shortest = round(options.crop_s * RATE_HZ)
    if decades.shape[1] <= shortest or rng.random() >= options.crop_share:
        return decades
    size = int(rng.integers(shortest, decades.shape[1] + 1))
    start = int(rng.integers(0, decades.shape[1] - size + 1))
    return decades[:, start : start + size]


def _stretched(decades: Decades, options: Augmentation, rng: np.random.Generator) -> Decades:
    if rng.random() >= options.tempo_share:
        return decades
    frames = decades.shape[1]
    size = max(2, round(frames * float(np.exp(rng.uniform(-options.tempo, options.tempo)))))
    at = np.linspace(0.0, frames - 1.0, size)
    below = np.minimum(at.astype(np.int64), frames - 2) if frames > 1 else np.zeros(size, np.int64)
    share = (at - below).astype(np.float32)
    made: Decades = decades[:, below] * (1 - share) + decades[:, np.minimum(below + 1, frames - 1)] * share
    return made


def _moved(decades: Decades, options: Augmentation, rng: np.random.Generator) -> Decades:
    """All frequencies times a factor; what would come from above the ceiling repeats the last band below it."""
    if rng.random() >= options.tract_share:
        return decades
    source = _CENTRES_HZ / np.exp(rng.uniform(-options.tract, options.tract))
    above = np.clip(np.searchsorted(_CENTRES_HZ, source), 1, len(_CENTRES_HZ) - 1)
    share = (source - _CENTRES_HZ[above - 1]) / (_CENTRES_HZ[above] - _CENTRES_HZ[above - 1])
    share = np.clip(share, 0.0, 1.0).astype(np.float32)[:, None]
    last = _HEARD - 1
    made: Decades = decades[np.minimum(above - 1, last)] * (1 - share) + decades[np.minimum(above, last)] * share
    return made


def _reverberated(power: NDArray[np.floating], options: Augmentation, rng: np.random.Generator) -> NDArray[np.floating]:
    """Power smeared over later frames by an exponential tail (Polack's model, in energies)."""
    frames = power.shape[1]
    steps = np.arange(_TAIL_FRAMES)
    tail = 10 ** (-6.0 * steps / (RATE_HZ * rng.uniform(*options.decay_s))) * (steps > 0)
    tail *= 10 ** rng.uniform(*options.tail_decades) / tail.sum()
    tail[0] = 1.0
    size = frames + _TAIL_FRAMES
    smeared = np.fft.irfft(np.fft.rfft(power, size) * np.fft.rfft(tail, size), size)[:, :frames]
    return np.asarray(np.maximum(smeared, 10.0**_FLOOR))


def _curve(points: int, most: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a smooth random line over the bands that are heard, ``(_HEARD, 1)``, within `most` either way."""
    knots = rng.uniform(-most, most, points)
    return np.interp(np.linspace(0, points - 1, _HEARD), np.arange(points), knots)[:, None]
