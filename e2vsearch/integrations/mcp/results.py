"""What the tools answer, as dataclasses: their fields are the output schemas that clients see.

These have no slots: the SDK takes a class's attributes for defaults, and a slot is an attribute. Hits, recordings and
segments in them are those of `e2vsearch.types`, as every other door returns them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Annotated

from pydantic import Field

from e2vsearch.analysis.labels.types import ClassifierReport, LabelCount
from e2vsearch.analysis.maps.types import Cluster, MapSummary
from e2vsearch.display import evenly, nearest
from e2vsearch.search.result import QueryResult
from e2vsearch.types import ComparedAudio, Hit, Recording, Segment

CLIP_URI = "e2vsearch://segment/{number}/audio.wav"
"""Where a segment's sound can be read."""

MAX_MATCHES = 12
"""Of a hit: a reference may be a recording of hundreds of segments."""


@dataclass(frozen=True)
class Similar:
    """The answer of `find_similar`: a `QueryResult`, in which each hit has `MAX_MATCHES` matches at most."""

    hits: list[Hit]
    searched: int
    total: int
    exact: bool
    seconds: float
    references: tuple[str, ...]
    where: str | None
    text: str | None
    avoid: tuple[str, ...]
    trajectory: bool
    hint: str | None  # why there are no hits, where the filter names what does not exist
    encoder: str  # whose vectors were compared

    @classmethod
    def of(cls, result: QueryResult, encoder: str) -> Similar:
        """Return the answer of a query, by vectors of that encoder."""
        given = {each.name: getattr(result, each.name) for each in fields(result)}
        return cls(**{**given, "hits": [_shortened(hit) for hit in result]}, encoder=encoder)


@dataclass(frozen=True)
class RecordingSegments:
    """The answer of `get_recording`."""

    recording: Recording
    segments: list[Segment]  # in order of time; as many as were asked for
    total: int  # segments in the recording


@dataclass(frozen=True)
class ComparedRecordings:
    """The answer of `compare`."""

    score: float  # cosine of the mean vectors, weighted by duration; 1.0 is identical
    best: float  # cosine of the two segments, one of each recording, that are most alike
    a: ComparedAudio
    b: ComparedAudio
    encoder: str
    projection: str  # that vectors were compared through; "raw": as the encoder made them


@dataclass(frozen=True)
class Classifier:
    """A classifier of labels of one's own, and how far it can be trusted."""

    name: str
    version: int
    labels: tuple[str, ...]
    examples: Annotated[int, Field(description="Segments that it was trained on.")]
    uar: Annotated[
        float | None, Field(description="Unweighted average recall on other speakers; null: too few examples to say.")
    ]
    uar_chance: Annotated[float, Field(description="The same for guessing.")]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, report: ClassifierReport) -> Classifier:
        """Return a trained classifier, in short."""
        return cls(**{each.name: getattr(report, each.name) for each in fields(cls)})


@dataclass(frozen=True)
class Labels:
    """The answer of `list_labels`."""

    emotions: list[str]  # the encoder's classes: emotion:NAME is a reference
    labels: list[LabelCount]  # labels of one's own: label:NAME is a reference
    classifiers: list[Classifier]
    fields: list[str]  # what `where` may name besides metadata
    metadata: Mapping[str, list[str]]  # keys that `where` may name, with frequent values
    left_out: list[str]  # keys that name employees, by which no emotion is analysed


@dataclass(frozen=True)
class Maps:
    """The answer of `list_maps`."""

    maps: list[MapSummary]


@dataclass(frozen=True)
class ClusterOfMap:
    """The answer of `describe_cluster`."""

    map: str
    by: str  # what a point is
    where: str | None  # the filter that the map was made with
    created_at: datetime
    cluster: Cluster


def clip_uri(segment: str) -> str:
    """Return the resource of a segment's sound, by its id ``seg:14``."""
    return CLIP_URI.format(number=segment.removeprefix("seg:"))


def _shortened(hit: Hit) -> Hit:
    why = hit.why
    if why is not None and len(why.matches) > MAX_MATCHES:
        why = replace(why, matches=tuple(nearest(why.matches, MAX_MATCHES)))
    return replace(hit, alignment=tuple(evenly(hit.alignment, MAX_MATCHES)), why=why)
