"""The frozen dataclasses of labels and classifiers, and a report as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

Interval = tuple[float, float]

Kind = Literal["undecided", "between", "alike", "typical"]
"""Why a segment is suggested: the classifier, or the examples of two labels, are undecided about it; it is like the
examples of the only label; it stands for many others."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """A segment that had another label before."""

    example: str  # "seg:12", or the file and time
    before: str


@dataclass(frozen=True, slots=True)
class ExampleFailure:
    """An example that could not be read."""

    example: str
    reason: str  # a short stable word: "not-stored", "missing", …
    message: str


@dataclass(frozen=True, slots=True)
class LabelReport:
    """The examples that were given a label."""

    label: str
    examples: tuple[str, ...]  # every segment that has the label now: "seg:12", or the file and time
    added: int  # of these: had no label before
    already: int  # had this label before
    replaced: tuple[Replaced, ...]  # had another one, which it lost: a segment has one label
    failures: tuple[ExampleFailure, ...]
    near: str | None = None  # of a new label: one there was before whose name is nearly the same


@dataclass(frozen=True, slots=True)
class LabelCount:
    """A label, and how often it is used."""

    name: str
    examples: int  # labelled segments
    classified: int  # segments with the label by a classifier
    recordings: int  # that the examples are of, without those of audio that is not stored


@dataclass(frozen=True, slots=True)
class LabelledExample:
    """One labelled segment."""

    label: str
    example: str  # "seg:12", or the file and time
    recording: str | None  # "call:3"; None: of audio that is not stored
    speaker: str | None


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A segment to label next, and why."""

    segment: str  # "seg:12"
    recording: str  # "call:3"
    name: str  # the file's name without its suffix
    uri: str
    channel: int
    start_s: float
    end_s: float
    label: str | None  # by the classifier, or the nearest examples
    score: float | None  # the classifier's probability of it
    margin: float | None  # by which it leads over the next one: 0 is undecided
    why: str
    kind: Kind  # the same as one word
    other: str | None  # the label that comes next, of two that are near
    share: float | None  # of the segments that a typical one stands for
    text: str | None  # of the transcript, if there is one
    emotion: str | None  # a class of the encoder's, "unsure" or "too short"; None where it has no classes
    emotion_score: float | None  # its probability; None where no class is named


@dataclass(frozen=True, slots=True)
class ClassReport:
    """Figures of one label, on held-out speakers and recordings."""

    label: str
    examples: int
    groups: int  # speakers or recordings that they come from
    recall: float | None  # None: too few examples
    precision: float | None  # None: nothing was predicted as the label


@dataclass(frozen=True, slots=True)
class ClassifierReport:
    """How a classifier was trained, and its figures on held-out speakers and recordings.

    Figures are None where there are too few examples, with one of `warnings`.
    """

    name: str
    version: int
    labels: tuple[str, ...]  # in the order of `confusion`
    space: str  # of the vectors it takes
    created_at: datetime
    examples: int
    groups: int  # no two of them share a speaker or a recording
    grouped_by: str  # what groups are, in words
    folds: int  # of the cross-validation, 0 without one
    accuracy: float | None
    accuracy_interval: Interval | None  # 95 %, from a bootstrap over groups
    accuracy_chance: float  # of always naming the commonest label
    uar: float | None  # unweighted average recall, also called balanced accuracy
    uar_interval: Interval | None
    uar_chance: float
    calibration_error: float | None  # expected, over ten bins; every label counts the same
    confusion: tuple[tuple[int, ...], ...]  # row: true label, column: predicted one; () without figures
    classes: tuple[ClassReport, ...]
    strength: float  # C of the logistic regression: smaller is smoother
    temperature: float  # that logits are divided by
    contrast: str | None  # the label of unlabelled segments, where only one label has examples
    seed: int
    warnings: tuple[str, ...] = ()
    imported: bool = False  # from a file: its figures were measured on another collection


@dataclass(frozen=True, slots=True)
class Classified:
    """The predictions of a classifier in a collection, counted."""

    classifier: str
    version: int
    scored: int  # segments classified now
    stored: int  # of these, confident enough, and not of the contrast label
    skipped: int  # classified by this version before
    labels: Mapping[str, int]  # label → segments that have it from this classifier, earlier runs included
    min_score: float
    where: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class ClassifiedSegment:
    """One segment of a clip with its predicted label."""

    channel: int
    start_s: float
    end_s: float
    label: str
    score: float  # its probability
    probabilities: Mapping[str, float] = field(default_factory=dict)


_HEAD = ("name", "version", "labels", "created_at", "imported")
"""Columns of a classifier beside its report, or computed when it is read."""


def to_json(report: ClassifierReport) -> dict[str, Any]:
    """Return the report as plain values, without the columns beside it."""
    return {name: value for name, value in asdict(report).items() if name not in _HEAD}


def from_json(
    values: Mapping[str, Any],
    *,
    name: str,
    version: int,
    labels: tuple[str, ...],
    created_at: datetime,
    imported: bool | None = None,
) -> ClassifierReport:
    """Return the report of the values of `to_json`.

    Raises:
        ValueError: something is missing or of another type than a report has.
    """
    try:
        report = ClassifierReport(
            name=name,
            version=version,
            labels=labels,
            space=_text(values["space"]),
            created_at=created_at,
            examples=_count(values["examples"]),
            groups=_count(values["groups"]),
            grouped_by=_text(values["grouped_by"]),
            folds=_count(values["folds"]),
            accuracy=_maybe(values["accuracy"]),
            accuracy_interval=_interval(values["accuracy_interval"]),
            accuracy_chance=_number(values["accuracy_chance"]),
            uar=_maybe(values["uar"]),
            uar_interval=_interval(values["uar_interval"]),
            uar_chance=_number(values["uar_chance"]),
            calibration_error=_maybe(values["calibration_error"]),
            confusion=tuple(tuple(_count(cell) for cell in row) for row in values["confusion"]),
            classes=tuple(_class(each) for each in values["classes"]),
            strength=_number(values["strength"]),
            temperature=_number(values["temperature"]),
            contrast=None if values["contrast"] is None else _text(values["contrast"]),
            seed=_count(values["seed"]),
            warnings=tuple(_text(each) for each in values["warnings"]),
            imported=bool(values.get("imported", False)) if imported is None else imported,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a report without a sound {error}") from error
    k = len(labels)
    square = not report.confusion or [len(row) for row in report.confusion] == [k] * k
    if not square or tuple(each.label for each in report.classes) != labels:
        raise ValueError("a report of other labels")
    return report


def _class(values: Mapping[str, Any]) -> ClassReport:
    counted = _count(values["examples"]), _count(values["groups"])
    return ClassReport(_text(values["label"]), *counted, _maybe(values["recall"]), _maybe(values["precision"]))


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 2000:
        raise ValueError(f"a report with {str(value)[:40]!r} where text was due")
    return " ".join(value.split())  # one line, without control characters of a terminal


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"a report with {str(value)[:40]!r} where a number was due")
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError(f"a report with {str(value)[:40]!r} where a count was due")
    return value


def _maybe(value: Any) -> float | None:
    return None if value is None else _number(value)


def _interval(value: Any) -> Interval | None:
    if value is None:
        return None
    low, high = value
    return _number(low), _number(high)
