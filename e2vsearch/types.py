"""Types that every door returns: what is stored, what is found, and how a collection fares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from e2vsearch.errors import NotStored
from e2vsearch.policy import Policy, Role

MAX_NAME = 64
"""Characters of a name that the catalog stores: of a label, classifier, map, projection or set of named vectors."""

REDUCED_PRECISIONS = ("bf16", "int8")
"""Revisions of their spaces begin with "bf16-" or "int8-"; the rest is that of fp32, cut short."""


@dataclass(frozen=True, slots=True)
class Space:
    """Where vectors live: two vectors may be compared only if their spaces are equal."""

    encoder: str  # the name it is opened by, e.g. "emotion2vec_plus_large"
    revision: str  # a hash of the weights and of the settings that change vectors
    dim: int
    labels: tuple[str, ...] = ()  # emotion classes, in the order of the scores
    projection: str = "raw"  # "raw": the encoder's own vectors, compared by cosine

    def differs_in_precision(self, other: Space) -> bool:
        """Return whether both are of the same weights, in two precisions."""
        if self.precision == other.precision or replace(self, revision="") != replace(other, revision=""):
            return False
        a, b = (each.revision.removeprefix(f"{each.precision}-") for each in (self, other))
        return a.startswith(b) or b.startswith(a)  # of one length, less what precedes them

    @property
    def precision(self) -> str:
        """Precision of its vectors: "bf16", "int8" or "fp32", the only one of most encoders."""
        return next((each for each in REDUCED_PRECISIONS if self.revision.startswith(f"{each}-")), "fp32")

    def __str__(self) -> str:
        return f"{self.encoder}@{self.revision[:12]} ({self.dim}-d, {self.projection})"


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A linear classifier over an encoder's vectors: softmax(weights · vector + biases) gives its scores."""

    weights: NDArray[np.float32]  # (labels, dim)
    biases: NDArray[np.float32]  # (labels,)


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
    roles: tuple[Role | None, ...] | None = None  # whose voice each channel has; None where that is not known

    def _repr_html_(self) -> str:
        from html import escape

        named = {"call": f"{self.id} {self.name}", "recorded": f"{self.recorded_at:%Y-%m-%d %H:%M}"}
        named |= {"length": f"{self.duration_s:.1f} s, {self.channels} channels", **self.metadata}
        rows = (f"<tr><td><b>{escape(name)}</b></td><td>{escape(value)}</td></tr>" for name, value in named.items())
        text = f"<table>{''.join(rows)}</table><p>collection.timeline({self.id!r}) draws it</p>"
        return text.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True, slots=True)
class Call:
    """One recording in a list of them, with the emotions in it."""

    recording: Recording
    speech_s: float  # of the analysed channels, summed
    emotions: Mapping[str, float]  # share of that speech, 0 to 1, by the emotion that is shown; most first


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
class ChannelDynamics:
    """How one channel takes turns; None where there is no other to take them with."""

    channel: int
    role: Role | None
    talk_share: float  # share of the recording in which it speaks
    turns: int | None
    interruptions: int | None  # that it makes
    longest_turn_s: float | None


@dataclass(frozen=True, slots=True)
class Dynamics:
    """Who speaks when in a recording, see `speech.dynamics`; None: what one channel alone cannot tell."""

    talk_share: float  # share of the recording in which somebody speaks
    silence_share: float  # share in which nobody does
    longest_silence_s: float
    overtalk: float | None  # share in which several channels speak at once
    interruptions: int | None
    turns: int | None
    by_channel: tuple[ChannelDynamics, ...]
    overlaps: tuple[tuple[float, float], ...]  # seconds: start and end of each stretch of overtalk
    silences: tuple[tuple[float, float], ...]  # those of a second and more


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
    """Return ``"call:45"`` for 45, the form that queries, filters and `remove` take."""
    return f"call:{number}"


def segment_id(number: int) -> str:
    """Return ``"seg:123"`` for 123, the form that queries take."""
    return f"seg:{number}"


def number_of(identifier: str, kind: Literal["call", "seg"]) -> int:
    """Return 45 for ``"call:45"``.

    Raises:
        NotStored: it is not an id of that kind.
    """
    prefix, _, digits = identifier.partition(":")
    # 18 digits fit the 64 bits of a column; isdigit alone takes Arabic and superscript ones as well
    if prefix != kind or not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        raise NotStored(f"{identifier!r} is no id - write {kind}:NUMBER, as e2vsearch query shows it")
    return int(digits)


@dataclass(frozen=True, slots=True)
class NamedVectors:
    """A set of named vectors: another model's, on segments."""

    name: str
    dim: int
    segments: int  # that have such a vector
    created_at: datetime


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """What an index is made of, and how well it is known to answer. Figures are None without a generation."""

    kind: str  # "none" without a usable generation: search is exact, from the catalog
    n: int  # segments in the generation
    tail: int  # segments that came after it, compared exactly with every query
    tombstones: int  # segments of the generation that are gone
    target: float  # recall that nprobe is chosen for
    recall: float | None = None  # the lower of the two measured below; 1.0 for flat
    nlist: int | None = None
    nprobe: int | None = None
    k_factor: int | None = None  # candidates re-ranked exactly, in multiples of k
    built_at: str | None = None  # UTC, ISO 8601
    size: int | None = None  # bytes on disk
    faiss: str | None = None  # version that wrote it, None for flat
    watermark: int | None = None  # how far it has read the change feed
    generation: str | None = None  # its folder's name
    note: str = ""  # what its builder had to say, such as a target that needed a richer kind
    damage: str | None = None  # why the generation on disk is not used
    due: str | None = None  # why a build is due
    recall_stored: float | None = None  # on stored vectors that were held out
    sample_stored: int = 0  # how many
    recall_queries: float | None = None  # on the last queries, where enough were kept
    sample_queries: int = 0
    measured_at: str | None = None  # when recall was, UTC, ISO 8601: at the build or the last `index tune`
    requested_kind: str | None = None  # what the next build makes, unless told otherwise
    trained_n: int | None = None  # segments there were when the lists were trained
    trained_at: str | None = None
    drift: str | None = None  # how the collection moved away from what was measured, and the cure
    engine: str = "faiss"  # that holds the index
    breadth: int | None = None  # of a search for 20 in another engine: its ef_search, ef, probes or nprobe


By = Literal["recording", "segment"]

Consistency = Literal["fresh", "any"] | int
"""The changes that a search of an engine must take into account: ``fresh``, everything that was committed; a watermark
of the change feed, everything up to it; ``any``, what the engine has read so far. FAISS is always fresh."""


@dataclass(frozen=True, slots=True)
class Match:
    """A segment of the reference, and the stored one that it is compared with."""

    reference: str  # "seg:12", a path, "emotion:angry"
    reference_start_s: float | None  # None: a vector or a name, which is at no time
    reference_end_s: float | None
    segment: str  # "seg:123"
    start_s: float
    end_s: float
    cosine: float


@dataclass(frozen=True, slots=True)
class SharedEmotion:
    """An emotion that the reference and the hit's segment have in common."""

    emotion: str
    reference: float  # its probability in the reference: the mean over its segments
    segment: float  # and in the hit's segment


@dataclass(frozen=True, slots=True)
class NegativeMatch:
    """What a reference to avoid takes off the score."""

    reference: str
    weight: float
    cosine: float  # of the hit's segment with the reference's segment nearest to it
    penalty: float  # weight · max(0, cosine)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a hit is one."""

    # one a segment of the reference: its best match in the recording, or in the hit's segment
    matches: tuple[Match, ...]
    shared: tuple[SharedEmotion, ...] = ()  # most in common first; empty where the encoder or reference has no classes
    avoided: tuple[NegativeMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """One segment of one recording, and how near it is to the reference.

    Found by recording, it is the recording's best segment, and `score` is the recording's: with a reference of one
    segment that is the segment's own; with several, the mean over them of each one's best match in the recording.
    """

    # exact cosine in the collection's space, 1.0 is identical; else a mean of them, see `Collection.query`; None where
    # nothing is compared, since the query has no reference
    score: float | None
    recording: str  # the recording's id, "call:45"
    segment: str  # the segment's id, "seg:123"
    name: str  # the file's name without its suffix
    uri: str  # where the audio is
    channel: int
    start_s: float
    end_s: float
    segment_score: float | None  # exact cosine of this segment with the reference's segment nearest to it
    emotion: str | None  # a class of the encoder's, "unsure" or "too short"
    emotion_score: float | None  # its probability, 0 to 1; None where no class is named
    metadata: Mapping[str, str]
    scores: Mapping[str, float] = field(default_factory=dict)  # probability of each emotion class
    text: str | None = None  # what is said in the segment, where a transcript was joined
    label: str | None = None  # the segment's label of one's own: a person's, else a classifier's surest
    label_score: float | None = None  # its probability; 1.0 where a person gave it
    arousal: float | None = None  # 0 calm to 1 excited, by the class probabilities; see `emotions.affect`
    valence: float | None = None  # 0 unpleasant to 1 pleasant, as arousal
    named_vector_scores: Mapping[str, float] = field(default_factory=dict)  # the cosine of each part of the score
    alignment: tuple[Match, ...] = ()  # of a trajectory: which segments the best path aligns, in order of time
    percentile: float | None = None  # `segment_score` is nearer than that many % of random pairs of segments here
    why: Explanation | None = None  # with `explain`
    role: Role | None = None  # whose voice the channel has, where that is known


@dataclass(frozen=True, slots=True)
class EmbeddedSegment:
    """One segment of a piece of audio, with its vector."""

    channel: int
    start_s: float
    end_s: float
    vector: NDArray[np.float32]  # (dim,) as the encoder made it
    scores: NDArray[np.float32] | None  # (labels,) class probabilities, None without a head
    level_db: float | None = None  # root mean square of the signal, dBFS; None where that is not known


@dataclass(frozen=True, slots=True)
class EmbeddedAudio:
    """The segments of one piece of audio, and what its container says of it."""

    segments: tuple[EmbeddedSegment, ...]
    duration_s: float
    channels: int
    sampling_rate_hz: int
    format: str
    dynamics: Dynamics | None = None  # of all of its channels; None where there was no audio to tell them from


@dataclass(frozen=True, slots=True)
class ComparedAudio:
    """One of the two recordings of a comparison."""

    name: str
    segments: int
    speech_s: float
    emotion: str | None  # of the whole of it: a class of the encoder's, "unsure" or "too short"
    emotion_score: float | None  # its probability: the mean over the segments, weighted by their length
    arousal: float | None  # 0 calm to 1 excited, by those means
    valence: float | None  # 0 unpleasant to 1 pleasant
    channel: int  # the segment that is most like the other side's
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How alike two recordings feel."""

    score: float  # cosine of their mean vectors, weighted by the length of each segment
    best: float  # cosine of the two segments, one of each side, that are most alike
    a: ComparedAudio
    b: ComparedAudio
    space: Space  # with the projection that they were compared through
    reason: str  # for people: whose projection it is, or why there is none


@dataclass(frozen=True, slots=True)
class Status:
    """What a collection is, how much it holds, and how its index fares."""

    place: str
    collection: str  # its UUID
    space: Space | None  # None before the first ingest
    counts: Counts
    index: IndexStatus | None  # None before the first ingest
    transcribed: int = 0  # segments with a transcript
    named_vectors: tuple[NamedVectors, ...] = ()
    problem: str | None = None  # why the projection in use cannot be read; `space` is the encoder's then
    policy: Policy = field(default_factory=Policy)
    beside: str = ""  # another space that is being built, is kept or is leaving, and how far that is


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What was asked of the collection, by whom, and which ids came back."""

    id: int
    at: datetime
    actor: str  # "cli:kim", "http", "python" …
    action: str  # "query", "compare", "policy" …
    request: Mapping[str, Any]
    results: tuple[str, ...]  # ids, best first


def segment_durations(segments: Iterable[EmbeddedSegment]) -> NDArray[np.float64]:
    """Return the seconds of each segment, its weight in a mean."""
    return np.array([segment.end_s - segment.start_s for segment in segments])
