"""What answers look like, for the OpenAPI document. Made of the real dataclasses, so that they cannot go stale."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter

from e2vsearch.analysis.labels.types import ClassifiedMoment, ClassifierReport, ClassReport, LabelCount, LabelReport
from e2vsearch.analysis.maps.types import (
    Association,
    CentralMoment,
    Cluster,
    MapOptions,
    MapSummary,
    Proportion,
    TrendPoint,
)
from e2vsearch.emotions import UNSURE
from e2vsearch.search.result import QueryResult
from e2vsearch.server.schemas import (
    Classification,
    EmbeddedMoment,
    Embedding,
    Filters,
    Labels,
    MapPoints,
    Maps,
    MapView,
    RecordingPage,
    RecordingPeaks,
    RecordingSegments,
    SegmentPeaks,
    SegmentRecording,
)
from e2vsearch.types import (
    ComparedAudio,
    Comparison,
    Counts,
    Explanation,
    Hit,
    IndexStatus,
    Match,
    Recording,
    Segment,
    SharedEmotion,
    Space,
    Status,
)

_EMOTIONS = ("angry", "disgusted", "fearful", "happy", "neutral", "sad")

_SCORES = dict(zip(_EMOTIONS, (0.81, 0.06, 0.04, 0.01, 0.05, 0.03), strict=True))

_SPACE = Space("light", "9f2c61d0b7aa", 448, _EMOTIONS)

_META = {"agent": "Kim", "queue": "billing"}

_WHEN = datetime(2024, 3, 11, 9, 30, tzinfo=UTC)

HIT = Hit(
    score=0.9412,
    recording="call:2",
    segment="seg:14",
    name="2024-03-11_0042",
    uri="calls/2024-03-11_0042.wav",
    channel=1,
    start_s=761.2,
    end_s=766.4,
    segment_score=0.9412,
    emotion="angry",
    emotion_score=0.81,
    metadata=_META,
    scores=_SCORES,
    text="I have asked for this refund three times now.",
    label="testing the water",
    label_score=0.74,
    arousal=0.766,
    valence=0.235,
    percentile=99.7,
    why=Explanation(
        (Match("angry.wav", 0.4, 4.9, "seg:14", 761.2, 766.4, 0.9412),),
        (SharedEmotion("angry", 0.74, 0.81),),
    ),
)

QUERY_RESULT = QueryResult((HIT,), 184_203, 184_203, False, 0.038, ("angry.wav",), None)

_SIDE = ComparedAudio("a.wav", 3, 12.4, "angry", 0.7, 0.74, 0.27, 0, 4.1, 8.8)

COMPARISON = Comparison(
    0.8719,
    0.9133,
    _SIDE,
    replace(_SIDE, name="b.wav", emotion=UNSURE, emotion_score=None),
    _SPACE,
    "index uses no projection",
)

RECORDING = Recording(
    id="call:2",
    uri="calls/2024-03-11_0042.wav",
    name="2024-03-11_0042",
    content_sha256="5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
    size_bytes=19_660_844,
    mtime_ns=1_710_149_400_000_000_000,
    recorded_at=_WHEN,
    added_at=_WHEN,
    duration_s=1228.8,
    channels=2,
    sampling_rate_hz=8000,
    format="WAV ULAW",
    note="",
    metadata=_META,
)

SEGMENT = Segment(
    id=HIT.segment,
    recording=HIT.recording,
    channel=HIT.channel,
    start_s=HIT.start_s,
    end_s=HIT.end_s,
    emotion=HIT.emotion,
    emotion_score=HIT.emotion_score,
    scores=HIT.scores,
    text=HIT.text,
    label=HIT.label,
    label_score=HIT.label_score,
    arousal=HIT.arousal,
    valence=HIT.valence,
    level_db=-21.4,
)

EMBEDDING = Embedding(
    str(_SPACE),
    448,
    [EmbeddedMoment(0, 0.4, 4.9, "angry", 0.81, 0.766, 0.235, -21.4, _SCORES, [0.0412, -0.0187, 0.0663])],
)

RECORDING_PAGE = RecordingPage([RECORDING], "call:2")

RECORDING_SEGMENTS = RecordingSegments(RECORDING, [SEGMENT])

SEGMENT_RECORDING = SegmentRecording(SEGMENT, RECORDING)

RECORDING_PEAKS = RecordingPeaks(1228.8, 2, [[0.02, 0.31, 0.27], [0.0, 0.44, 0.12]])

SEGMENT_PEAKS = SegmentPeaks(761.2, 766.4, [0.02, 0.31, 0.27])

FILTERS = Filters(["emotion", "channel", "date"], {"agent": ["Kim"]}, list(_EMOTIONS), ["hesitant"])

STATUS = Status(
    "index",
    "8c3f0d4e-6a0b-4a55-9f0e-0f7a54b7d1c9",
    _SPACE,
    Counts(2104, 12, 184_203, 1_262_400.0, 902_118.4, 3, {"neutral": 120_442, "unsure": 53_890, "angry": 9_871}),
    IndexStatus(
        "ivf-rabitq", 184_000, 203, 0, 0.95, 0.957, 1024, 32, 5, "2024-03-12T01:00:00+00:00", 311_000_000, "1.15.1",
        184_000, "20240312T010000.000000Z-5f70bf18", "", None, None,
    ),
)  # fmt: skip

_CLASS = ClassReport("hesitant", 24, 11, 0.79, 0.8)

_TRAINED = ClassifierReport(
    name="labels", version=2, labels=("calm", "hesitant"), space=str(_SPACE), created_at=_WHEN, examples=48, groups=21,
    grouped_by="recording", folds=5, accuracy=0.81, accuracy_interval=(0.7, 0.9), accuracy_chance=0.5, uar=0.8,
    uar_interval=(0.69, 0.89), uar_chance=0.5, calibration_error=0.06, confusion=((20, 4), (5, 19)), classes=(_CLASS,),
    strength=0.1, temperature=1.2, contrast=None, seed=0,
)  # fmt: skip

LABELS = Labels([LabelCount("hesitant", 24, 311)], [_TRAINED])

LABEL_REPORT = LabelReport("hesitant", ("seg:14",), 1, 0, (), ())

CLASSIFICATION = Classification([ClassifiedMoment(0, 0.4, 4.9, "hesitant", 0.74, {"calm": 0.26, "hesitant": 0.74})])

_CLUSTER = Cluster(
    0, "angry · queue=billing", 212, 0.12, 74, 0.31, -0.42, (Proportion("angry", 140, 0.66, 5.1),), (),
    (Association("queue", "billing", 61, 28.4, 2.15, 0.0004),),
    (CentralMoment("seg:14", "call:2", HIT.name, 1, 761.2, 766.4, "angry", 0.81, HIT.text, 0.97),),
    "week", (TrendPoint("2024-03-11", 31, 402, 0.077),),
)  # fmt: skip

MAPS = Maps([MapSummary("map", "segment", None, _WHEN, 1_800, 40, 310, 9)])

MAP = MapView("map", "segment", None, _WHEN, MapOptions(min_cluster_size=18), 1_800, 310, 12, [_CLUSTER])

MAP_POINTS = MapPoints([12, 14], None, [0.31, -0.2], [-0.42, 0.77], [0, -1])


def of(value: Any, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """An example of an answer, as OpenAPI's `responses`."""
    shown = TypeAdapter(type(value)).dump_python(value, mode="json")
    return {status: {"content": {"application/json": {"example": shown}}}}
