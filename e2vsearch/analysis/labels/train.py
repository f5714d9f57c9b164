"""Training of classifiers on examples, with a report cross-validated over speakers and recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.labels.example_sources import recording_of
from e2vsearch.analysis.labels.examples import checked_name
from e2vsearch.analysis.labels.fit import Fitted, Indices, counts, fit, join, out_of_fold
from e2vsearch.analysis.labels.metrics import ClassificationMetrics, measure
from e2vsearch.analysis.labels.types import ClassifierReport, ClassReport, from_json, to_json
from e2vsearch.catalog import labels as rows
from e2vsearch.catalog.labels import StoredClassifier
from e2vsearch.errors import AnalysisError, NotStored, TooFewExamples
from e2vsearch.feed import Batch

DEFAULT_NAME = "labels"
OTHER = "other"
"""The label of unlabelled segments where only one label has examples."""

LEAST_EXAMPLES = 3
"""Of a label, to train at all."""

FEW_EXAMPLES, FEW_GROUPS = 5, 3
"""Of a label; with fewer, the report warns that its figures mean little."""

_CONTRAST_SHARE = 5  # unlabelled segments for each example
_CONTRAST_LIMITS = (100, 2000)  # of them, at least and at most, where the collection has so many


@dataclass(frozen=True, slots=True)
class _Examples:
    labels: tuple[str, ...]
    vectors: NDArray[np.float32]  # (n, dim)
    truth: Indices  # (n,) into labels
    groups: Indices  # (n,)
    contrast: str | None


def train(
    context: AnalysisContext,
    name: str = DEFAULT_NAME,
    *,
    labels: Sequence[str] | None = None,
    speaker_keys: Sequence[str] = (),
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> ClassifierReport:
    """Train a classifier on the examples, measure it on held-out speakers, and store it as the next version.

    Logistic regression on standardised unit vectors, every label weighing the same. Cross-validation keeps all examples
    of a speaker, and all of a recording, on one side; a speaker is the example's own, else what the recording's
    metadata have under `speaker_keys`. It is nested: no figure comes from examples that anything was chosen on. The
    classifier that is stored is trained on all of them. Where only one label has examples, unlabelled segments of the
    collection, drawn at random, are the contrast "other".

    Args:
        context: the collection's.
        name: of the classifier; training again makes its next version.
        labels: only these; by default every label that has examples.
        speaker_keys: columns of ``--meta`` that name who speaks, such as "customer".
        seed: of splits, bootstrap and contrast; the same seed and examples give the same classifier.
        progress: called with the step, ``measuring`` or ``training``, how much of it is done, and of how much.

    Raises:
        TooFewExamples: a label has fewer than `LEAST_EXAMPLES`, or there is nothing to distinguish.
        NotStored: a label without examples.
        AnalysisError: a speaker key that no recording has.
        MissingExtra: scikit-learn is not installed.
    """
    name = checked_name(name, "classifier")
    space = context.catalog.require_space()
    found = _examples(context, labels, speaker_keys, seed)
    held_out = out_of_fold(found.vectors, found.truth, found.groups, seed, progress)
    folds = 0 if held_out is None else held_out[1]
    measured = None if held_out is None else measure(found.truth, held_out[0], found.groups, seed)
    if progress is not None:
        progress("training", 0, 1)
    fitted = fit(found.vectors, found.truth, found.groups, seed)
    by = " or ".join(("speaker named with the example", *speaker_keys))
    report = ClassifierReport(
        name=name,
        version=0,
        labels=found.labels,
        space=str(space),
        created_at=datetime.now(UTC),
        examples=found.truth.size,
        groups=int(found.groups.max()) + 1,
        grouped_by=f"recording, and {by} where there is one",
        folds=folds,
        accuracy=measured.accuracy if measured else None,
        accuracy_interval=measured.accuracy_interval if measured else None,
        accuracy_chance=float(np.bincount(found.truth).max() / found.truth.size),
        uar=measured.uar if measured else None,
        uar_interval=measured.uar_interval if measured else None,
        uar_chance=1 / len(found.labels),
        calibration_error=measured.calibration_error if measured else None,
        confusion=tuple(tuple(row) for row in measured.confusion.tolist()) if measured else (),
        classes=_classes(found, measured),
        strength=fitted.strength,
        temperature=fitted.temperature,
        contrast=found.contrast,
        seed=seed,
        warnings=tuple(_warnings(found, measured, fitted)),
    )
    parameters = fitted.model.pack()
    return report_of(rows.store_classifier(context.catalog, name, found.labels, parameters, to_json(report)))


def classifiers(context: AnalysisContext) -> tuple[ClassifierReport, ...]:
    """Return the newest version of every classifier, by name."""
    return tuple(report_of(stored) for stored in rows.classifiers(context.catalog))


def newest(context: AnalysisContext, name: str | None = None) -> StoredClassifier:
    """Return the newest version of a classifier; without a name, of the one trained last.

    Raises:
        NotStored: there is none.
    """
    stored = rows.classifiers(context.catalog)
    if not stored:
        raise NotStored(f"{context.catalog.name} has no classifier yet - train one with: e2vsearch train")
    if name is None:
        return max(stored, key=lambda each: each.id)
    for each in stored:
        if each.name == name:
            return each
    raise NotStored(f"there is no classifier {name!r} - known: {', '.join(each.name for each in stored)}")


def remove_classifier(context: AnalysisContext, name: str) -> int:
    """Remove a classifier and its predictions, and return how many versions there were.

    Raises:
        NotStored: there is none of that name.
    """
    return rows.drop_classifier(context.catalog, newest(context, name).name)


def report_of(stored: StoredClassifier) -> ClassifierReport:
    """Return the report of a classifier's training.

    Raises:
        AnalysisError: it is damaged.
    """
    try:
        return from_json(
            stored.report,
            name=stored.name,
            version=stored.version,
            labels=stored.labels,
            created_at=stored.created_at,
        )
    except ValueError as error:
        raise AnalysisError(f"classifier {stored.name!r} is damaged ({error}) - train it again") from error


def _examples(
    context: AnalysisContext, labels: Sequence[str] | None, speaker_keys: Sequence[str], seed: int
) -> _Examples:
    catalog = context.catalog
    known = catalog.metadata_keys() if speaker_keys else frozenset()
    for key in speaker_keys:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known)) or 'none'}"
            raise AnalysisError(f"no recording has metadata called {key!r} to tell speakers by - {hint}")
    stored = rows.examples(catalog, labels)
    numbers = Counter(each.label for each in stored)
    for label in labels or ():
        if label not in numbers:
            raise NotStored(f"no example is labelled {label!r} - give some with: e2vsearch label {label!r} EXAMPLE...")
    if not numbers:
        raise TooFewExamples("nothing is labelled yet - give examples with: e2vsearch label NAME EXAMPLE...")
    scarce = [f"{label!r} has {count}" for label, count in sorted(numbers.items()) if count < LEAST_EXAMPLES]
    if scarce:
        raise TooFewExamples(
            f"{', '.join(scarce)} of the {LEAST_EXAMPLES} examples that a label needs at least - "
            "e2vsearch label suggest shows what to label next"
        )
    vectors = np.stack([each.vector for each in stored])
    truth = [each.label for each in stored]
    speakers = [each.speaker for each in stored]
    recordings: list[int | None] = [each.recording for each in stored]
    files = [recording_of(each.source) for each in stored]
    contrast = OTHER if len(numbers) == 1 else None
    if contrast is not None:
        (only,) = numbers
        batch = _contrast(context, only, len(stored), seed)
        vectors = np.concatenate([vectors, batch.vectors])
        truth += [contrast] * batch.ids.size
        speakers += [None] * batch.ids.size
        recordings += batch.recordings.tolist()
        files += [""] * batch.ids.size
    names = (*sorted(numbers), *([contrast] if contrast else []))
    ties = _ties(context, speakers, recordings, files, speaker_keys)
    return _Examples(names, vectors, np.array([names.index(each) for each in truth], np.int64), join(ties), contrast)


def _contrast(context: AnalysisContext, only: str, examples: int, seed: int) -> Batch:
    if only == OTHER:
        raise TooFewExamples(f"only {OTHER!r} has examples - give some of what it is other than")
    ids = np.setdiff1d(rows.segment_ids(context.catalog), rows.labelled(context.catalog), assume_unique=True)
    least, most = _CONTRAST_LIMITS
    wanted = min(max(least, _CONTRAST_SHARE * examples), most, ids.size)
    if wanted < LEAST_EXAMPLES:
        raise TooFewExamples(f"only {only!r} has examples, and nothing else is stored - label something else as well")
    return context.catalog.feed().fetch(np.random.default_rng(seed).choice(ids, wanted, replace=False))


def _ties(
    context: AnalysisContext,
    speakers: Sequence[str | None],
    recordings: Sequence[int | None],
    files: Sequence[str],
    speaker_keys: Sequence[str],
) -> list[list[Hashable]]:
    metadata = {}
    if speaker_keys:
        stored = sorted({number for number in recordings if number is not None})
        metadata = {number: recording.metadata for number, recording in context.catalog.recordings(stored)}
    ties: list[list[Hashable]] = []
    for speaker, number, file in zip(speakers, recordings, files, strict=True):
        tied: list[Hashable] = [("file", file) if number is None else ("recording", number)]
        if speaker is not None:
            tied.append(("speaker", speaker))
        elif number is not None:
            of = metadata.get(number, {})
            tied += [("speaker", of[key]) for key in speaker_keys if key in of]
        ties.append(tied)
    return ties


def _classes(found: _Examples, measured: ClassificationMetrics | None) -> tuple[ClassReport, ...]:
    sizes, groups = np.bincount(found.truth).tolist(), counts(found.truth, found.groups)
    made = []
    for at, label in enumerate(found.labels):
        recall, precision = None, None
        if measured is not None:
            right, predicted = int(measured.confusion[at, at]), int(measured.confusion[:, at].sum())
            recall, precision = right / sizes[at], right / predicted if predicted else None
        made.append(ClassReport(label, sizes[at], groups[at], recall, precision))
    return tuple(made)


def _warnings(found: _Examples, measured: ClassificationMetrics | None, fitted: Fitted) -> list[str]:
    warnings = []
    sizes, groups = np.bincount(found.truth).tolist(), counts(found.truth, found.groups)
    for at, label in enumerate(found.labels):
        if sizes[at] < FEW_EXAMPLES:
            warnings.append(f"{label!r} has {sizes[at]} examples: too few to measure it - give {FEW_EXAMPLES} or more")
        if groups[at] == 1:
            warnings.append(
                f"all examples of {label!r} are tied to one speaker or recording, so it may be the voice that is "
                "recognised - add other speakers"
            )
        elif groups[at] < FEW_GROUPS:
            warnings.append(f"{label!r} comes from {groups[at]} speakers or recordings: its figures say little")
    if found.contrast is not None:
        drawn = int((found.truth == len(found.labels) - 1).sum())
        warnings.append(
            f"only {found.labels[0]!r} has examples: the contrast is {drawn} unlabelled segments drawn at random, some "
            "of which may have the label as well"
        )
    if measured is None:
        warnings.append("no figures: there are too few speakers or recordings to hold some of every label out")
    elif measured.uar_interval[0] <= 1 / len(found.labels):
        warnings.append("on these examples it is no better than chance - give more, or clearer ones")
    if not fitted.folds:
        warnings.append("probabilities are not calibrated: too few speakers or recordings to hold any out")
    return warnings
