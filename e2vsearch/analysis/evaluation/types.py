"""The frozen dataclasses of evaluations, the same in Python and on the command line.

Shares and precisions run from 0 to 1. A figure that cannot be computed is None, with a note of the evaluation why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from e2vsearch.types import By, Space

TripletKind = Literal["words", "voice", "both"]
Condition = Literal["clean", "telephone", "all"]
Range = tuple[float, float]
"""Low and high end of a 95 % bootstrap interval over speakers."""


@dataclass(frozen=True, slots=True)
class EmotionRanking:
    """A ranking's figures over the queries of one emotion."""

    map: float
    map_chance: float
    precision_at_10: float
    precision_chance: float
    queries: int


@dataclass(frozen=True, slots=True)
class Ranking:
    """Mean figures over queries, beside their expectation for a random order.

    Precision at a depth is the share of the query's emotion among that many first, or among all where there are fewer.
    """

    map: float  # mean average precision
    map_interval: Range | None  # None: fewer than two speakers
    map_chance: float
    precision_at_1: float
    precision_at_5: float
    precision_at_10: float
    precision_at_10_interval: Range | None
    precision_chance: float  # at any depth
    queries: int  # with relevant items
    by_emotion: Mapping[str, EmotionRanking]


@dataclass(frozen=True, slots=True)
class Leak:
    """The share of the query's own speaker, or sentence, among its ten nearest when nothing of theirs is left out."""

    at_10: float
    chance: float  # their share of the gallery
    ratio: float | None  # `at_10` over `chance`: 1.0 is no leak; None where chance is 0
    perfect: float | None  # their share among the query's emotion: what a ranking by emotion alone would have
    queries: int


@dataclass(frozen=True, slots=True)
class Triplets:
    """How often the positive is nearer than the negative; chance is 0.5."""

    accuracy: float
    interval: Range | None  # None: the anchors have one speaker
    n: int  # triplets drawn
    anchors: int  # items that could be an anchor


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of vectors; one that needs missing labels is None or left out."""

    n: int
    everyone: Ranking | None  # nothing left out but the query's own recording
    other_speakers: Ranking | None  # the query's speaker left out
    other_speakers_and_texts: Ranking | None  # and its text as well
    same_speaker: Leak | None
    same_text: Leak | None
    triplets: Mapping[TripletKind, Triplets]


@dataclass(frozen=True, slots=True)
class Recall:
    """Recalls of the encoder's class scores, among the classes that labels and encoder share."""

    uar: float  # recall, each emotion counting the same
    chance: float
    recalls: Mapping[str, float]  # by emotion, as the labels name it
    n: int


@dataclass(frozen=True, slots=True)
class Gain:
    """The gain of one set of vectors over another for the same items, the query's speaker left out."""

    map: float
    map_interval: Range | None
    precision_at_10: float
    precision_at_10_interval: Range | None


@dataclass(frozen=True, slots=True)
class YardstickRow:
    """mAP under one condition, the query's speaker left out: through a projection, and of the encoder's own vectors."""

    name: str
    map: float
    map_interval: Range | None
    raw: float
    raw_interval: Range | None
    gain: float  # map - raw
    gain_interval: Range | None  # of the difference, query by query
    map_chance: float
    queries: int  # of all draws
    adapted_on: int  # items, as those searched the mean over draws
    searched: int  # items: clips, or calls


@dataclass(frozen=True, slots=True)
class YardstickSummary:
    """Over rows, each counting the same."""

    map: float
    raw: float
    gain: float
    worst: YardstickRow  # the one whose gain is least
    rows: int


@dataclass(frozen=True, slots=True)
class LabelFailure:
    """A row of the labels that could not be used."""

    line: int  # of the CSV file
    path: str  # as written there
    reason: str  # a short stable word: "missing", "no-emotion", …
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of embedding."""

    done: int  # files
    total: int
    failed: int
    audio_s: float


@dataclass(frozen=True, slots=True)
class LayerRow:
    """Figures of one block's vectors through one projection."""

    block: int | None  # 1 is the first, the last is the encoder's vector; None: the encoder gives that alone
    projection: str
    map: float | None  # mean average precision, the query's speaker left out
    map_interval: Range | None
    map_chance: float | None
    triplets: Mapping[TripletKind, float | None]  # accuracy; chance is 0.5
    leak: float | None  # the own speaker's share of the ten nearest over its share of all: 1.0 is no leak


@dataclass(frozen=True, slots=True)
class LayerEvaluation:
    """How well each block of an encoder finds the same emotion, through each projection."""

    rows: tuple[LayerRow, ...]  # block by block
    n: int  # clips
    space: Space
    emotions: Mapping[str, int]  # clips of each
    speakers: int
    texts: int
    seed: int
    draws: int
    failures: tuple[LabelFailure, ...] = ()
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a space finds the same emotion. The first figures are those of the first condition in `figures`."""

    n: int  # items: segments or calls
    map: float | None  # the query's speaker left out, here and below
    map_chance: float | None
    precision_at_1: float | None
    precision_at_5: float | None
    precision_at_10: float | None
    precision_chance: float | None
    same_speaker_at_10: float | None  # share of the ten nearest when nothing is left out
    same_speaker_chance: float | None
    same_text_at_10: float | None
    same_text_chance: float | None
    triplets: Mapping[TripletKind, float | None]  # accuracy; chance is 0.5
    uar: float | None  # of the encoder's class scores
    uar_chance: float | None
    by: By
    space: Space
    projection: str
    emotions: Mapping[str, int]  # items of each
    speakers: int
    texts: int
    seed: int
    draws: int
    figures: Mapping[str, Figures]  # "clean", "telephone", "telephone_in_clean": telephone queries, clean recordings;
    # and through a projection also "raw": the encoder's own vectors, of the first condition
    recalls: Mapping[str, Recall]  # by condition: "clean", "telephone"
    splits: tuple[YardstickRow, ...] = ()  # one mood per voice, and adapted on skewed mixes; of the first condition
    failures: tuple[LabelFailure, ...] = ()
    notes: tuple[str, ...] = field(default=())
