"""Audio files, bytes and arrays are read as float32 ``(channels, samples)`` at 16 kHz.

All audio in e2vsearch comes through here, so shapes and units are fixed here once. Channels stay apart: the
agent and the customer feel different things. PCM that is at 16 kHz already comes back bit for bit; any other rate goes
through one filter (soxr, HQ), whatever decoded it.

A time is counted from the first decoded sample: ``start_s * 16_000`` is an index into what `read` returns. It is not
the clock of a video container, whose sound may begin later than its picture, and encoder padding that the file
declares (AAC, MP3, Opus) is taken off first, as every player does.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.audio.decode import AudioInfo, module_for
from e2vsearch.audio.pool import POOL, open_decoder
from e2vsearch.audio.sources import ARRAY_NAME, BYTES_NAME, RangedAudio, floats, opened, planes
from e2vsearch.errors import AudioEmpty, AudioError, AudioInvalid, SettingsError
from e2vsearch.files import atomic_write

__all__ = [
    "AUDIO_SUFFIXES",
    "SAMPLING_RATE_HZ",
    "AudioInfo",
    "AudioSource",
    "OpenAudio",
    "RangedAudio",
    "Signal",
    "cut",
    "encode",
    "open",
    "peaks",
    "prepare",
    "probe",
    "read",
    "stream",
    "write",
]

SAMPLING_RATE_HZ = 16_000
"""The only rate after this room: what emotion2vec, Whisper and Silero take."""

AUDIO_SUFFIXES = frozenset(
    ".3g2 .3gp .aac .aif .aifc .aiff .amr .au .awb .caf .flac .flv .gsm .m4a .m4b .m4v .mka .mkv .mov "  # noqa: SIM905
    ".mp2 .mp3 .mp4 .mpeg .mpg .mpga .oga .ogg .ogv .opus .rf64 .snd .spx .w64 .wav .wave .webm .wma .wmv .wv".split()
)
"""What a walk through a folder takes for audio, lower case."""

Signal = NDArray[np.float32]
"""``(channels, samples)`` at 16 kHz, full scale 1.0."""

AudioSource = str | os.PathLike[str] | bytes | NDArray[Any] | RangedAudio
MIN_RATE_HZ, MAX_RATE_HZ = 2_000, 768_000
"""A header that states less or more is damaged: telephones have 8,000, the fastest converters 768,000."""

_BLOCK_SAMPLES = 1 << 23  # of all channels, 32 MB: 30 s of 17 channels, 16 s of 32

_CUT_PREROLL_S = 0.25
"""Resampled before a cut, so that the filter has settled; soxr HQ reaches back less than 0.05 s from 8 kHz."""


class OpenAudio:
    """An open source: what it says of itself, and its samples."""

    def __init__(self, info: AudioInfo, name: str, native: Callable[[int], Iterator[NDArray[np.float32]]]) -> None:
        self.info = info
        self.name = name  # for messages
        self._native = native  # blocks ``(samples, channels)`` at its own rate, from a sample on

    def blocks(self, block_s: float = 20.0) -> Iterator[Signal]:
        """Yield the recording in blocks, as `stream` does; to be called once, while the source is open.

        Raises:
            AudioError: as for `stream`.
        """
        if not block_s > 0:
            raise SettingsError(f"block_s is {block_s}: a block lasts more than 0 s")
        size = max(1, min(round(block_s * SAMPLING_RATE_HZ), _BLOCK_SAMPLES // self.info.channels))
        held: list[NDArray[np.float32]] = []
        count = 0
        for block in self.resampled(0):
            held.append(block)
            count += len(block)
            while count >= size:
                whole = np.concatenate(held)
                yield _turned(whole[:size])
                held, count = [whole[size:]], count - size
        if count:
            yield _turned(np.concatenate(held))

    def resampled(self, first: int) -> Iterator[NDArray[np.float32]]:
        """Yield blocks ``(samples, channels)`` at 16 kHz, from sample `first` at the source's own rate on."""
        return _resampled(_finite(self._native(first), self.name, self.info, first), self.info)


@contextmanager
def open(
    source: AudioSource, *, sampling_rate_hz: int | None = None, stop: Callable[[], bool] = lambda: False
) -> Iterator[OpenAudio]:
    """Open a source, so that what it says of itself and its samples are read from one opened file.

    Args:
        source: a path, encoded bytes, or an array as for `stream`.
        sampling_rate_hz: an array's rate, as for `stream`.
        stop: whether the samples are wanted no more, asked ten times a second.

    Raises:
        AudioError: one of its kinds, see `stream`. Damage that only decoding shows is found by `OpenAudio.blocks`.
        e2vsearch.errors.Cancelled: `stop` returned true.
    """
    if isinstance(source, np.ndarray):
        rows, rate_hz = planes(source), SAMPLING_RATE_HZ if sampling_rate_hz is None else sampling_rate_hz
        _check_rate(ARRAY_NAME, rate_hz)
        info = AudioInfo(rows.shape[0], rate_hz, rows.shape[1] / rate_hz, f"array {source.dtype}")
        yield OpenAudio(info, ARRAY_NAME, partial(_array_blocks, rows, rate_hz))
        return
    if sampling_rate_hz is not None:
        name = BYTES_NAME if isinstance(source, bytes) else str(source)
        raise AudioInvalid(f"{name} states its own sampling rate: sampling_rate_hz is for arrays")
    with opened(source) as file, open_decoder(file, stop) as decoder:
        _check_rate(file.name, decoder.info.sampling_rate_hz)
        yield OpenAudio(decoder.info, file.name, decoder.blocks)


def prepare(source: AudioSource) -> None:
    """Start the process that will decode a source, unless there is one, and do not wait for it."""
    if not isinstance(source, np.ndarray):
        path = source.name if isinstance(source, RangedAudio) else source
        POOL.prepare(module_for(Path(path).suffix.lower() if isinstance(path, str | os.PathLike) else ""))


def probe(source: AudioSource, *, sampling_rate_hz: int | None = None) -> AudioInfo:
    """Return what a source says of itself, without decoding it.

    Args:
        source: a path, encoded bytes, or an array as for `stream`.
        sampling_rate_hz: an array's rate, as for `stream`.

    Raises:
        AudioError: one of its kinds, see `stream`. Damage that only decoding shows is not found.
    """
    with open(source, sampling_rate_hz=sampling_rate_hz) as audio:
        return audio.info


def stream(
    source: AudioSource,
    *,
    block_s: float = 20.0,
    sampling_rate_hz: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Signal, None, None]:
    """Yield a recording in blocks, in bounded memory: what `read` returns, cut into pieces.

    Files and bytes are decoded by another process with limits, where the system has such, see `e2vsearch.audio.pool`.

    Args:
        source: a path, encoded bytes, a `RangedAudio`, or an array ``(samples,)`` or ``(channels, samples)`` of
            float32 or float64 in -1 to 1, int16, int32 or uint8.
        block_s: length of each block but the last, seconds; less where 32 MB would not hold it.
        sampling_rate_hz: an array's rate, 16 kHz unless given. A file states its own, so there it is an error.
        stop: whether the rest is wanted no more, asked ten times a second.

    Yields:
        ``(channels, samples)`` float32 at 16 kHz.

    Raises:
        AudioNotFound, AudioNotAFile, AudioForbidden: nothing there that may be read.
        AudioEmpty: no bytes or no samples.
        AudioUnreadable: not audio, too damaged to decode, or made to use up or crash its decoder.
        AudioTruncated: ends before its header says it should; some formats show that only after the last block.
        AudioInvalid: NaN or infinite samples, an array of the wrong shape or dtype, a senseless rate, or more than 32
            channels.
        e2vsearch.errors.Cancelled: `stop` returned true.
    """
    with open(source, sampling_rate_hz=sampling_rate_hz, stop=stop) as audio:
        yield from audio.blocks(block_s)


def read(source: AudioSource, *, sampling_rate_hz: int | None = None) -> Signal:
    """Return a whole recording, ``(channels, samples)`` float32 at 16 kHz. For calls of unknown length use `stream`.

    Raises:
        AudioError: as for `stream`.
    """
    return np.concatenate(list(stream(source, sampling_rate_hz=sampling_rate_hz)), axis=1)


def cut(
    source: AudioSource,
    start_s: float,
    end_s: float,
    *,
    channel: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Signal:
    """Return ``read(source)[:, start:end]`` without decoding all that comes before it.

    Args:
        source: as for `stream`; an array must be at 16 kHz.
        start_s: from the first decoded sample.
        end_s: where to stop; the recording's end if that comes first.
        channel: only this channel, counted from 0.
        stop: as for `stream`.

    Returns:
        ``(channels, samples)`` float32 at 16 kHz, ``(1, samples)`` for one channel. Where the rate is not 16 kHz or the
        codec is lossy, samples may differ from `read` by rounding, as their history is decoded only in part.

    Raises:
        SettingsError: a time or channel that makes no sense.
        AudioEmpty: the recording ends before `start_s`.
        AudioError: as for `stream`.
    """
    if not (math.isfinite(start_s) and math.isfinite(end_s) and 0 <= start_s < end_s):
        raise SettingsError(f"a cut from {start_s} to {end_s} s makes no sense: give 0 <= start < end, in seconds")
    begin, end = round(start_s * SAMPLING_RATE_HZ), round(end_s * SAMPLING_RATE_HZ)
    with open(source, stop=stop) as audio:
        info, name = audio.info, audio.name
        if channel is not None and not 0 <= channel < info.channels:
            raise SettingsError(f"{name} has no channel {channel}: it has {info.channels}, counted from 0")
        # start on a sample that both rates share, so that the filter falls on the same phase as in `read`
        step = info.sampling_rate_hz // math.gcd(info.sampling_rate_hz, SAMPLING_RATE_HZ)
        first = max(0, int((start_s - _CUT_PREROLL_S) * info.sampling_rate_hz)) // step * step
        position = first * SAMPLING_RATE_HZ // info.sampling_rate_hz
        held: list[NDArray[np.float32]] = []
        for block in audio.resampled(first):
            wanted = block[max(0, begin - position) : max(0, end - position)]
            position += len(block)
            if len(wanted):
                held.append(wanted)
            if position >= end:
                break
    if not held:
        raise AudioEmpty(f"{name} has no sound at {start_s:.2f} s: it lasts {position / SAMPLING_RATE_HZ:.2f} s")
    signal = _turned(np.concatenate(held))
    return signal if channel is None else signal[channel : channel + 1]


def peaks(signal: Signal, n: int = 200) -> NDArray[np.float32]:
    """Return the largest magnitude in each of `n` equal parts, ``(channels, n)``, for drawing a waveform.

    A signal of fewer than `n` samples repeats some; one without samples gives zeros.
    """
    if n < 1:
        raise SettingsError(f"a waveform of {n} points makes no sense: ask for 1 or more")
    samples = signal.shape[1]
    if samples == 0:
        return np.zeros((signal.shape[0], n), np.float32)
    edges = np.arange(n) * samples // n
    # two passes, as abs() of a long call would double its memory
    highest = np.maximum.reduceat(signal, edges, axis=1)
    lowest = np.minimum.reduceat(signal, edges, axis=1)
    out: NDArray[np.float32] = np.maximum(highest, -lowest)
    return out


def write(path: str | os.PathLike[str], signal: Signal) -> None:
    """Write 16 kHz 16-bit WAV or FLAC, whichever the suffix says; a reader never sees half a file.

    Samples beyond full scale are clipped. What `read` gave from a 16-bit 16 kHz file comes back bit for bit.

    Args:
        path: ends in ``.wav`` or ``.flac``.
        signal: ``(channels, samples)`` or ``(samples,)`` at 16 kHz.

    Raises:
        AudioInvalid: NaN or infinite samples, or a wrong shape or dtype.
        AudioError: another suffix, or a place that cannot be written to.
    """
    import soundfile

    path = Path(path)
    if path.suffix.lower() not in (".wav", ".flac"):
        raise AudioError(f"{path} would be neither WAV nor FLAC: give it the suffix .wav or .flac")
    samples = _pcm(signal, str(path))

    def write_to(aside: Path) -> None:
        with aside.open("wb") as file:
            soundfile.write(file, samples, SAMPLING_RATE_HZ, "PCM_16", format=path.suffix[1:].upper())

    try:
        atomic_write(path, write_to)
    except (OSError, soundfile.LibsndfileError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise AudioError(f"{path} cannot be written ({why}): check its folder and the space on the disk") from error


def encode(signal: Signal) -> bytes:
    """Return the bytes of a 16 kHz 16-bit WAV file, as `write` would write it.

    Raises:
        AudioInvalid: NaN or infinite samples, or a wrong shape or dtype.
    """
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, _pcm(signal, "WAV"), SAMPLING_RATE_HZ, "PCM_16", format="WAV")
    return buffer.getvalue()


def _pcm(signal: Signal, name: str) -> NDArray[np.int16]:
    rows = floats(planes(signal))
    if not np.isfinite(rows).all():
        raise AudioInvalid(f"{name} is not written: {ARRAY_NAME} has NaN or infinite samples")
    # scaled here, as libsndfile would scale by 32,767 and read back by 32,768
    samples: NDArray[np.int16] = np.clip(np.rint(rows.T * 32_768.0), -32_768, 32_767).astype(np.int16)
    return samples


def _array_blocks(rows: NDArray[Any], rate_hz: int, start: int) -> Iterator[NDArray[np.float32]]:
    """Yield an array as decoders yield a file: blocks of a second, ``(samples, channels)``."""
    for at in range(start, rows.shape[1], rate_hz):
        yield floats(rows[:, at : at + rate_hz]).T


def _check_rate(name: str, rate_hz: int) -> None:
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise AudioInvalid(f"{name} states a sampling rate of {rate_hz} Hz, which no recording has: check its header")


def _finite(
    blocks: Iterator[NDArray[np.float32]], name: str, info: AudioInfo, position: int = 0
) -> Iterator[NDArray[np.float32]]:
    for block in blocks:
        finite = np.isfinite(block)
        if not finite.all():
            at_s = (position + int(np.argmin(finite.all(axis=1)))) / info.sampling_rate_hz
            raise AudioInvalid(f"{name} has NaN or infinite samples from {at_s:.3f} s on: repair what wrote it")
        position += len(block)
        yield block


def _resampled(blocks: Iterator[NDArray[np.float32]], info: AudioInfo) -> Iterator[NDArray[np.float32]]:
    """Yield the same at 16 kHz; soxr's answer does not depend on how its input is cut into blocks."""
    if info.sampling_rate_hz == SAMPLING_RATE_HZ:
        yield from blocks
        return
    import soxr

    resampler = soxr.ResampleStream(info.sampling_rate_hz, SAMPLING_RATE_HZ, info.channels, "float32", "HQ")
    for block in blocks:
        yield resampler.resample_chunk(np.ascontiguousarray(block)).reshape(-1, info.channels)
    rest = np.empty((0, info.channels), np.float32)
    yield resampler.resample_chunk(rest, last=True).reshape(-1, info.channels)


def _turned(samples: NDArray[np.float32]) -> Signal:
    return np.ascontiguousarray(samples.T)
