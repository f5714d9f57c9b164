"""What is heard is what was recorded, in any format, and cut and written as it is asked."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made import Samples, likeness, noise, resampled, save, save_av, silence, sine, speech

from e2vsearch import audio, errors
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.pipeline import embed_audio

STEREO = np.stack([speech(6.0), sine(6.0, 300.0)])


def lag(heard: Samples, made: Samples) -> int:
    """Samples by which one channel comes later than it was made."""
    size = 1 << (heard.size + made.size).bit_length()
    product = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(made, size)), size)
    at = int(np.argmax(product))
    return at if at < size // 2 else at - size


SNDFILE = [
    # name, rate, subtype, format, most that a sample may differ after a round trip
    ("a.wav", 16_000, "PCM_16", None, 2**-15),
    ("a.wav", 16_000, "PCM_U8", None, 2**-7),
    ("a.wav", 16_000, "PCM_24", None, 2**-22),
    ("a.wav", 16_000, "PCM_32", None, 1e-6),
    ("a.wav", 16_000, "FLOAT", None, 0.0),
    ("a.wav", 16_000, "DOUBLE", None, 0.0),
    ("a.wav", 16_000, "ULAW", None, 0.02),
    ("a.wav", 16_000, "ALAW", None, 0.02),
    ("a.wav", 8_000, "ULAW", None, None),
    ("a.wav", 11_025, "PCM_16", None, None),
    ("a.wav", 44_100, "PCM_24", None, None),
    ("a.wav", 48_000, "FLOAT", None, None),
    ("a.wav", 16_000, "IMA_ADPCM", None, None),
    ("a.flac", 16_000, "PCM_16", None, 2**-15),
    ("a.flac", 22_050, "PCM_24", None, None),
    ("a.ogg", 16_000, "VORBIS", None, None),
    ("a.opus", 48_000, "OPUS", "OGG", None),
    ("a.mp3", 16_000, "MPEG_LAYER_III", None, None),
    ("a.mp3", 44_100, "MPEG_LAYER_III", None, None),
    ("a.aiff", 16_000, "PCM_16", None, 2**-15),
    ("a.au", 8_000, "ULAW", None, None),
    ("a.caf", 16_000, "PCM_16", None, 2**-15),
    ("a.w64", 16_000, "PCM_16", None, 2**-15),
    ("a.rf64", 16_000, "PCM_16", "RF64", 2**-15),
]


@pytest.mark.parametrize(("name", "rate", "subtype", "format_", "tolerance"), SNDFILE)
def test_reads_what_libsndfile_wrote(
    tmp_path: Path, name: str, rate: int, subtype: str, format_: str | None, tolerance: float | None
) -> None:
    path = save(tmp_path / name, resampled(STEREO, rate), rate, subtype=subtype, format=format_)
    info = audio.probe(path)
    heard = audio.read(path)
    assert (info.channels, info.sampling_rate_hz) == (2, rate)
    assert info.duration_s == pytest.approx(6.0, abs=0.04)
    assert heard.dtype == np.float32
    assert heard.flags.c_contiguous
    assert abs(heard.shape[1] - 96_000) <= (1100 if subtype == "IMA_ADPCM" else 0)  # ADPCM fills its last block
    for channel in (0, 1):
        assert lag(heard[channel], STEREO[channel]) == 0
        assert likeness(heard[channel], STEREO[channel]) > 0.98
    if tolerance is not None:
        assert np.abs(heard - STEREO).max() <= tolerance


FFMPEG = [
    # name, codec, rate, delay that the container does not declare (16 kHz samples)
    ("a.m4a", "aac", 44_100, 0),
    ("a.mp4", "aac", 16_000, 0),
    ("a.webm", "libopus", 48_000, 0),
    ("a.mka", "flac", 16_000, 0),
    ("a.mov", "pcm_s16le", 44_100, 0),
    ("a.wv", "wavpack", 16_000, 0),
    ("a.aac", "aac", 16_000, 1024),
    ("a.amr", "libopencore_amrnb", 8_000, None),
    ("a.3gp", "libopencore_amrnb", 8_000, None),
    ("a.wav", "g722", 16_000, None),
]


def made_with_ffmpeg(folder: Path, name: str, codec: str, rate: int) -> Path:
    import av

    try:
        av.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this FFmpeg cannot write {codec}")
    signal = STEREO[:1] if codec in ("g722", "libopencore_amrnb") else STEREO
    return save_av(folder / name, resampled(signal, rate), codec, rate, picture=name == "a.mp4")


@pytest.mark.parametrize(("name", "codec", "rate", "delay"), FFMPEG)
def test_reads_what_ffmpeg_wrote(tmp_path: Path, name: str, codec: str, rate: int, delay: int | None) -> None:
    path = made_with_ffmpeg(tmp_path, name, codec, rate)
    heard = audio.read(path)
    info = audio.probe(path)
    assert (info.channels, info.sampling_rate_hz) == (len(heard), rate)
    assert heard.shape[1] == pytest.approx(96_000, abs=1500)
    assert np.array_equal(audio.read(path.read_bytes()), heard)
    if delay is None:  # speech codecs keep no waveform: where it is loud is all there is to compare
        loud = [np.abs(x[: 94 * 1000].reshape(94, 1000)).mean(axis=1) for x in (heard[0], STEREO[0])]
        assert likeness(*loud) > 0.9
    else:
        assert lag(heard[0], STEREO[0]) == delay
        assert likeness(heard[1, delay:], STEREO[1]) > 0.98


def test_format_names_container_and_codec(tmp_path: Path) -> None:
    assert audio.probe(save(tmp_path / "a.wav", sine(1), 8000, "ULAW")).format == "WAV ULAW"
    assert audio.probe(save_av(tmp_path / "a.m4a", sine(1), "aac")).format == "mov,mp4 aac"
    assert audio.probe(sine(1)).format == "array float32"


def test_16_khz_pcm_comes_back_bit_for_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(-32_768, 32_768, (2, 40_000), np.int16)
    path = tmp_path / "a.wav"
    audio.write(path, values)
    heard = audio.read(path)
    assert np.array_equal(heard * 32_768, values)
    for name in ("b.wav", "b.flac"):
        audio.write(tmp_path / name, heard)
        assert np.array_equal(audio.read(tmp_path / name), heard)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("block_s", [0.01, 1.0, 2.345, 60.0])
def test_stream_is_read_cut_into_blocks(tmp_path: Path, rate: int, block_s: float) -> None:
    path = save(tmp_path / "a.flac", resampled(STEREO, rate), rate)
    blocks = list(audio.stream(path, block_s=block_s))
    assert all(block.shape[1] == round(block_s * 16_000) for block in blocks[:-1])
    assert np.array_equal(np.concatenate(blocks, axis=1), audio.read(path))


def test_both_decoders_share_one_filter(tmp_path: Path) -> None:
    low = resampled(STEREO, 8_000)
    wav, mov = save(tmp_path / "a.wav", low, 8_000), save_av(tmp_path / "a.mov", low, "pcm_s16le", 8_000)
    assert audio.probe(wav).format != audio.probe(mov).format
    # the writers round differently by one 16-bit step
    assert np.abs(audio.read(wav) - audio.read(mov)).max() < 3 * 2**-15


def test_channels_stay_apart(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", np.stack([resampled(sine(2), 8000), silence(2, 8000)]), 8_000)
    heard = audio.read(path)
    assert np.abs(heard[0]).max() > 0.2
    assert np.abs(heard[1]).max() == 0


# ------------------------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    ("dtype", "scale", "offset"),
    [("float32", 1, 0), ("float64", 1, 0), ("int16", 2**15, 0), ("int32", 2**31, 0), ("uint8", 2**7, 128)],
)
def test_arrays_of_every_audio_dtype(dtype: str, scale: float, offset: int) -> None:
    signal = np.array([[0.0, 0.5, -0.5, -1.0, 0.25]])
    assert np.array_equal(audio.read((signal * scale + offset).astype(dtype)), signal.astype(np.float32))


def test_arrays_have_one_or_two_axes_and_a_rate() -> None:
    signal = sine(1.0, rate_hz=8000)
    assert audio.read(signal, sampling_rate_hz=8000).shape == (1, 16_000)
    assert audio.read(signal).shape == (1, 8_000)
    assert audio.probe(np.stack([signal, signal]), sampling_rate_hz=8000).duration_s == 1.0
    strided = np.stack([signal, signal], axis=1).T
    assert audio.read(strided).shape == (2, 8_000)


@pytest.mark.parametrize(
    ("array", "error", "says"),
    [
        (np.zeros((16_000, 2), np.float32), "AudioInvalid", "array.T"),
        (np.zeros((1, 2, 3), np.float32), "AudioInvalid", "(1, 2, 3)"),
        (np.array(1.0), "AudioInvalid", "(samples,)"),
        (np.zeros(10, np.int64), "AudioInvalid", "int64"),
        (np.zeros(10, np.complex64), "AudioInvalid", "complex64"),
        (np.zeros((2, 0), np.float32), "AudioEmpty", "no samples"),
        (np.array([0.0, np.nan]), "AudioInvalid", "NaN"),
        (np.array([0.0, np.inf]), "AudioInvalid", "infinite"),
    ],
)
def test_arrays_that_are_no_audio(array: np.ndarray, error: str, says: str) -> None:
    with pytest.raises(getattr(errors, error)) as caught:
        audio.read(array)
    assert says in str(caught.value)


def test_a_file_states_its_own_rate(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", sine(1))
    with pytest.raises(errors.AudioInvalid, match="for arrays"):
        audio.read(path, sampling_rate_hz=8000)


# -------------------------------------------------------------------------------------------------- cut, peaks, write


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.wav", None, 8_000),
        ("a.wav", None, 16_000),
        ("a.flac", None, 44_100),
        ("a.ogg", None, 11_025),
        ("a.mp3", None, 44_100),
        ("a.webm", "libopus", 48_000),
        ("a.m4a", "aac", 44_100),
    ],
)
@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 0.5), (3.1, 4.35), (5.5, 60.0)])
def test_cut_is_a_slice_of_read(
    tmp_path: Path, name: str, codec: str | None, rate: int, start_s: float, end_s: float
) -> None:
    signal = resampled(STEREO, rate)
    path = save_av(tmp_path / name, signal, codec, rate) if codec else save(tmp_path / name, signal, rate)
    wanted = audio.read(path)[:, round(start_s * 16_000) : round(end_s * 16_000)]
    heard = audio.cut(path, start_s, end_s)
    assert heard.shape == wanted.shape
    if codec == "aac":  # its noise substitution is random, so only close
        assert lag(heard[0], wanted[0]) == 0
        assert likeness(heard[0], wanted[0]) > 0.99
    else:
        assert np.abs(heard - wanted).max() < 1e-4
    assert np.array_equal(audio.cut(path, start_s, end_s, channel=1).shape, (1, wanted.shape[1]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.wav", "a.webm"])
def test_cut_far_into_a_recording_decodes_little(tmp_path: Path, name: str) -> None:
    signal = np.concatenate([noise(240.0, rate_hz=48_000), sine(2.0, rate_hz=48_000)])
    path = tmp_path / name
    _ = save_av(path, signal, "libopus", 48_000) if name == "a.webm" else save(path, signal, 48_000)
    heard = audio.cut(path, 240.5, 241.5)
    assert heard.shape == (1, 16_000)
    assert likeness(heard[0], sine(1.0)) ** 2 + likeness(heard[0], np.roll(sine(1.0), 9)) ** 2 > 0.5


@pytest.mark.parametrize(
    ("start_s", "end_s", "channel", "error"),
    [
        (2.0, 1.0, None, "SettingsError"),
        (-1.0, 1.0, None, "SettingsError"),
        (0.0, float("nan"), None, "SettingsError"),
        (0.0, 1.0, 2, "SettingsError"),
        (7.0, 8.0, None, "AudioEmpty"),
    ],
)
def test_cuts_that_make_no_sense(start_s: float, end_s: float, channel: int | None, error: str) -> None:
    with pytest.raises(getattr(errors, error)):
        audio.cut(STEREO, start_s, end_s, channel=channel)


def test_peaks_are_the_largest_magnitudes() -> None:
    signal = np.zeros((2, 1000), np.float32)
    signal[0, 505], signal[1, 999] = -0.7, 0.3
    drawn = audio.peaks(signal, 10)
    assert drawn.shape == (2, 10)
    assert drawn[0].tolist() == pytest.approx([0, 0, 0, 0, 0, 0.7, 0, 0, 0, 0])
    assert drawn[1, 9] == pytest.approx(0.3)
    assert audio.peaks(signal[:, :3], 7).shape == (2, 7)
    assert audio.peaks(signal[:, :0], 7).shape == (2, 7)
    with pytest.raises(errors.SettingsError):
        audio.peaks(signal, 0)


def test_write_clips_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    audio.write(path, np.zeros(10, np.float32))
    audio.write(path, np.array([[2.0, -2.0, 0.5]], np.float32))
    assert audio.read(path).tolist() == [[32_767 / 32_768, -1.0, 0.5]]
    assert [each.name for each in tmp_path.iterdir()] == ["a.wav"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o400


@pytest.mark.parametrize(
    ("name", "signal", "error"),
    [
        ("a.mp3", np.zeros(10, np.float32), "AudioError"),
        ("none/a.wav", np.zeros(10, np.float32), "AudioError"),
        ("a.wav", np.full(10, np.nan, np.float32), "AudioInvalid"),
        ("a.wav", np.zeros((100, 2), np.float32), "AudioInvalid"),
        ("a.flac", np.zeros((9, 100), np.float32), "AudioError"),  # FLAC holds 8 channels
    ],
)
def test_writes_that_cannot_be(tmp_path: Path, name: str, signal: Samples, error: str) -> None:
    with pytest.raises(getattr(errors, error)) as caught:
        audio.write(tmp_path / name, signal)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_bad_block_lengths() -> None:
    with pytest.raises(errors.SettingsError):
        next(audio.stream(STEREO, block_s=0))


def test_suffixes_are_lower_case_with_a_dot() -> None:
    assert {".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".mp4", ".amr", ".webm", ".3gp"} <= audio.AUDIO_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in audio.AUDIO_SUFFIXES)


# ------------------------------------------------------------------------------------------------------------- memory

GROWTH = """
import resource, sys
from e2vsearch import audio
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.pipeline import embed_audio
next(audio.stream(sys.argv[1], block_s=5.0)).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
seconds = sum(block.shape[1] for block in audio.stream(sys.argv[1])) / 16_000
print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory in Linux's units")
@pytest.mark.parametrize("name", ["a.flac", "a.mov"])
def test_a_long_recording_streams_in_little_memory(tmp_path: Path, name: str) -> None:
    twelve_minutes = np.tile(resampled(STEREO, 8000), 120)
    path = tmp_path / name
    _ = save(path, twelve_minutes, 8000) if name == "a.flac" else save_av(path, twelve_minutes, "pcm_s16le", 8000)
    out = subprocess.run([sys.executable, "-c", GROWTH, path], capture_output=True, text=True, check=True).stdout
    seconds, growth_mb = map(float, out.split())
    assert seconds == pytest.approx(720, abs=1)
    assert growth_mb < 40  # read() takes 92


def test_importing_is_light() -> None:
    code = (
        "import sys, e2vsearch.audio, e2vsearch.speech\n"
        "assert not {'soundfile', 'av', 'soxr', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", ["a.wav", "a.m4a", "bytes", "array"])
def test_an_open_source_has_its_info_and_its_blocks(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    signal = sine(3.0)
    path = save_av(tmp_path / kind, signal, "aac") if kind == "a.m4a" else save(tmp_path / "a.wav", signal)
    source = {"bytes": path.read_bytes(), "array": signal}.get(kind, path)
    expected = audio.read(source)  # type: ignore[arg-type]
    openings = []
    opened = audio.opened  # type: ignore[attr-defined]
    monkeypatch.setattr(audio, "opened", lambda each: openings.append(each) or opened(each))  # type: ignore[func-returns-value]
    with audio.open(source) as found:  # type: ignore[arg-type]
        blocks = list(found.blocks(block_s=0.7))
    assert np.array_equal(np.concatenate(blocks, axis=1), expected)
    assert len(openings) == (kind != "array")
    assert found.info == audio.probe(source)  # type: ignore[arg-type]
    openings.clear()
    found_audio = embed_audio(source, FakeEncoder())  # type: ignore[arg-type]
    assert len(openings) == (kind != "array")
    assert found_audio.duration_s == pytest.approx(expected.shape[1] / 16_000)
