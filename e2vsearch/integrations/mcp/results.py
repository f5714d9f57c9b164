"""What the tools answer, as dataclasses: their fields are the output schemas that clients see. Knows no protocol.

Those that a tool returns have no slots: the SDK takes a class's attributes for defaults, and a slot is an attribute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field

from e2vsearch.analysis.labels.types import ClassifierReport, LabelCount
from e2vsearch.analysis.maps.types import Cluster, MapSummary
from e2vsearch.listing import evenly, nearest
from e2vsearch.types import ComparedAudio, Hit, Match, NegativeMatch, QueryResult, Recording, Segment, SharedEmotion

CLIP_URI = "e2vsearch://segment/{number}/audio.wav"
"""Where a moment's sound can be read."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One spoken span of one channel of a call."""

    segment: Annotated[str, Field(description="Its id, 'seg:14': a reference for further searches.")]
    call: Annotated[str, Field(description="The id of the call it is of, 'call:3'.")]
    name: Annotated[str, Field(description="The call's file name, without its suffix.")]
    channel: Annotated[int, Field(description="The voice line: often 0 is the agent, 1 the customer.")]
    start_s: float
    end_s: float
    emotion: Annotated[
        str | None, Field(description="One of the encoder's emotion classes; 'unsure' or 'too short': none is clear.")
    ]
    emotion_score: Annotated[float | None, Field(description="Its probability, 0 to 1; null where none is clear.")]
    arousal: Annotated[float | None, Field(description="0 calm to 1 excited, by the probabilities of all classes.")]
    valence: Annotated[float | None, Field(description="0 unpleasant to 1 pleasant, in the same way.")]
    scores: Annotated[Mapping[str, float], Field(description="The probability of each emotion class.")]
    label: Annotated[str | None, Field(description="The label that a person or a classifier gave it.")]
    label_score: Annotated[float | None, Field(description="Its probability; 1.0 where a person gave it.")]
    text: Annotated[str | None, Field(description="What is said, where there is a transcript.")]
    clip: Annotated[str, Field(description="The resource that holds its sound as WAV.")]


MAX_MATCHES = 12
"""Of a hit: a reference may be a call of hundreds of moments."""


@dataclass(frozen=True, slots=True)
class Why:
    """Why a hit is one."""

    shared: Annotated[
        tuple[SharedEmotion, ...], Field(description="Probabilities of what both the reference and it feel.")
    ]
    matches: Annotated[list[Match], Field(description="Moments of the reference and those of the call they are like.")]
    against: Annotated[
        tuple[NegativeMatch, ...], Field(description="What the likeness to `but_not` took off the score.")
    ]
    emotion_part: Annotated[
        float | None, Field(description="Of moment_score: what lies in the directions that tell emotions apart.")
    ]
    rest_part: Annotated[float | None, Field(description="Of moment_score: all else, voice and words among it.")]


@dataclass(frozen=True, slots=True)
class Found:
    """A moment, how near it is to the reference, and what is known of its call."""

    score: Annotated[float, Field(description="Cosine with the reference, 1.0 is identical; the call's, by call.")]
    moment_score: Annotated[float, Field(description="Cosine of this very moment with the reference.")]
    moment: Moment
    metadata: Annotated[Mapping[str, str], Field(description="The call's metadata: agent, queue, date …")]
    percentile: Annotated[
        float | None, Field(description="With explain: moment_score is above that many % of random pairs of moments.")
    ]
    why: Annotated[Why | None, Field(description="With explain.")]
    course: Annotated[list[Match], Field(description="With arc: which moments met, in order of time.")]


@dataclass(frozen=True)
class Similar:
    """The answer of `find_similar`."""

    hits: Annotated[list[Found], Field(description="Best first.")]
    searched: Annotated[int, Field(description="Moments that the filters left to choose from.")]
    total: Annotated[int, Field(description="Moments in the collection.")]
    exact: Annotated[bool, Field(description="Every one was compared; false: an index chose candidates.")]
    where: str | None
    text: str | None
    encoder: Annotated[str, Field(description="The model whose vectors were compared.")]


@dataclass(frozen=True)
class Call:
    """The answer of `get_call`."""

    call: str
    name: str
    uri: str
    recorded_at: Annotated[str, Field(description="ISO 8601, UTC.")]
    duration_s: float
    channels: int
    metadata: Mapping[str, str]
    moments: Annotated[list[Moment], Field(description="In order of time; as many as were asked for.")]
    total: Annotated[int, Field(description="Moments in the call.")]


@dataclass(frozen=True)
class Compared:
    """The answer of `compare`."""

    score: Annotated[float, Field(description="Cosine of the mean vectors, weighted by duration; 1.0 is identical.")]
    best: Annotated[float, Field(description="Cosine of the two moments, one a side, that are most alike.")]
    a: ComparedAudio
    b: ComparedAudio
    encoder: str
    projection: Annotated[
        str, Field(description="What vectors were compared through; 'raw': as the encoder made them.")
    ]


@dataclass(frozen=True, slots=True)
class Classifier:
    """A classifier of labels of one's own, and how far it can be trusted."""

    name: str
    version: int
    labels: tuple[str, ...]
    examples: Annotated[int, Field(description="Moments that it was trained on.")]
    uar: Annotated[
        float | None, Field(description="Unweighted average recall on other speakers; null: too few examples to say.")
    ]
    uar_chance: Annotated[float, Field(description="The same for guessing.")]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """The answer of `list_labels`."""

    emotions: Annotated[list[str], Field(description="The encoder's classes: emotion:NAME is a reference.")]
    labels: Annotated[list[LabelCount], Field(description="Labels of one's own: label:NAME is a reference.")]
    classifiers: list[Classifier]
    fields: Annotated[list[str], Field(description="What `where` may name besides metadata.")]
    metadata: Annotated[
        Mapping[str, list[str]], Field(description="Metadata keys that `where` may name, with frequent values.")
    ]


@dataclass(frozen=True)
class Maps:
    """The answer of `list_maps`."""

    maps: list[MapSummary]


@dataclass(frozen=True)
class Described:
    """The answer of `describe_cluster`."""

    map: str
    by: Annotated[str, Field(description="What a point is: a segment or a call.")]
    where: Annotated[str | None, Field(description="The filter that the map was made with.")]
    created_at: datetime
    cluster: Cluster


def moment_of(segment: Segment, name: str) -> Moment:
    """A stored segment of the call of that name."""
    return _moment(segment.id, segment.recording, name, segment)


def found_of(hit: Hit) -> Found:
    """A hit."""
    why = hit.why
    return Found(
        score=hit.score,
        moment_score=hit.segment_score,
        moment=_moment(hit.segment, hit.recording, hit.name, hit),
        metadata=hit.metadata,
        percentile=hit.percentile,
        why=None
        if why is None
        else Why(why.shared, list(nearest(why.matches, MAX_MATCHES)), why.avoided, why.emotion_part, why.rest_part),
        course=list(evenly(hit.course, MAX_MATCHES)),
    )


def _moment(segment: str, call: str, name: str, each: Segment | Hit) -> Moment:
    return Moment(
        segment=segment,
        call=call,
        name=name,
        channel=each.channel,
        start_s=each.start_s,
        end_s=each.end_s,
        emotion=each.emotion,
        emotion_score=each.emotion_score,
        arousal=each.arousal,
        valence=each.valence,
        scores=each.scores,
        label=each.label,
        label_score=each.label_score,
        text=each.text,
        clip=clip_uri(segment),
    )


def similar_of(result: QueryResult, encoder: str) -> Similar:
    """The result of a query, by vectors of that encoder."""
    hits = [found_of(hit) for hit in result]
    return Similar(hits, result.searched, result.total, result.exact, result.where, result.text, encoder)


def call_of(recording: Recording, segments: list[Segment], total: int) -> Call:
    """A stored recording with some of its segments, of so many."""
    return Call(
        call=recording.id,
        name=recording.name,
        uri=recording.uri,
        recorded_at=recording.recorded_at.isoformat(),
        duration_s=recording.duration_s,
        channels=recording.channels,
        metadata=recording.metadata,
        moments=[moment_of(segment, recording.name) for segment in segments],
        total=total,
    )


def classifier_of(report: ClassifierReport) -> Classifier:
    """A trained classifier, in short."""
    return Classifier(
        name=report.name,
        version=report.version,
        labels=report.labels,
        examples=report.examples,
        uar=report.uar,
        uar_chance=report.uar_chance,
        warnings=report.warnings,
    )


def clip_uri(segment: str) -> str:
    """The resource of a segment's sound, by its id ``seg:14``."""
    return CLIP_URI.format(number=segment.removeprefix("seg:"))
