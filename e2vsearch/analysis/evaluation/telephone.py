"""Telephone copies: recordings as over a fixed line and a packet network.

Noise → 300 to 3400 Hz at 8 kHz → G.711 mu-law → lost packets, concealed → 16 kHz. Level, noise and losses are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.audio import SAMPLING_RATE_HZ

_LINE_HZ = 8_000
_BAND_HZ = (300.0, 3400.0)  # ITU-T G.712's pass band
_EDGE_HZ = 150.0  # width of the slopes beside it
_PACKET = _LINE_HZ // 50  # 20 ms, what nearly all voice over IP sends
_FULL_SCALE = 32_768.0
_BIAS = 132  # G.711's 33 of 14 bits, in 16
_LARGEST = 32_635  # G.711's largest value, in 16 bits
_SPOKEN = 0.01  # of the loudest packet's power; fainter packets are pauses


@dataclass(frozen=True, slots=True)
class TelephoneOptions:
    """Ranges that are drawn from evenly for each signal."""

    snr_db: tuple[float, float] = (10.0, 30.0)  # speech over noise, both within the band
    level_db: tuple[float, float] = (-30.0, -18.0)  # of speech, below full scale: where telephone networks keep it
    loss: tuple[float, float] = (0.0, 0.03)  # share of packets; quality is rated poor from about 3 %
    burst: float = 2.0  # packets lost in a row, on average


def telephone(
    signal: NDArray[np.float32], rng: np.random.Generator, options: TelephoneOptions | None = None
) -> NDArray[np.float32]:
    """Return the telephone copy of one channel, of the same length.

    Args:
        signal: ``(samples,)`` at 16 kHz; digital silence stays silent.
        rng: of level, noise and losses.
        options: their ranges.
    """
    import soxr

    options = options or TelephoneOptions()
    snr_db, level_db, loss = (rng.uniform(*limits) for limits in (options.snr_db, options.level_db, options.loss))
    line = _in_band(soxr.resample(signal, SAMPLING_RATE_HZ, _LINE_HZ).astype(np.float64))
    power = _spoken_power(line)
    if power == 0:
        return np.zeros_like(signal)
    noise = _in_band(rng.standard_normal(line.size))
    noise *= np.sqrt(power / max(float(np.mean(noise**2)), 1e-30) * 10 ** (-snr_db / 10))
    sent = mu_law((line + noise) * np.sqrt(10 ** (level_db / 10) / power))
    received = _concealed(sent, _losses(-(-sent.size // _PACKET), loss, options.burst, rng))
    back = soxr.resample(received.astype(np.float32), _LINE_HZ, SAMPLING_RATE_HZ)[: signal.size]
    return np.pad(back, (0, signal.size - back.size))


def mu_law(samples: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return samples of full scale 1.0 after G.711 mu-law, to 8 bits and back.

    A sign, the exponent of the biased magnitude and four bits of its mantissa (ITU-T G.711, table 2).
    """
    scaled = np.round(np.clip(samples, -1.0, 1.0) * _FULL_SCALE)
    magnitude = np.minimum(np.abs(scaled), _LARGEST).astype(np.int64) + _BIAS
    exponent = np.floor(np.log2(magnitude)).astype(np.int64) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    decoded = (((mantissa << 3) + _BIAS) << exponent) - _BIAS
    signed: NDArray[np.float64] = np.where(scaled < 0, -decoded, decoded) / _FULL_SCALE
    return signed


def _in_band(line: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = line.size + _LINE_HZ // 10  # the filter's ends must not meet
    hz = np.fft.rfftfreq(padded, 1 / _LINE_HZ)
    outside = np.maximum(_BAND_HZ[0] - hz, hz - _BAND_HZ[1])
    gain = 0.5 + 0.5 * np.cos(np.pi * np.clip(outside / _EDGE_HZ, 0.0, 1.0))
    kept: NDArray[np.float64] = np.fft.irfft(np.fft.rfft(line, padded) * gain, padded)[: line.size]
    return kept


def _spoken_power(line: NDArray[np.float64]) -> float:
    packets = np.pad(line, (0, -line.size % _PACKET)).reshape(-1, _PACKET)
    power = (packets**2).mean(axis=1)
    return float(power[power >= _SPOKEN * power.max()].mean()) if power.size else 0.0


def _losses(packets: int, share: float, burst: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which packets are lost by Gilbert's model: in bursts, whose lengths are geometric."""
    stay = 1 - 1 / burst
    begin = share * (1 - stay) / max(1 - share, 1e-9)
    drawn = rng.random(packets)
    lost = np.zeros(packets, bool)
    for at in range(1, packets):  # the first is kept: there is nothing before it to repeat
        lost[at] = drawn[at] < (stay if lost[at - 1] else begin)
    return lost


def _concealed(line: NDArray[np.float64], lost: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Replace each lost packet by the one before it at half its level, the simplest concealment of telephones."""
    concealed = line.copy()
    for at in np.flatnonzero(lost):
        packet = concealed[at * _PACKET : (at + 1) * _PACKET]
        packet[:] = concealed[(at - 1) * _PACKET : (at - 1) * _PACKET + packet.size] / 2
    return concealed
