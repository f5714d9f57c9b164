"""What the catalog takes and gives, as frozen dataclasses. Knows no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from e2vsearch.errors import NotStored


@dataclass(frozen=True, slots=True)
class NewSegment:
    """One spoken span to be stored."""

    channel: int
    start_s: float
    end_s: float
    vector: NDArray[np.float32]  # (dim,), as the encoder made it
    scores: NDArray[np.float32] | None = None  # (labels,) of the collection's space
    level_db: float | None = None  # root mean square of its signal at 16 kHz, dBFS; None where that is not known


@dataclass(frozen=True, slots=True)
class NewRecording:
    """One audio file, with all that was found in it, to be stored in one transaction."""

    uri: str
    name: str
    content_sha256: str
    size_bytes: int
    mtime_ns: int
    recorded_at: datetime
    duration_s: float
    channels: int
    sampling_rate_hz: int
    format: str
    segments: tuple[NewSegment, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    note: str = ""  # "" or why there are no segments
    added_at: datetime | None = None  # None: now


@dataclass(frozen=True, slots=True)
class Recording:
    """One stored audio file, a call."""

    id: str  # "call:45"
    uri: str
    name: str
    content_sha256: str
    size_bytes: int
    mtime_ns: int
    recorded_at: datetime
    added_at: datetime
    duration_s: float
    channels: int
    sampling_rate_hz: int
    format: str
    note: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Segment:
    """One stored spoken span of one channel."""

    id: str  # "seg:123"
    recording: str  # "call:45"
    channel: int
    start_s: float
    end_s: float
    emotion: str | None  # a class of the encoder's, "unsure" or "too short"; None where it has no classes
    emotion_score: float | None  # its probability, 0 to 1; None where no class is named
    scores: Mapping[str, float]  # probability of each emotion class
    text: str | None = None  # what is said, where a transcript was joined
    label: str | None = None  # a label of one's own: a person's, else a classifier's surest
    label_score: float | None = None  # its probability; 1.0 where a person gave it
    arousal: float | None = None  # 0 calm to 1 excited, by the class probabilities; see `emotions.affect`
    valence: float | None = None  # 0 unpleasant to 1 pleasant, as arousal
    level_db: float | None = None  # root mean square of its signal, dBFS; None where that is not known


@dataclass(frozen=True, slots=True)
class Failure:
    """One file that could not be ingested."""

    uri: str
    reason: str  # a short stable word: "truncated", "not-audio", …
    message: str
    attempts: int
    failed_at: datetime


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a collection holds."""

    recordings: int
    silent: int  # recordings without a segment: no speech was found in them
    segments: int
    audio_s: float  # all channels counted once
    speech_s: float  # summed over channels
    failures: int
    emotions: Mapping[str, int]  # segments by what they are named, "unsure" and "too short" among them


def recording_id(number: int) -> str:
    """``45`` → ``"call:45"``, the form that queries, filters and `remove` take."""
    return f"call:{number}"


def segment_id(number: int) -> str:
    """``123`` → ``"seg:123"``, the form that queries take."""
    return f"seg:{number}"


def number_of(identifier: str, kind: Literal["call", "seg"]) -> int:
    """``"call:45"`` → 45.

    Raises:
        NotStored: it is not an id of that kind.
    """
    prefix, _, digits = identifier.partition(":")
    # 18 digits fit the 64 bits of a column; isdigit alone takes Arabic and superscript ones as well
    if prefix != kind or not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        raise NotStored(f"{identifier!r} is no id - write {kind}:NUMBER, as e2vsearch query shows it")
    return int(digits)
