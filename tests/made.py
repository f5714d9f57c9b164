"""Made audio for every test: nothing here was recorded, so nothing has to be stored or licensed.

`speech` is a glottal pulse train through three formant resonators, a new vowel and a burst of noise every syllable.
It says nothing, but Silero's VAD takes it for a voice: 92-99 % of its windows at the seeds and pitches used in tests.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
VOWELS_HZ = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))
"""First three formants of five English vowels (Peterson and Barney, 1952, men)."""

Samples = NDArray[np.float32]


# ---------------------------------------------------------------------------------------------------------- signals


def sine(seconds: float, hz: float = 440.0, level: float = 0.3, rate_hz: int = RATE_HZ) -> Samples:
    """A steady tone, ``(samples,)``."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return (level * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def noise(seconds: float, level: float = 0.05, seed: int = 0, rate_hz: int = RATE_HZ) -> Samples:
    """White noise of that standard deviation, ``(samples,)``."""
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * rate_hz))).astype(np.float32)


def silence(seconds: float, rate_hz: int = RATE_HZ) -> Samples:
    """Digital silence, ``(samples,)``."""
    return np.zeros(round(seconds * rate_hz), np.float32)


def music(seconds: float, level: float = 0.2, rate_hz: int = RATE_HZ) -> Samples:
    """Hold music without a voice: a slow arpeggio of plucked, decaying harmonics over sustained chords."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    roots = np.array([261.6, 220.0, 174.6, 196.0])[(t // 2.0).astype(int) % 4]
    step = np.array([1.0, 1.25, 1.5, 2.0])[(t // 0.5).astype(int) % 4]
    phase = 2 * np.pi * np.cumsum(roots) / rate_hz
    melody = 2 * np.pi * np.cumsum(roots * step) / rate_hz
    chord = np.sin(phase[:, None] * [1.0, 1.25, 1.5]).sum(axis=1)
    pluck = np.exp(-3 * (t % 0.5)) * (np.sin(melody[:, None] * [1, 2, 3, 4]) / [1, 2, 3, 4]).sum(axis=1)
    both = chord / 3 + pluck
    scaled: Samples = (level * both / np.abs(both).max()).astype(np.float32)
    return scaled


def speech(
    seconds: float,
    *,
    seed: int = 0,
    pitch_hz: float = 120.0,
    syllables_hz: float = 4.0,
    level: float = 0.3,
    rate_hz: int = RATE_HZ,
) -> Samples:
    """Something that Silero takes for a voice, ``(samples,)``; the same seed gives the same samples.

    Args:
        seconds: how long.
        seed: which syllables.
        pitch_hz: mean pitch; 110-130 is taken for a voice most surely, 240 least.
        syllables_hz: syllables a second.
        level: peak.
        rate_hz: sampling rate of what comes back.
    """
    rng = np.random.default_rng(seed)
    wanted = round(seconds * RATE_HZ)
    parts: list[NDArray[np.float64]] = []
    made = 0
    while made < wanted:
        n = int(rng.uniform(0.75, 1.25) / syllables_hz * RATE_HZ)
        t = np.arange(n) / n
        pitch = pitch_hz * (1 + 0.15 * np.sin(2 * np.pi * made / RATE_HZ / 2.3) + 0.08 * (0.5 - t))
        opening = (np.cumsum(pitch) / RATE_HZ % 1) / 0.6  # glottis open for 0.6 of each period
        pulse = np.where(opening < 1, opening**2 * (3 - 2 * opening) * (1 - opening), 0.0)
        voice = np.diff(pulse, prepend=0.0) + 0.002 * rng.standard_normal(n)
        for formant_hz, width_hz in zip(VOWELS_HZ[rng.integers(len(VOWELS_HZ))], (80, 100, 140), strict=True):
            voice = _resonate(voice, formant_hz, width_hz)
        voice *= np.sin(np.pi * np.clip((t - 0.2) / 0.8, 0, 1)) ** 0.6 / (np.abs(voice).max() + 1e-9)
        onset = n // 5
        voice[:onset] += 0.12 * rng.standard_normal(onset) * np.hanning(onset)
        parts.append(voice)
        made += n
    signal = np.concatenate(parts)[:wanted] if parts else np.zeros(0)
    scaled: Samples = (level * signal / max(float(np.abs(signal).max(initial=0.0)), 1e-9)).astype(np.float32)
    return scaled if rate_hz == RATE_HZ else resampled(scaled, rate_hz)


def _resonate(signal: NDArray[np.float64], centre_hz: float, width_hz: float) -> NDArray[np.float64]:
    radius, omega = np.exp(-np.pi * width_hz / RATE_HZ), 2 * np.pi * centre_hz / RATE_HZ
    k = np.arange(1024)
    response = radius**k * np.sin(omega * (k + 1)) / np.sin(omega)
    size = 1 << (signal.size + k.size).bit_length()
    return np.fft.irfft(np.fft.rfft(signal, size) * np.fft.rfft(response, size), size)[: signal.size]


def call(turns_s: list[tuple[int, float, float]], seconds: float, *, hiss: float = 0.001) -> Samples:
    """A two-channel recording, ``(2, samples)``: speech where ``(channel, start_s, end_s)`` says so, faint hiss else.

    Channel 0 speaks at 120 Hz, channel 1 at 200 Hz.
    """
    signal = np.stack([noise(seconds, hiss, seed=90 + channel) for channel in (0, 1)])
    for index, (channel, start_s, end_s) in enumerate(turns_s):
        start = round(start_s * RATE_HZ)
        spoken = speech(end_s - start_s, seed=index, pitch_hz=(120.0, 200.0)[channel])
        signal[channel, start : start + spoken.size] += spoken
    return signal


def resampled(signal: Samples, rate_hz: int) -> Samples:
    """16 kHz ``(samples,)`` or ``(channels, samples)`` at another rate."""
    import soxr

    out: Samples = np.ascontiguousarray(np.asarray(soxr.resample(signal.T, RATE_HZ, rate_hz)).T)
    return out


# ------------------------------------------------------------------------------------------------------------ files


def save(path: Path, signal: Samples, rate_hz: int = RATE_HZ, subtype: str | None = None, **options: Any) -> Path:
    """Writes WAV, FLAC, OGG, MP3 … through libsndfile; `signal` is ``(samples,)`` or ``(channels, samples)``."""
    import soundfile

    soundfile.write(path, signal.T, rate_hz, subtype=subtype, **options)
    return path


def save_av(
    path: Path,
    signal: Samples,
    codec: str,
    rate_hz: int = RATE_HZ,
    *,
    container: str | None = None,
    options: dict[str, str] | None = None,
    picture: bool = False,
) -> Path:
    """Writes M4A, WebM, AMR, MP4 … through FFmpeg.

    Args:
        path: where; its suffix chooses the container unless `container` names one.
        signal: ``(samples,)`` or ``(channels, samples)`` float32; no samples at all gives no sound track.
        codec: FFmpeg's name of an encoder (``aac``, ``libopus``, ``libopencore_amrnb`` …).
        rate_hz: rate of `signal` and of the file.
        container: FFmpeg's name of a muxer.
        options: muxer options, such as ``{"movflags": "faststart"}``.
        picture: adds a video track of two seconds.
    """
    import av

    planes = np.atleast_2d(signal)
    with av.open(str(path), "w", format=container, options=options or {}) as file:
        video = file.add_stream("mpeg4", rate=10) if picture else None
        if video is not None:
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        stream: Any = None
        if planes.size:
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[planes.shape[0]]
            stream = file.add_stream(codec, rate=rate_hz, layout=layout)
        for index in range(20 if video is not None else 0):
            picture_frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), index * 12, np.uint8), format="rgb24")
            file.mux(video.encode(picture_frame))  # type: ignore[union-attr]
        if video is not None:
            file.mux(video.encode(None))
        if stream is not None:
            size = stream.codec_context.frame_size or 1024
            resampler = av.AudioResampler(format=stream.codec_context.format.name, layout=layout, rate=rate_hz)
            for at in range(0, planes.shape[1], size):
                samples = np.ascontiguousarray(planes[:, at : at + size])
                frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
                frame.sample_rate = rate_hz
                frame.pts, frame.time_base = at, Fraction(1, rate_hz)  # else the file states no encoder delay
                for piece in resampler.resample(frame):
                    file.mux(stream.encode(piece))
            file.mux(stream.encode(None))
    return path


def wav_bytes(signal: Samples, rate_hz: int = RATE_HZ, subtype: str = "PCM_16") -> bytes:
    """A WAV file in memory."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, signal.T, rate_hz, format="WAV", subtype=subtype)
    return buffer.getvalue()


def png_bytes() -> bytes:
    """A one-pixel picture."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


# ---------------------------------------------------------------------------------------------------------- damaged


def _head(path: Path, share: float = 0.6) -> Path:
    """Keeps the first part of a file, as an interrupted copy does."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def _ogg_without_its_last_page(path: Path) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"OggS")])
    return path


def _poisoned(folder: Path, value: float) -> Path:
    signal = sine(2.0)
    signal[24_000] = value
    return save(folder / f"{value}.wav", signal, subtype="FLOAT")


def _bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


TEXT = b"Dear customer, your call is important to us.\n" * 50
PLAYLIST = b"#EXTM3U\n#EXTINF:3,\nsecret.aac\n#EXT-X-ENDLIST\n"
FLAC_HEADER = b"fLaC\x80\0\0\x22" + bytes.fromhex("1000 1000 000000 000000 03e800f0 00000000") + bytes(16)
"""A STREAMINFO block (RFC 9639, section 8.2) of 16 kHz mono 16-bit and an unknown number of samples; no frames."""

DAMAGED: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "empty": ("AudioEmpty", lambda f: _bytes(f / "empty.wav", b"")),
    "wav-header-only": ("AudioEmpty", lambda f: _bytes(f / "header.wav", wav_bytes(silence(0)))),
    "flac-header-only": ("AudioEmpty", lambda f: _bytes(f / "header.flac", FLAC_HEADER)),
    "wav-cut": ("AudioTruncated", lambda f: _head(save(f / "cut.wav", speech(3)))),
    "w64-cut": ("AudioTruncated", lambda f: _head(save(f / "cut.w64", speech(3)))),
    "rf64-cut": ("AudioTruncated", lambda f: _head(save(f / "cut.rf64", speech(3), format="RF64"))),
    "aiff-cut": ("AudioTruncated", lambda f: _head(save(f / "cut.aiff", speech(3)))),
    "flac-cut": ("AudioTruncated", lambda f: _head(save(f / "cut.flac", speech(3)))),
    "vorbis-cut": ("AudioTruncated", lambda f: _head(save(f / "cut.ogg", speech(9), 48_000), 0.7)),
    "opus-cut": ("AudioTruncated", lambda f: _head(save(f / "cut.opus", speech(9), format="OGG", subtype="OPUS"), 0.7)),
    "vorbis-no-end": ("AudioTruncated", lambda f: _ogg_without_its_last_page(save(f / "end.ogg", speech(9), 48_000))),
    "mp3-cut": ("AudioTruncated", lambda f: _head(save(f / "cut.mp3", speech(6)))),
    "m4a-no-moov": ("AudioTruncated", lambda f: _head(save_av(f / "moov.m4a", speech(6), "aac"))),
    "m4a-short-mdat": (
        "AudioTruncated",
        lambda f: _head(save_av(f / "mdat.m4a", speech(6), "aac", options={"movflags": "faststart"})),
    ),
    "webm-cut": ("AudioTruncated", lambda f: _head(save_av(f / "cut.webm", speech(6), "libopus"))),
    "nan": ("AudioInvalid", lambda f: _poisoned(f, float("nan"))),
    "inf": ("AudioInvalid", lambda f: _poisoned(f, float("inf"))),
    "text-as-wav": (
        "AudioUnreadable",
        lambda f: _bytes(f / "text.wav", b"Dear customer, your call is important.\n" * 50),
    ),
    "text-as-mp3": (
        "AudioUnreadable",
        lambda f: _bytes(f / "text.mp3", b"Dear customer, your call is important.\n" * 50),
    ),
    "png-as-wav": ("AudioUnreadable", lambda f: _bytes(f / "picture.wav", png_bytes())),
    "pdf": ("AudioUnreadable", lambda f: _bytes(f / "paper.pdf", b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n%%EOF\n" * 20)),
    "zeros-as-wav": ("AudioUnreadable", lambda f: _bytes(f / "zeros.wav", bytes(5000))),
    "playlist": (
        "AudioUnreadable",
        lambda f: _bytes(f / "list.m3u8", b"#EXTM3U\n#EXTINF:3,\nsecret.aac\n#EXT-X-ENDLIST\n"),
    ),
    "silent-film": ("AudioUnreadable", lambda f: save_av(f / "film.mp4", silence(0), "aac", picture=True)),
}
"""Kind of damage: the error class it must raise, and a maker that writes such a file into a folder."""


def damaged(kind: str, folder: Path) -> Path:
    """A file with that damage (see `DAMAGED`), written into `folder`."""
    return DAMAGED[kind][1](folder)


def likeness(heard: Samples, made: Samples) -> float:
    """The correlation of two channels over what both have of them: 1 if one is a multiple of the other."""
    size = min(heard.size, made.size)
    return float(np.corrcoef(heard[:size], made[:size])[0, 1])
