from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from e2vsearch.encoders import mel

RATE_HZ = 16_000


def sine(hz: float, seconds: float = 1.0, amplitude: float = 0.5) -> NDArray[np.float32]:
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return (amplitude * np.sin(2 * np.pi * hz * time)).astype(np.float32)


@pytest.mark.parametrize("samples", [400, 401, 559, 560, 16_000, 480_000])
def test_one_frame_every_ten_milliseconds(samples: int) -> None:
    picture = mel.log_mel(np.random.default_rng(0).standard_normal(samples).astype(np.float32))
    assert picture.shape == (80, samples // 160)
    assert picture.dtype == np.float32
    assert picture.flags.c_contiguous


def test_bands_are_slaney_triangles_of_unit_area() -> None:
    filters = mel._filters()
    # known from librosa.filters.mel(sr=16000, n_fft=400, n_mels=80), which Whisper ships as mel_filters.npz
    assert filters[0, 1] == pytest.approx(0.02486259, abs=1e-7)
    wide = filters[60:].sum(axis=1) * (RATE_HZ / 400)  # enough bins for the sum to stand for the area
    assert wide == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("hz", [200, 440, 1000, 2500, 7000])
def test_a_sine_is_loudest_in_its_own_band(hz: float) -> None:
    loudest = int(mel.log_mel(sine(hz)).mean(axis=1).argmax())
    nearest = int(np.abs(mel.centres_hz() - hz).argmin())
    assert abs(loudest - nearest) <= 1


@pytest.mark.parametrize("frame", [0, 7, 63, 64, 127, 128, 149])  # 64 are made at once
def test_one_frame_equals_the_slow_way(frame: int) -> None:
    signal = np.random.default_rng(1).standard_normal(24_000).astype(np.float32)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    stretch = np.pad(signal.astype(np.float64), 200, mode="reflect")[frame * 160 : frame * 160 + 400] * window
    dft = np.exp(-2j * np.pi * np.outer(np.arange(201), np.arange(400)) / 400) @ stretch
    slow = (np.log10(mel._filters() @ np.abs(dft) ** 2) + 4) / 4
    assert mel.log_mel(signal)[:, frame] == pytest.approx(slow, abs=1e-5)


def test_quiet_cells_are_cut_eight_decades_below_the_loudest() -> None:
    picture = mel.log_mel(sine(1000, amplitude=0.9))
    assert picture.max() - picture.min() == pytest.approx(2.0, abs=1e-6)  # 8 decades, divided by 4


def test_gain_shifts_the_picture() -> None:
    noise = 0.1 * np.random.default_rng(2).standard_normal(16_000).astype(np.float32)
    shift = mel.log_mel(noise) - mel.log_mel(noise / 10)  # type: ignore[arg-type, operator]
    assert shift == pytest.approx(0.5, abs=1e-4)  # 20 dB: two decades, divided by 4


def test_the_speech_level_is_that_of_what_is_no_pause() -> None:
    spoken = 0.1 * np.random.default_rng(4).standard_normal(16_000).astype(np.float32)
    with_pause = np.concatenate([spoken, np.zeros(48_000, np.float32)])
    level = mel.speech_level(mel.decades(spoken))
    assert mel.speech_level(mel.decades(with_pause)) == pytest.approx(level, abs=0.02)
    assert mel.speech_level(mel.decades(10 * spoken)) == pytest.approx(level + 2, abs=1e-3)


def test_silence_is_finite_and_flat() -> None:
    picture = mel.log_mel(np.zeros(1600, np.float32))
    assert np.ptp(picture) == 0
    assert picture[0, 0] == pytest.approx(-1.5)


def test_bits_do_not_depend_on_where_the_signal_lies_in_memory() -> None:
    signal = np.random.default_rng(3).standard_normal(20_000).astype(np.float32)
    shifted = np.concatenate([np.zeros(3, np.float32), signal])[3:]
    assert (mel.log_mel(signal) == mel.log_mel(shifted)).all()


def test_nothing_above_the_ceiling_is_seen() -> None:
    low, high = sine(1000, amplitude=0.1), sine(6000, amplitude=0.9)
    capped = mel.log_mel(low + high, ceiling_hz=4000.0)
    deaf = mel.centres_hz() > 4000.0
    assert np.ptp(capped[deaf]) == 0
    assert capped[deaf].min() == capped.min()
    # the loud sine does not even raise the floor, except for what its window leaks
    inner = slice(2, -2)  # at the ends the mirrored sine has a kink, which is heard everywhere
    assert capped[~deaf, inner] == pytest.approx(mel.log_mel(low, ceiling_hz=4000.0)[~deaf, inner], abs=0.6)
