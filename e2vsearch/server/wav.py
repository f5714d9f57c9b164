"""A stored recording is played as a WAV file that is never written: any range of its bytes is decoded when it is read.

Recordings are kept as they came: telephone codecs do not play in browsers, and some have no index to seek by. As a
file, an hour of two channels would take 230 MB and seconds of decoding before its middle could be played.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from e2vsearch import audio
from e2vsearch.server.executor import stop_requested

HEADER_BYTES = 44
_FIRST_S, _LONGEST_S = 15, 120  # of a piece: the first comes soon, later ones save seeking
_LARGEST = 2**32 - 1  # what a WAV header can say; players read on to the end of a longer one


@dataclass(frozen=True, slots=True)
class VirtualWav:
    """A stretch of a recording as a 16 kHz 16-bit WAV file."""

    source: audio.AudioSource
    channels: int  # of the WAV file
    channel: int | None  # of the recording; None: all of them
    start: int  # first sample, at 16 kHz
    samples: int

    @property
    def size(self) -> int:
        """Bytes, header included."""
        return HEADER_BYTES + self.samples * self._frame

    @property
    def _frame(self) -> int:
        return 2 * self.channels

    def header(self) -> bytes:
        """Return the file's first 44 bytes."""
        data = self.samples * self._frame
        rate = audio.SAMPLING_RATE_HZ
        return struct.pack(
            "<4sI4s4sIHHIIHH4sI",
            b"RIFF", min(data + HEADER_BYTES - 8, _LARGEST), b"WAVE", b"fmt ", 16, 1, self.channels, rate,
            rate * self._frame, self._frame, 16, b"data", min(data, _LARGEST),
        )  # fmt: skip

    def pieces(self, first: int, end: int) -> Iterator[bytes]:
        """Yield bytes `first` to `end` (not included), in pieces of at most two minutes; the first has samples in it.

        Raises:
            AudioError: the recording's file is gone or damaged.
        """
        held = self.header()[first:end]
        at, stop = max(first, HEADER_BYTES) - HEADER_BYTES, end - HEADER_BYTES
        seconds = _FIRST_S
        while at < stop:
            begin = at // self._frame
            until = min(math.ceil(stop / self._frame), begin + seconds * audio.SAMPLING_RATE_HZ)
            data = self._data(begin, until)[at - begin * self._frame : stop - begin * self._frame]
            yield held + data
            held = b""
            at += len(data)
            seconds = min(2 * seconds, _LONGEST_S)
        if held:
            yield held

    def _data(self, begin: int, until: int) -> bytes:
        rate = audio.SAMPLING_RATE_HZ
        start_s, end_s = (self.start + begin) / rate, (self.start + until) / rate
        signal = audio.cut(self.source, start_s, end_s, channel=self.channel, stop=stop_requested())
        missing = until - begin - signal.shape[1]
        if missing > 0:  # the file has become shorter since its size was sent
            signal = np.pad(signal, ((0, 0), (0, missing)))
        return audio.encode(signal)[-signal.size * 2 :]


class RangeNotSatisfiable(Exception):
    """A range of bytes that a file does not have."""


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the bytes that a ``Range`` header names, the last one not included; None for all of them.

    A header that is no range of bytes, or several of them, is passed over, as RFC 9110 (14.2) lets a server do.

    Raises:
        RangeNotSatisfiable: it begins after the end.

    >>> parse_range("bytes=10-19", 100), parse_range("bytes=-5", 100), parse_range("bytes=90-", 100)
    ((10, 20), (95, 100), (90, 100))
    """
    found = re.fullmatch(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", header or "", re.ASCII)
    if found is None:
        return None
    first, last, suffix = found.groups()
    begin = max(0, size - int(suffix)) if suffix else int(first)
    if last and int(last) < begin:
        return None
    if begin >= size:
        raise RangeNotSatisfiable
    return begin, min(size, int(last) + 1) if last else size
