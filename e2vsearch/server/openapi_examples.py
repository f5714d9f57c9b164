"""Examples of results for the OpenAPI document, made of the dataclasses themselves, so that they cannot go stale."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_EMOTIONS = ("angry", "disgusted", "fearful", "happy", "neutral", "sad")
_SCORES = dict(zip(_EMOTIONS, (0.81, 0.06, 0.04, 0.01, 0.05, 0.03), strict=True))
_WHEN = datetime(2024, 3, 11, 9, 30, tzinfo=UTC)
_LEAVES: dict[Any, Any] = {str: "", int: 0, float: 0.0, bool: False, datetime: _WHEN}

# by field, or by class and field; one whose type is not the field's is passed over, and the field gets a leaf
_VALUES: dict[str, Any] = {
    "score": 0.9412, "moment_score": 0.9412, "best": 0.9133, "cosine": 0.9412, "recording": "call:2",
    "segment": "seg:14", "name": "2024-03-11_0042", "uri": "calls/2024-03-11_0042.wav", "channel": 1, "start_s": 761.2,
    "end_s": 766.4, "reference_start_s": 0.4, "reference_end_s": 4.9, "emotion": "angry", "emotion_score": 0.81,
    "scores": _SCORES, "metadata": {"queue": "billing", "reason": "refund"},
    "text": "I have asked for this refund three times now.", "label": "hesitant", "label_score": 0.74, "arousal": 0.766,
    "valence": 0.235, "percentile": 99.7, "level_db": -21.4, "emotion_part": 0.37, "rest_part": 0.5712,
    "searched": 184_203, "total": 184_203, "seconds": 0.038, "dim": 448, "reference": "angry.wav", "encoder": "light",
    "revision": "9f2c61d0b7aa", "space": "light@9f2c61d0b7aa", "labels": ("calm", "hesitant"),
    "vector": [0.0412, -0.0187, 0.0663], "peaks": [0.02, 0.31, 0.27], "duration_s": 1228.8, "channels": 2,
    "sampling_rate_hz": 8000, "format": "WAV ULAW", "size_bytes": 19_660_844, "mtime_ns": 1_710_149_400_000_000_000,
    "next": "call:2", "speech_s": 12.4, "segments": 3, "examples": 24,
    "content_sha256": "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef", "recall": 0.957,
    "kind": "ivf-rabitq", "n": 184_000, "target": 0.95, "nlist": 1024, "nprobe": 32, "accuracy": 0.81, "uar": 0.8,
    "accuracy_chance": 0.5, "uar_chance": 0.5, "precision": 0.8, "version": 2, "groups": 21, "folds": 5,
    "grouped_by": "recording", "calibration_error": 0.06, "temperature": 1.2, "strength": 0.1, "added": 1,
    "probabilities": {"calm": 0.26, "hesitant": 0.74}, "points": 1_800, "none": 310, "size": 212, "share": 0.12,
    "calls": 74, "count": 140, "lift": 5.1, "key": "queue", "value": "billing", "expected": 28.4, "p": 0.0004,
    "period": "week", "min_samples": 10, "neighbors": 15, "dimensions": 10, "start": "2024-03-11", "of": 402,
    "removed": 1, "weight": 0.5, "penalty": 0.21, "SharedEmotion.reference": 0.74, "SharedEmotion.segment": 0.81,
    "IndexStatus.size": 311_000_000, "QueryResult.text": None, "QueryResult.hint": None,
    "QueryResult.references": ("angry.wav",),
    "Hit.alignment": (), "Explanation.avoided": (), "ComparedAudio.name": "angry.wav", "Recording.id": "call:2",
    "Segment.id": "seg:14", "RecordingPeaks.peaks": [[0.02, 0.31], [0.0, 0.44]],
    "RecordingPage.emotions": {"call:2": {"angry": 0.6, "neutral": 0.4}}, "RecordingPage.hint": None,
    "Filters.fields": ["emotion", "channel", "date"], "Filters.labels": ["calm"],
    "Filters.metadata": {"queue": ["billing"]}, "Filters.emotions": list(_EMOTIONS), "Space.labels": _EMOTIONS,
    "Space.projection": "shipped@4be1f0a2c9d3", "Status.place": "index",
    "Status.collection": "8c3f0d4e-6a0b-4a55-9f0e-0f7a54b7d1c9", "Status.named_vectors": (),
    "Counts.emotions": {"neutral": 120_442, "unsure": 53_890, "angry": 9_871}, "LabelCount.name": "hesitant",
    "LabelReport.examples": ("seg:14",), "LabelReport.replaced": (), "LabelReport.failures": (),
    "ClassifierReport.name": "labels", "ClassifierReport.confusion": ((20, 4), (5, 19)), "MapView.name": "map",
    "MapSummary.name": "map", "Cluster.name": "angry · queue=billing", "Proportion.name": "angry",
    "MapPoints.segments": [12, 14], "MapPoints.calls": None, "MapPoints.x": [0.31, -0.2], "MapPoints.y": [-0.42, 0.77],
    "MapPoints.cluster": [0, -1], "Policy.purpose": "find unhappy callers", "Policy.legal_basis": "Art. 6(1)(f) GDPR",
    "Policy.notice": "in the announcement", "Policy.contact": "privacy@example.com", "Policy.retention_days": 90,
    "Policy.channel_roles": {0: "agent", 1: "customer"}, "Policy.employee_fields": ("agent",), "Policy.audit": True,
    "Recording.roles": ("agent", "customer"), "Hit.role": "customer", "analysed": True, "talk_share": 0.71,
    "silence_share": 0.29, "longest_silence_s": 8.4, "overtalk": 0.05, "interruptions": 3, "turns": 64,
    "longest_turn_s": 21.6, "Dynamics.overlaps": ((98.3, 99.6),), "Dynamics.silences": ((402.4, 410.8),),
    "ChannelDynamics.talk_share": 0.42, "ChannelDynamics.turns": 32, "ChannelDynamics.interruptions": 1,
    "RoleShares.shares": {"angry": 0.41, "neutral": 0.37, "unsure": 0.22}, "strongest": ("seg:14",), "at_s": 761.2,
    "valence_before": 0.48, "valence_after": 0.26,
    "why": "undecided: hesitant 0.52, calm 0.48", "Suggestion.kind": "undecided", "other": "calm", "margin": 0.04,
    "Suggestion.label": "hesitant", "Suggestion.score": 0.52, "Suggestion.share": None, "LabelNeeds.train": 3,
    "LabelNeeds.measure": 5, "LabelNeeds.recordings": 3, "recordings": 12, "Classified.classifier": "labels",
    "scored": 184_203, "stored": 41_210, "skipped": 0, "Classified.labels": {"hesitant": 41_210}, "min_score": 0.5,
    "VectorObject.embedding": [0.0412, -0.0187, 0.0663], "VectorList.model": "light", "Model.id": "light",
    "Model.owned_by": "e2vsearch", "Trends.group": "queue",
    "Task.id": "0f4a9c2e71b3d586", "Task.step": "clustering", "Task.of": 1,
    "TrendRow.period": "2026-W47", "TrendRow.start": "2026-11-16", "TrendRow.group": "billing", "TrendRow.share": 0.31,
    "TrendRow.value": "angry", "TrendRow.low": 0.24, "TrendRow.high": 0.39, "TrendRow.segments": 41,
    "TrendRow.of_segments": 132, "TrendRow.recordings": 12, "TrendRow.of_recordings": 40, "TrendRow.where":
    'date >= 2026-11-16 and date < 2026-11-23 and queue = "billing" and emotion = "angry"',
}  # fmt: skip


def example_of(kind: Any) -> Any:
    """Return a value of a dataclass, or of any type that its fields have."""
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return kind(**{each.name: _field(kind.__name__, each.name, hints[each.name]) for each in fields(kind)})
    origin, arguments = get_origin(kind), [each for each in get_args(kind) if each not in (NoneType, Ellipsis)]
    if origin in (Union, UnionType):
        return example_of(arguments[0])
    if origin is Literal:
        return arguments[0]
    if origin is None:
        return _LEAVES[kind]
    if origin in (list, tuple):
        return origin(example_of(each) for each in arguments if is_dataclass(each))
    return {}


def _field(owner: str, name: str, hint: Any) -> Any:
    own = f"{owner}.{name}"
    if own in _VALUES:
        return _VALUES[own]
    members = [each for each in get_args(hint) if each is not NoneType]
    inner = members[0] if get_origin(hint) in (Union, UnionType) else hint
    if not any(map(is_dataclass, (inner, *get_args(inner)))) and get_origin(inner) is not Literal:
        value = _VALUES.get(name)
        if isinstance(value, get_origin(inner) or inner):
            return value
    # what may be missing and has no value of its own is missing, unless it is an object that is worth showing
    return None if inner is not hint and not is_dataclass(inner) else example_of(hint)
