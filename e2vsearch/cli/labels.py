"""``label``, ``train``, ``classify``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2vsearch.cli.options import Device, EncoderName, Format, Index, Output, OutputFormat, Precision, Quiet, Where
from e2vsearch.cli.output import SOME_FAILED, chosen, note, span, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from e2vsearch.analysis.labels.types import ClassifierReport, LabelReport
    from e2vsearch.collection import Collection


_LISTED = 20  # moments named after a run


def label(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="The label, then its examples: clips, folders, seg:12, call:3, a span call:3@12.0-15.5 (on channel 1 "
            "alone: call:3@12.0-15.5#1), or a part of a file, clip.wav@1.5-4.",
            metavar="[NAME] [EXAMPLE]...",
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            help="Labels from a table: columns label, and segment or path; maybe start_s, end_s, channel, speaker.",
            metavar="FILE",
        ),
    ] = None,
    speaker: Annotated[
        str | None, typer.Option(help="Who speaks in these examples: never on both sides when a classifier is judged.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the labels; with NAME, its examples.")] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take the label back: from these EXAMPLEs, or from all it was given to.")
    ] = False,
    suggest: Annotated[bool, typer.Option("--suggest", help="Moments worth labelling next, and why.")] = False,
    k: Annotated[int, typer.Option("-k", help="How many moments --suggest lists.", min=1)] = 10,
    classifier: Annotated[
        str | None, typer.Option(help="Whose doubts --suggest goes by.  [default: the one trained last]")
    ] = None,
    where: Where = None,
    index: Index = None,
    encoder: EncoderName = None,
    device: Device = None,
    precision: Precision = None,
    format_: OutputFormat = None,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Give moments a label of your own, such as hesitant. A moment has one label: another replaces it."""
    import e2vsearch

    name, examples = (words or [""])[0], (words or [])[1:]
    if sum((list_, remove, suggest, csv is not None)) > 1:
        raise typer.BadParameter("--csv, --list, --remove and --suggest exclude each other")
    if suggest and words:
        raise typer.BadParameter("--suggest takes no NAME - narrow it with --where")
    with e2vsearch.open(index, create=False, encoder=encoder, device=device, precision=precision) as collection:
        if suggest:
            _suggest(collection, k, classifier, where, format_, output, quiet=quiet)
        elif list_:
            _list(collection, name, format_, output)
        elif remove:
            _remove(collection, name, examples, quiet=quiet)
        else:
            _give(collection, name, examples, csv, speaker, format_, output, quiet=quiet)


def train(
    name: Annotated[str, typer.Argument(help="The classifier; training again makes its next version.")] = "labels",
    only: Annotated[
        list[str] | None, typer.Option(help="Tell only these labels apart; may be repeated.", metavar="LABEL")
    ] = None,
    speaker_key: Annotated[
        list[str] | None,
        typer.Option(help="A column of --meta that names who speaks, e.g. agent; may be repeated.", metavar="KEY"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of folds and samples: the same gives the same classifier.", min=0)] = 0,
    list_: Annotated[bool, typer.Option("--list", help="List the classifiers; train none.")] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the classifier and what it said of segments; train none.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write its newest version to this file; train none.", metavar="FILE")
    ] = None,
    import_: Annotated[
        Path | None,
        typer.Option("--import", help="Store the classifier in this file, under its own name.", metavar="FILE"),
    ] = None,
    index: Index = None,
    format_: OutputFormat = None,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Train a classifier on the labelled moments, and say how well it does on voices it was not trained on."""
    import e2vsearch

    if sum((list_, remove, export is not None, import_ is not None)) > 1:
        raise typer.BadParameter("--list, --remove, --export and --import exclude each other")
    with e2vsearch.open(index, create=False) as collection:
        if list_:
            _list_classifiers(collection.labels.classifiers(), format_, output)
            return
        if remove:
            note(f"removed {collection.labels.remove_classifier(name):,} versions of {name}", quiet=quiet)
            return
        if export is not None:
            report = collection.labels.export_classifier(name, export)
            note(f"wrote {report.name} version {report.version} to {export}", quiet=quiet)
            return
        if import_ is not None:
            report = collection.labels.import_classifier(import_)
        else:
            report = collection.labels.train(name, labels=only, speaker_keys=speaker_key or (), seed=seed)
    _report(report, format_, output, quiet=quiet)


def classify(
    name: Annotated[
        str | None, typer.Argument(help="The classifier.  [default: the one trained last]", show_default=False)
    ] = None,
    where: Where = None,
    min_score: Annotated[
        float, typer.Option(help="Least probability at which a label is stored.", min=0.0, max=1.0)
    ] = 0.5,
    audio: Annotated[
        Path | None, typer.Option(help="Classify this clip, moment by moment; nothing is stored.", metavar="FILE")
    ] = None,
    index: Index = None,
    encoder: EncoderName = None,
    device: Device = None,
    precision: Precision = None,
    format_: OutputFormat = None,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Let a classifier label the collection; run again, it looks at new segments only. Then: --where 'label = NAME'."""
    import e2vsearch

    with e2vsearch.open(index, create=False, encoder=encoder, device=device, precision=precision) as collection:
        if audio is not None:
            moments = collection.labels.classify_audio(audio, name)
            table = [
                {
                    "at": span(each.start_s, each.end_s),
                    "channel": each.channel,
                    "label": f"{each.label} {each.score:.2f}",
                }
                for each in moments
            ]
            columns = {"channel": "ch>", "at": "at", "label": "label"}
            write([asdict(each) for each in moments], format_=format_, output=output, columns=columns, table=table)
            return
        with _Bar(quiet) as bar:
            result = collection.labels.classify(name, where, min_score=min_score, progress=bar)
    rows = [
        {"classifier": result.classifier, "version": result.version, "label": each, "segments": count}
        for each, count in result.labels.items()
    ]
    columns = {"label": "label", "segments": "segments>"}
    table = [{"label": row["label"], "segments": f"{row['segments']:,}"} for row in rows]
    write(rows, format_=format_, output=output, columns=columns, table=table, whole=asdict(result))
    skipped = f", {result.skipped:,} judged before" if result.skipped else ""
    note(
        f"{result.classifier} version {result.version} looked at {result.scored:,} segments in "
        f"{result.seconds:.1f} s{skipped}: {result.stored:,} surely enough (--min-score {min_score:g})",
        quiet=quiet,
    )


def _give(
    collection: Collection,
    name: str,
    examples: Sequence[str],
    table: Path | None,
    speaker: str | None,
    format_: Format | None,
    output: Path | None,
    *,
    quiet: bool,
) -> None:

    if table is not None and name:
        raise typer.BadParameter("--csv names the labels itself")
    if table is not None and speaker is not None:
        raise typer.BadParameter("--csv names speakers in a column of its own")
    if table is None and not examples:
        raise typer.BadParameter("write e2vsearch label NAME EXAMPLE..., or --csv, --list, --suggest")
    if table is not None:
        reports = collection.labels.add_from(table)
    else:
        reports = (collection.labels.add(name, *examples, speaker=speaker),)
    columns = {"label": "label", "moments": "moments>", "added": "new>", "already": "already>", "replaced": "replaced>"}
    shown = [{**asdict(each), "moments": len(each.examples), "replaced": len(each.replaced)} for each in reports]
    write([asdict(each) for each in reports], format_=format_, output=output, columns=columns, table=shown)
    if _told(reports, quiet=quiet):
        raise typer.Exit(SOME_FAILED)


def _told(reports: Sequence[LabelReport], *, quiet: bool) -> int:
    """Say what was replaced and what failed; gives how many failed."""
    replaced = [
        f"{each.example} was {each.before}, is {report.label}" for report in reports for each in report.replaced
    ]
    failed = [f"failed: {each.message}" for report in reports for each in report.failures]
    for lines in (replaced, failed):
        for line in lines[:_LISTED]:
            note(line, quiet=quiet)
        if len(lines) > _LISTED:
            note(f"… and {len(lines) - _LISTED:,} more", quiet=quiet)
    return len(failed)


def _list(collection: Collection, name: str, format_: Format | None, output: Path | None) -> None:

    if name:
        rows = [asdict(each) for each in collection.labels.examples(name)]
        columns = {"example": "example", "recording": "call", "speaker": "speaker"}
    else:
        rows = [asdict(each) for each in collection.labels.list()]
        columns = {"name": "label", "examples": "examples>", "classified": "classified>"}
    if not rows and chosen(format_, output) is Format.table:
        note("no labels yet - give some with: e2vsearch label NAME EXAMPLE...")
        return
    write(rows, format_=format_, output=output, columns=columns)


def _remove(collection: Collection, name: str, examples: Sequence[str], *, quiet: bool) -> None:

    if not name:
        raise typer.BadParameter("write e2vsearch label NAME --remove, or NAME EXAMPLE... --remove")
    removed = collection.labels.remove(label=name, segments=examples)
    note(f"took {name} back from {removed:,} moments", quiet=quiet)


def _suggest(
    collection: Collection,
    k: int,
    classifier: str | None,
    where: str | None,
    format_: Format | None,
    output: Path | None,
    *,
    quiet: bool,
) -> None:

    found = collection.labels.suggest(k, classifier, where)
    columns = {"segment": "id", "name": "call", "channel": "ch>", "at": "at", "label": "perhaps", "why": "why"}
    table = [{**asdict(each), "at": span(each.start_s, each.end_s)} for each in found]
    write([asdict(each) for each in found], format_=format_, output=output, columns=columns, table=table)
    if found:
        note(f"listen, then e.g.: e2vsearch label {found[0].label or 'NAME'} {found[0].segment}", quiet=quiet)
    else:
        note("nothing left to label" + (f" where {where}" if where else ""), quiet=quiet)


def _list_classifiers(reports: Sequence[ClassifierReport], format_: Format | None, output: Path | None) -> None:
    columns = {"name": "classifier", "version": "version>", "labels": "labels", "examples": "examples>", "uar": "UAR>"}
    table = [
        {
            "name": each.name,
            "version": each.version,
            "labels": ", ".join(each.labels),
            "examples": each.examples,
            "uar": _share(each.uar),
        }
        for each in reports
    ]
    write([asdict(each) for each in reports], format_=format_, output=output, columns=columns, table=table)


def _report(report: ClassifierReport, format_: Format | None, output: Path | None, *, quiet: bool) -> None:
    row = asdict(report)
    columns = {"label": "label", "examples": "examples>", "groups": "voices>", "recall": "recall>"}
    columns |= {"precision": "precision>"} | {f"said {at}": f"{name}>" for at, name in enumerate(report.labels)}
    table = [
        {
            "label": each.label,
            "examples": each.examples,
            "groups": each.groups,
            "recall": _share(each.recall),
            "precision": _share(each.precision),
            **{f"said {at}": cell for at, cell in enumerate(report.confusion[row_] if report.confusion else ())},
        }
        for row_, each in enumerate(report.classes)
    ]
    if chosen(format_, output) is Format.table and output is None:
        for line in _headlines(report):
            typer.echo(line)
        typer.echo("")
    write([row], format_=format_, output=output, columns=columns, table=table, whole=row)
    for warning in report.warnings:
        note(f"note: {warning}", quiet=quiet)


def _headlines(report: ClassifierReport) -> Iterator[str]:
    yield f"{report.name} version {report.version}: {report.examples} examples of {len(report.labels)} labels"
    if report.accuracy is None or report.uar is None:
        return
    folds = f"{report.folds} folds over {report.groups} groups by {report.grouped_by}"
    yield f"cross-validated, {folds}" + (" (on the collection it comes from)" if report.imported else "")
    yield f"accuracy {_with_interval(report.accuracy, report.accuracy_interval)}, chance {report.accuracy_chance:.3f}"
    yield f"UAR      {_with_interval(report.uar, report.uar_interval)}, chance {report.uar_chance:.3f}"
    yield f"calibration error {report.calibration_error:.3f}; columns under the labels: what was said of each"


def _with_interval(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.3f}" + (f" (95 %: {interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


class _Bar:
    """Segments done, on a terminal's stderr; nothing elsewhere, since a million take less than a minute."""

    def __init__(self, quiet: bool) -> None:
        import sys

        self._shown = not quiet and sys.stderr.isatty()
        self._update: Callable[[int, int], None] = lambda done, total: None  # noqa: ARG005
        self._stop: Callable[[], None] = lambda: None

    def __enter__(self) -> _Bar:
        if self._shown:
            from rich.console import Console
            from rich.progress import Progress

            bar = Progress(console=Console(stderr=True), transient=True)
            task = bar.add_task("segments", total=None)
            bar.start()
            self._update = lambda done, total: bar.update(task, completed=done, total=total)
            self._stop = bar.stop
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop()

    def __call__(self, done: int, total: int) -> None:
        self._update(done, total)
