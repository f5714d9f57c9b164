"""The speech in a 16 kHz signal is cut into segments worth embedding: 1 to 15 s of one channel each.

`vad` gives the probability of speech for each 32 ms, `segmentation` turns the probabilities into segments, and
`dynamics` tells from the same who spoke when.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.audio import SAMPLING_RATE_HZ, Signal
from e2vsearch.errors import AudioInvalid, SettingsError
from e2vsearch.speech import vad
from e2vsearch.speech.dynamics import dynamics
from e2vsearch.speech.segmentation import SegmentationRules, Segmenter
from e2vsearch.speech.silero import WINDOW
from e2vsearch.speech.vad import FRAMES_HZ, SileroVAD
from e2vsearch.types import Dynamics

__all__ = ["SpeechDetector", "SpeechOptions", "SpokenSegment", "segments"]
LONGEST_S = 30.0
"""No segment longer than this: encoders refuse it, and one emotion does not last so long."""

_BATCH = 32
"""Windows computed at once: a second, so that short blocks cost no more than long ones."""


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """How speech is found and cut. Times are kept to 32 ms.

    Raises:
        SettingsError: a value out of range; `max_s` must hold two segments of `min_s` with their padding.
    """

    min_s: float = 1.0  # shorter utterances take some of the audio around them: emotion shows poorly in less
    max_s: float = 15.0
    threshold: float = 0.5  # Silero's default
    min_speech_s: float = 0.2  # less than this is a click; "yes" lasts 0.25 s
    min_pause_s: float = 0.5  # a shorter pause stays inside a segment, where it fits
    pad_s: float = 0.1  # around speech, so that soft beginnings and ends are in

    def __post_init__(self) -> None:
        """Check every value."""
        for name in ("min_s", "max_s", "min_speech_s", "min_pause_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise SettingsError(f"{name} is {getattr(self, name)}: give a time above 0 s")
        if not 0 <= self.pad_s < math.inf:
            raise SettingsError(f"pad_s is {self.pad_s}: give 0 s or more")
        if not 0 < self.threshold < 1:
            raise SettingsError(f"threshold is {self.threshold}: give a probability between 0 and 1")
        if self.max_s > LONGEST_S:
            raise SettingsError(f"max_s is {self.max_s}: give at most {LONGEST_S:.0f} s")
        rules = _rules(self)
        if rules.longest < 2 * (rules.shortest + rules.pad):
            needed_s = (2 * (rules.shortest + rules.pad) + 1) / FRAMES_HZ
            raise SettingsError(
                f"max_s is {self.max_s}: min_s {self.min_s} and pad_s {self.pad_s} need at least {needed_s:.2f} s"
            )


@dataclass(frozen=True, slots=True)
class SpokenSegment:
    """A stretch of one channel with speech in it."""

    channel: int
    start_s: float  # from the recording's first sample
    end_s: float
    signal: NDArray[np.float32]  # (samples,) at 16 kHz, exactly the audio between start_s and end_s

    @property
    def level_db(self) -> float:
        """The root mean square of the signal in dB below full scale; -90 for digital silence."""
        return float(vad.levels_db(self.signal))


class SpeechDetector:
    """Finds the spoken segments of one recording, and who spoke when."""

    def __init__(self, options: SpeechOptions | None = None) -> None:
        self._options = options or SpeechOptions()
        self._recording: _Recording | None = None

    def segments(self, blocks: Iterable[Signal]) -> Iterator[SpokenSegment]:
        """Yield the spoken segments of a recording, as soon as each is complete.

        Segments of one channel are in order and never overlap, and every stretch of speech is in one of them. How the
        recording is cut into blocks makes no difference. Memory: at most two segments and what lies between, per
        channel.

        Args:
            blocks: ``(channels, samples)`` float32 at 16 kHz, consecutive, all with the same channels.

        Yields:
            Segments of `min_s` to `max_s`; shorter only where the whole recording is shorter than `min_s`.

        Raises:
            AudioInvalid: a block of another shape or dtype.
            MissingExtra: the package that has Silero's network is not installed.
            AudioError: whatever `blocks` raises.
        """
        recording = self._recording
        for block in blocks:
            if block.ndim != 2 or block.dtype != np.float32 or (recording and len(recording.lines) != len(block)):
                raise AudioInvalid(
                    f"a block of {block.dtype} {block.shape} is not (channels, samples) float32 as the blocks before "
                    "it: pass what e2vsearch.audio.stream yields"
                )
            if recording is None:
                recording = self._recording = _Recording(len(block), self._options)
            yield from recording.push(block)
        if recording is not None:
            yield from recording.finish()

    def dynamics(self) -> Dynamics:
        """Return who spoke when, see `speech.dynamics`; of nobody before `segments` has come to its end."""
        if self._recording is None:
            return dynamics((), 0.0)
        window_s = WINDOW / SAMPLING_RATE_HZ
        length_s = self._recording.samples / SAMPLING_RATE_HZ
        # a recording's last window may be partial
        spans = [
            [(round(start * window_s, 3), round(min(end * window_s, length_s), 3)) for start, end in line.runs]
            for line in self._recording.lines
        ]
        return dynamics(spans, round(length_s, 3))


def segments(blocks: Iterable[Signal], options: SpeechOptions | None = None) -> Iterator[SpokenSegment]:
    """Yield the spoken segments of a recording, see `SpeechDetector.segments`."""
    return SpeechDetector(options).segments(blocks)


def _rules(options: SpeechOptions) -> SegmentationRules:
    return SegmentationRules(
        threshold=options.threshold,
        min_speech=max(1, round(options.min_speech_s * FRAMES_HZ)),
        min_pause=max(1, round(options.min_pause_s * FRAMES_HZ)),
        pad=round(options.pad_s * FRAMES_HZ),
        shortest=math.ceil(options.min_s * FRAMES_HZ) + 1,  # one more, as a recording's last frame may be partial
        longest=int(options.max_s * FRAMES_HZ),
    )


class _Recording:
    """The channels of one recording, window by window through the detector."""

    def __init__(self, channels: int, options: SpeechOptions) -> None:
        self.lines = [_Line(channel, _rules(options)) for channel in range(channels)]
        self._detector = SileroVAD(channels)
        self._waiting: list[Signal] = []
        self._count = 0  # samples in _waiting
        self.samples = 0  # all of them

    def push(self, block: Signal) -> Iterator[SpokenSegment]:
        self.samples += block.shape[1]
        self._waiting.append(block)
        self._count += block.shape[1]
        if self._count >= _BATCH * WINDOW:
            signal = np.concatenate(self._waiting, axis=1)
            whole = self._count - self._count % WINDOW
            yield from self._segmented(signal[:, :whole])
            self._waiting, self._count = [signal[:, whole:]], self._count - whole

    def finish(self) -> Iterator[SpokenSegment]:
        if self._count:
            yield from self._segmented(np.concatenate(self._waiting, axis=1))
        for line in self.lines:
            yield from line.finish()

    def _segmented(self, signal: Signal) -> Iterator[SpokenSegment]:
        """Take whole windows, or the last of a recording, which is filled up with its mirror image."""
        # zeros would be a pause that was never there
        padded = np.pad(signal, ((0, 0), (0, -signal.shape[1] % WINDOW)), mode="symmetric")
        windows = padded.reshape(len(signal), -1, WINDOW).transpose(1, 0, 2)
        for line, samples in zip(self.lines, signal, strict=True):
            line.keep(samples)
        levels = vad.levels_db(windows)
        probabilities = self._detector.push(windows, levels)
        # frame by frame over all channels: the order of segments must not depend on the blocks either
        for frame, frame_levels in zip(probabilities.tolist(), levels.tolist(), strict=True):
            for line, probability, level_db in zip(self.lines, frame, frame_levels, strict=True):
                yield from line.push(probability, level_db)


class _Line:
    """One channel: its segments to come, and the samples that they may need."""

    def __init__(self, channel: int, rules: SegmentationRules) -> None:
        self._channel = channel
        self._finder = Segmenter(rules)
        self._samples = np.empty(0, np.float32)
        self._first = 0  # index of _samples[0] in the recording

    @property
    def runs(self) -> Sequence[tuple[int, int]]:
        """The stretches of speech, in windows."""
        return self._finder.runs

    def keep(self, samples: NDArray[np.float32]) -> None:
        unused = max(0, self._finder.needed_from * WINDOW - self._first)
        self._samples = np.concatenate([self._samples[unused:], samples])
        self._first += unused

    def push(self, probability: float, level_db: float) -> Iterator[SpokenSegment]:
        for span in self._finder.push(probability, level_db):
            yield self._segment(*span)

    def finish(self) -> Iterator[SpokenSegment]:
        for span in self._finder.finish():
            yield self._segment(*span)

    def _segment(self, start: int, end: int) -> SpokenSegment:
        begin = start * WINDOW
        signal = self._samples[begin - self._first : end * WINDOW - self._first].copy()
        return SpokenSegment(self._channel, begin / SAMPLING_RATE_HZ, (begin + len(signal)) / SAMPLING_RATE_HZ, signal)
