"""Examples of labels: added, removed and listed; one bad file stops nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.labels.example_sources import Example, TimeRange, expand_folder, name_of, segments_of
from e2vsearch.analysis.labels.types import ExampleFailure, LabelCount, LabelledExample, LabelReport, Replaced
from e2vsearch.catalog import labels as rows
from e2vsearch.catalog.labels import NewExample
from e2vsearch.csv_table import read_table
from e2vsearch.errors import E2vsearchError, NotStored, QueryError, SettingsError
from e2vsearch.types import MAX_NAME, number_of, recording_id

_ALIKE = 0.8  # of difflib's ratio: "hesitent" and "hesitant" have .875


@dataclass(frozen=True, slots=True)
class _Wanted:
    example: Example
    time_range: TimeRange | None
    speaker: str | None


def add_examples(context: AnalysisContext, label: str, *examples: Example, speaker: str | None = None) -> LabelReport:
    """Label segments. A segment has one label: a former one is replaced, and reported.

    Args:
        context: the collection's; audio that it does not hold is embedded with its encoder, and stored as vectors.
        label: such as "hesitant".
        examples: see `example_sources.Example`.
        speaker: who speaks in all of them, so that no speaker is in both training and test data.

    Returns:
        The report; examples that could not be read are among its failures, and stop nothing.

    Raises:
        QueryError: a label that cannot be one.
        NoCollection: nothing has been ingested yet.
    """
    label, speaker = checked_name(label, "label"), _speaker(speaker)
    context.catalog.require_space()
    failures: list[ExampleFailure] = []
    wanted = [_Wanted(one, None, speaker) for example in examples for one in _each(example, failures)]
    return _add(context, label, wanted, failures)


def add_examples_from(context: AnalysisContext, csv_path: str | os.PathLike[str]) -> tuple[LabelReport, ...]:
    """Label segments by a CSV, whose columns are ``label``, and ``segment`` or ``path``.

    There may be ``start_s, end_s, channel, speaker`` beside them. Paths are relative to the table, else to the
    working folder. Rows that make no sense are failures of their label.

    Returns:
        One report a label, in the order of the table.

    Raises:
        SettingsError: the table cannot be read, or lacks those columns.
        NoCollection: nothing has been ingested yet.
    """
    context.catalog.require_space()
    table = Path(csv_path).expanduser()
    by_label: dict[str, tuple[list[_Wanted], list[ExampleFailure]]] = {}
    for line, cells in _rows(table):
        label = cells.get("label", "")
        try:
            label = checked_name(label, "label")
            wanted, failures = by_label.setdefault(label, ([], []))
            one = _of_row(cells, table.parent)
        except E2vsearchError as error:
            _, failures = by_label.setdefault(label, ([], []))
            failures.append(ExampleFailure(f"{table} line {line}", error.reason, f"{table} line {line}: {error}"))
            continue
        wanted += [_Wanted(part, one.time_range, one.speaker) for part in _each(one.example, failures)]
    return tuple(_add(context, label, *both) for label, both in by_label.items())


def remove_examples(context: AnalysisContext, *, label: str | None = None, segments: Iterable[str] = ()) -> int:
    """Remove labels.

    Args:
        context: the collection's.
        label: only this one; all of its examples where no `segments` are named.
        segments: ``seg:12``, or a file as `list_examples` names it.

    Returns:
        How many examples there were.

    Raises:
        NotStored: there is no such label.
        QueryError: neither a label nor a segment is named.
    """
    chosen = list(segments)
    if label is None and not chosen:
        raise QueryError("name the label, or the segments, that examples are to be removed of")
    if label is not None and not rows.counts(context.catalog).get(label, (0, 0, 0))[0]:
        raise NotStored(f"no example is labelled {label!r} - {_known(context)}")
    numbers = [number_of(name, "seg") for name in chosen if name.startswith("seg:")]
    files = [name for name in chosen if not name.startswith("seg:")]
    sources = [*files, *(os.path.abspath(name) for name in files)]  # noqa: PTH100
    return rows.remove_examples(context.catalog, label, numbers, sources)


def list_labels(context: AnalysisContext) -> tuple[LabelCount, ...]:
    """Return every label, by name, with its numbers of examples, of classified segments, and of recordings."""
    return tuple(LabelCount(name, *numbers) for name, numbers in rows.counts(context.catalog).items())


def list_examples(context: AnalysisContext, label: str) -> tuple[LabelledExample, ...]:
    """Return the examples of a label, the oldest first.

    Raises:
        NotStored: it has none.
    """
    found = rows.examples(context.catalog, [label])
    if not found:
        raise NotStored(f"no example is labelled {label!r} - {_known(context)}")
    return tuple(
        LabelledExample(
            each.label,
            rows.id_of(each),
            None if each.recording is None else recording_id(each.recording),
            each.speaker,
        )
        for each in found
    )


def checked_name(name: str, kind: str) -> str:
    """Return a name as it is stored.

    Raises:
        QueryError: it is empty or too long, or holds what a filter could not write.
    """
    plain = " ".join(name.split())
    if not plain or len(plain) > MAX_NAME or '"' in plain or not plain.isprintable():
        raise QueryError(f'{name[:80]!r} cannot be the name of a {kind} - take 1 to {MAX_NAME} characters, without "')
    return plain


def _known(context: AnalysisContext) -> str:
    names = [name for name, (examples, _, _) in rows.counts(context.catalog).items() if examples]
    return f"labels: {', '.join(names)}" if names else "give examples first: e2vsearch label NAME EXAMPLE..."


def _speaker(speaker: str | None) -> str | None:
    plain = " ".join((speaker or "").split())
    if not plain.isprintable() or len(plain) > 255:
        raise QueryError(f"{plain[:80]!r} cannot name a speaker - take at most 255 printable characters")
    return plain or None


def _each(example: Example, failures: list[ExampleFailure]) -> list[Example]:
    try:
        return list(expand_folder(example))
    except E2vsearchError as error:
        failures.append(ExampleFailure(name_of(example), error.reason, str(error)))
        return []


def _add(
    context: AnalysisContext, label: str, wanted: Iterable[_Wanted], failures: list[ExampleFailure]
) -> LabelReport:
    found: dict[str, NewExample] = {}  # by source: a segment that is named twice counts once
    failed = list(failures)
    for one in wanted:
        try:
            found |= {each.source: each for each in segments_of(context, one.example, one.time_range, one.speaker)}
        except E2vsearchError as error:
            name = f"{name_of(one.example)}{one.time_range or ''}"
            failed.append(ExampleFailure(name, error.reason, str(error)))
    near = _near(label, rows.counts(context.catalog))
    before = rows.add_examples(context.catalog, label, list(found.values()))
    pairs = zip(found, before, strict=True)
    replaced = tuple(Replaced(source, old) for source, old in pairs if old is not None and old != label)
    return LabelReport(label, tuple(found), before.count(None), before.count(label), replaced, tuple(failed), near)


def _near(label: str, known: Iterable[str]) -> str | None:
    """Return a known label that a new one is likely to be meant for: ``fed up`` for ``fed-up``."""
    by_letters = {"".join(filter(str.isalnum, name.casefold())): name for name in known}
    if label in by_letters.values():
        return None
    letters = "".join(filter(str.isalnum, label.casefold()))
    likely = [each for each in by_letters if each == letters or not _opposite(each, letters)]
    near = get_close_matches(letters, likely, n=1, cutoff=_ALIKE)
    return by_letters[near[0]] if near else None


def _opposite(one: str, other: str) -> bool:
    """Whether one of two words is the other with a prefix: ``unsure``, ``not at ease``."""
    return one.endswith(other) or other.endswith(one)


def _rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    found = read_table(table, "--csv")
    columns = [name.lower() for name in found.columns]
    if "label" not in columns or not {"segment", "path"} & set(columns):
        raise SettingsError(
            f"--csv {table} needs a column label and a column segment or path - maybe start_s, end_s, channel, speaker"
        )
    return [(line, dict(zip(columns, cells, strict=False))) for line, cells in found.rows]


def _of_row(cells: Mapping[str, str], folder: Path) -> _Wanted:
    speaker = _speaker(cells.get("speaker"))
    if cells.get("segment"):
        segment = cells["segment"]
        return _Wanted(f"seg:{segment}" if segment.isdigit() else segment, None, speaker)
    path = cells.get("path", "")
    if not path:
        raise QueryError("neither segment nor path is filled in")
    try:
        start_s, end_s = (float(cells[name]) if cells.get(name) else None for name in ("start_s", "end_s"))
        channel = int(cells["channel"]) if cells.get("channel") else None
    except ValueError as error:
        raise QueryError(f"start_s and end_s are seconds, channel counts from 0: {error}") from error
    time_range = None
    if start_s is not None or end_s is not None or channel is not None:
        time_range = TimeRange(start_s or 0.0, 1e9 if end_s is None else end_s, channel)
    beside = folder / path
    return _Wanted(str(beside) if beside.exists() else path, time_range, speaker)
