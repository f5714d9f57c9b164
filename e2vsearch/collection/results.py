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
class Match:
    """A moment of the reference, and the stored one that it was held against."""

    reference: str  # "seg:12", a path, "emotion:angry"
    reference_start_s: float | None  # None: a vector or a name, which is at no time
    reference_end_s: float | None
    segment: str  # "seg:123"
    start_s: float
    end_s: float
    cosine: float


@dataclass(frozen=True, slots=True)
class Shared:
    """An emotion that the reference and the moment have in common."""

    emotion: str
    reference: float  # its probability in the reference: the mean over its segments
    moment: float  # and in the moment


@dataclass(frozen=True, slots=True)
class Against:
    """What an example of what is not wanted takes off the score."""

    reference: str
    weight: float
    cosine: float  # of the moment with the example's segment nearest to it
    penalty: float  # weight · max(0, cosine)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a hit is one."""

    matches: tuple[Match, ...]  # one a segment of the reference: its best match in the call, or in the moment
    shared: tuple[Shared, ...] = ()  # most in common first; nothing where the encoder or the reference has no scores
    against: tuple[Against, ...] = ()
    emotion_part: float | None = None  # `emotion_part` + `rest_part` = `moment_score`: what lies in the directions
    rest_part: float | None = None  # that tell this collection's emotions apart, and what lies in all others


@dataclass(frozen=True, slots=True)
class Hit:
    """One moment of one call, and how near it is to the reference.

    Found by call, it is the call's best moment, and `score` is the call's: with a reference of one segment that is
    the moment's own; with several, the mean over them of each one's best match in the call.
    """

    score: (
        float  # exact cosine in the collection's space, 1.0 is identical; else a mean of them, see `Collection.query`
    )
    recording: str  # the recording's id, "call:45"
    segment: str  # the moment's id, "seg:123"
    name: str  # the file's name without its suffix
    uri: str  # where the audio is
    channel: int
    start_s: float
    end_s: float
    moment_score: float  # exact cosine of this moment with the reference's segment nearest to it
    emotion: str | None  # a class of the encoder's, "unsure" or "too short"
    emotion_score: float | None  # its probability, 0 to 1; None where no class is named
    metadata: Mapping[str, str]
    scores: Mapping[str, float] = field(default_factory=dict)  # probability of each emotion class
    text: str | None = None  # what is said in the moment, where a transcript was joined
    label: str | None = None  # the moment's label of one's own: a person's, else a classifier's surest
    label_score: float | None = None  # its probability; 1.0 where a person gave it
    arousal: float | None = None  # 0 calm to 1 excited, by the class probabilities; see `emotions.affect`
    valence: float | None = None  # 0 unpleasant to 1 pleasant, as arousal
    fused: Mapping[str, float] = field(default_factory=dict)  # with `fuse`: the cosine of each part that made the score
    course: tuple[Match, ...] = ()  # with `arc`: which moments met which, in order of time
    percentile: float | None = None  # with `explain`: `moment_score` is nearer than that many % of random pairs here
    why: Explanation | None = None  # with `explain`


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
    but_not: tuple[str, ...] = ()  # what hits should be unlike
    arc: bool = False  # whether `reference` is a course, and hits are calls that run like it

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
    level_db: float | None = None  # root mean square of the signal, dBFS; None where that is not known


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
    emotion: str | None  # of the whole of it: a class of the encoder's, "unsure" or "too short"
    emotion_score: float | None  # its probability: the mean over the segments, weighted by their length
    arousal: float | None  # 0 calm to 1 excited, by those means
    valence: float | None  # 0 unpleasant to 1 pleasant
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
