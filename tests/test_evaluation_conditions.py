"""Telephone copies: the law against libsndfile, band, noise and lost packets as they were asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made import silence, sine, speech

from e2vsearch.analysis.evaluation import telephone


def test_mu_law_is_that_of_libsndfile(tmp_path: Path) -> None:
    import soundfile

    samples = (np.arange(-32_768, 32_768, dtype=np.int32) / 32_768).astype(np.float64)
    soundfile.write(tmp_path / "law.wav", (samples * 32_768).astype(np.int16), 8_000, subtype="ULAW")
    theirs, _ = soundfile.read(tmp_path / "law.wav", dtype="float64")
    ours = telephone.mu_law(samples)
    assert len(np.unique(ours)) == 255  # of 256 codes two are zero
    assert (ours == theirs).all()
    assert telephone.mu_law(ours) == pytest.approx(ours)


def test_telephone_copies_keep_the_band_and_the_length() -> None:
    rng = np.random.default_rng
    quiet = telephone.TelephoneOptions(snr_db=(60, 60), loss=(0, 0))
    tones = sine(2.0, 100) + sine(2.0, 1000) + sine(2.0, 3800) + sine(2.0, 6000)
    copy = telephone.telephone(tones, rng(0), quiet)
    assert copy.shape == tones.shape
    assert copy.dtype == np.float32
    power = np.abs(np.fft.rfft(copy)) ** 2
    at = {hz: power[hz * 2 - 4 : hz * 2 + 5].sum() for hz in (100, 1000, 3800, 6000)}
    assert all(at[hz] < 1e-3 * at[1000] for hz in (100, 3800, 6000))
    spoken = speech(2.0)
    assert (telephone.telephone(spoken, rng(1)) == telephone.telephone(spoken, rng(1))).all()
    assert (telephone.telephone(spoken, rng(1)) != telephone.telephone(spoken, rng(2))).any()
    assert not telephone.telephone(silence(1.0), rng(0)).any()
    for samples in (1, 399, 16_001):
        assert telephone.telephone(sine(2.0)[:samples], rng(0)).shape == (samples,)


@pytest.mark.parametrize("snr_db", [5.0, 15.0, 25.0])
def test_noise_is_at_the_level_that_was_drawn(snr_db: float) -> None:
    options = telephone.TelephoneOptions(snr_db=(snr_db, snr_db), level_db=(-20, -20), loss=(0, 0))
    copy = telephone.telephone(sine(4.0, 1000), np.random.default_rng(3), options)[8_000:-8_000]
    power = np.abs(np.fft.rfft(copy * np.hanning(copy.size))) ** 2
    tone = power[np.abs(np.fft.rfftfreq(copy.size, 1 / 16_000) - 1000) < 5].sum()
    assert 10 * np.log10(tone / (power.sum() - tone)) == pytest.approx(snr_db, abs=1.0)


def test_packets_are_lost_in_bursts_and_concealed() -> None:
    lost = telephone._losses(200_000, 0.05, 2.0, np.random.default_rng(0))
    assert lost.mean() == pytest.approx(0.05, abs=0.004)
    starts = (lost[1:] & ~lost[:-1]).sum()
    assert lost.sum() / starts == pytest.approx(2.0, abs=0.1)
    line = np.ones(480)
    heard = telephone._concealed(line, np.array([False, True, True]))
    assert heard.reshape(3, 160)[:, 0].tolist() == [1.0, 0.5, 0.25]
    assert line.all()
