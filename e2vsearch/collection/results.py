"""What a collection answers, as frozen dataclasses: the same objects in Python, on the command line and over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog import Counts
from e2vsearch.catalog.sides import SideVectors
from e2vsearch.space import Space
from e2vsearch.vectors import IndexStatus

By = Literal["call", "segment"]


@dataclass(frozen=True, slots=True)
class Hit:
    """One moment of one call, and how near it is to the reference.

    Found by call, it is the call's best moment, and `score` is the call's: with a reference of one segment that is
    the moment's own; with several, the mean over them of each one's best match in the call.
    """

    score: float  # exact cosine in the collection's space, 1.0 is identical; with `fuse`, the weighted mean of cosines
    recording: str  # the recording's id, "call:45"
    segment: str  # the moment's id, "seg:123"
    name: str  # the file's name without its suffix
    uri: str  # where the audio is
    channel: int
    start_s: float
    end_s: float
    moment_score: float  # exact cosine of this moment with the reference's segment nearest to it
    emotion: str | None  # the moment's likeliest
    emotion_score: float | None  # its probability, 0 to 1
    metadata: Mapping[str, str]
    scores: Mapping[str, float] = field(default_factory=dict)  # probability of each emotion class
    text: str | None = None  # what is said in the moment, where a transcript was joined
    label: str | None = None  # the moment's label of one's own: a person's, else a classifier's surest
    label_score: float | None = None  # its probability; 1.0 where a person gave it
    fused: Mapping[str, float] = field(default_factory=dict)  # with `fuse`: the cosine of each part that made the score


@dataclass(frozen=True, slots=True)
class QueryResult(Sequence[Hit]):
    """Hits, best first, and what was searched for them."""

    hits: tuple[Hit, ...]
    searched: int  # segments that the filter left to choose from
    total: int  # segments in the collection
    exact: bool  # every one of them was compared; False: the index chose candidates, scores are exact all the same
    seconds: float  # from the resolved reference to the hits
    reference: tuple[str, ...]  # what was searched for: a path, an id, or what kind of array
    where: str | None  # the filter in force
    text: str | None = None  # what had to be said

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)


@dataclass(frozen=True, slots=True)
class Moment:
    """One spoken span that was listened to, with its vector."""

    channel: int
    start_s: float
    end_s: float
    vector: NDArray[np.float32]  # (dim,) as the encoder made it
    scores: NDArray[np.float32] | None  # (labels,) class probabilities, None without a head


@dataclass(frozen=True, slots=True)
class Heard:
    """All that was found in one piece of audio."""

    moments: tuple[Moment, ...]
    duration_s: float
    channels: int
    sampling_rate_hz: int
    format: str


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two recordings of a comparison."""

    name: str
    segments: int
    speech_s: float
    emotion: str | None  # likeliest over the whole of it
    emotion_score: float | None  # its probability: the mean over the segments, weighted by their length
    channel: int  # the moment that is most like the other side's
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How alike two recordings feel."""

    score: float  # cosine of their mean vectors, weighted by the length of each segment
    best: float  # cosine of the two moments, one of each side, that are most alike
    a: Side
    b: Side
    space: Space


@dataclass(frozen=True, slots=True)
class Status:
    """What a collection is, how much it holds, and how its index fares."""

    place: str
    collection: str  # its UUID
    space: Space | None  # None before the first ingest
    counts: Counts
    index: IndexStatus | None  # None before the first ingest
    transcribed: int = 0  # segments with a transcript
    sides: tuple[SideVectors, ...] = ()  # what `attach` added
