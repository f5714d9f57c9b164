"""The parameters of requests, in their paths and after ``?``, with their bounds."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path, Query
from pydantic import Field

MAX_WHERE = 2000
MAX_PEAKS = 4000
MAX_CONTEXT_S = 30.0
NAMED = r"^[^\x00-\x1f\x7f]+$"  # one line of text, whatever it names

SegmentId = Annotated[str, Field(pattern=r"^seg:[0-9]{1,18}$")]

RecordingPath = Annotated[
    str, Path(pattern=r"^(call:)?[0-9]{1,18}$", description="`call:2`, or just `2`.", examples=["call:2"])
]

SegmentPath = Annotated[
    str, Path(pattern=r"^(seg:)?[0-9]{1,18}$", description="`seg:14`, or just `14`.", examples=["seg:14"])
]

LabelPath = Annotated[str, Path(min_length=1, max_length=64, pattern=NAMED, examples=["hesitant"])]
MapPath = Annotated[str, Path(min_length=1, max_length=64, pattern=NAMED, examples=["map"])]

TaskPath = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", examples=["0f4a9c2e71b3d586"])]

MapQuery = Annotated[
    str | None,
    Query(min_length=1, max_length=64, pattern=NAMED, description="Whose clusters; `map` by default."),
]

PeriodQuery = Annotated[
    Literal["day", "week", "month", "none"],
    Query(description="Of when recordings were made, UTC, weeks as in ISO 8601; `none`: all times at once."),
]

OfQuery = Annotated[
    Literal["emotion", "label", "cluster"],
    Query(description="The emotion that is shown, labels of one's own, or the clusters of a map."),
]

GroupQuery = Annotated[
    str | None,
    Query(min_length=1, max_length=255, description="A metadata key, `role` or `channel`.", examples=["queue"]),
]

MetadataPath = Annotated[
    str, Path(min_length=1, max_length=255, pattern=NAMED, description="A metadata key.", examples=["queue"])
]

WhereQuery = Annotated[
    str | None,
    Query(min_length=1, max_length=MAX_WHERE, description="Recordings with a segment that passes this filter."),
]

SegmentWhereQuery = Annotated[
    str | None, Query(min_length=1, max_length=MAX_WHERE, description="Only segments that pass this filter.")
]

ClassifierQuery = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=64,
        pattern=NAMED,
        description="Whose margins count; by default the one that was trained last, without one the examples.",
    ),
]

SuggestionsQuery = Annotated[int, Query(ge=1, le=200, description="How many at most.")]

LimitQuery = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]

AfterQuery = Annotated[
    str | None, Query(pattern=r"^(call:)?[0-9]{1,18}$", description="`next` of the page before.", examples=["call:40"])
]

OrderQuery = Annotated[
    Literal["id", "newest"],
    Query(description="By id, or the recordings that were made last first, with the emotions in each."),
]

TextQuery = Annotated[
    str | None,
    Query(min_length=1, max_length=500, description="Recordings with a segment in which these words are said."),
]

PeaksQuery = Annotated[int, Query(ge=1, le=MAX_PEAKS, description="Points of the waveform.")]

ContextQuery = Annotated[
    float, Query(ge=0, le=MAX_CONTEXT_S, description="Seconds before and after it that are added.")
]

StartQuery = Annotated[
    float, Query(ge=0, allow_inf_nan=False, description="Seconds of the recording before which nothing is sent.")
]

EndQuery = Annotated[
    float | None,
    Query(ge=0, allow_inf_nan=False, description="Seconds from which on nothing is sent; its end by default."),
]

Sha256Query = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9a-f]{16,64}$",
        description="The beginning of the recording's SHA-256. A page from elsewhere plays nothing without it.",
    ),
]

SegmentsQuery = Annotated[
    list[SegmentId] | None, Query(max_length=100, description="Only these; all with the label by default.")
]
