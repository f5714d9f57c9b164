"""``label``, ``train``, ``classify``."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e2vsearch.cli.command import command
from e2vsearch.cli.options import EncodingOptions, OpenOptions, Where
from e2vsearch.cli.output import SOME_FAILED, Results, echo, figure, scored, span
from e2vsearch.cli.progress import ProgressBar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from e2vsearch.analysis.labels.types import ClassifierReport
    from e2vsearch.collection import Collection


@command("label hesitant seg:12 call:3@12.0-15.5 clip.wav", "label --suggest -k 5", "label --list hesitant")
def label(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="The label, then its examples: clips, folders, seg:12, call:3, a part call:3@12.0-15.5 (on channel 1 "
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
        str | None,
        typer.Option(
            help="Who speaks in these examples: never both in training and test data when a classifier is judged."
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the labels; with NAME, its examples.")] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take the label back: from these EXAMPLEs, or from all it was given to.")
    ] = False,
    suggest: Annotated[bool, typer.Option("--suggest", help="Segments worth labelling next, and why.")] = False,
    k: Annotated[int, typer.Option("-k", help="How many segments --suggest lists.", min=1)] = 10,
    classifier: Annotated[
        str | None,
        typer.Option(help="The classifier whose uncertainty --suggest goes by.  [default: the one trained last]"),
    ] = None,
    where: Where = None,
    *,
    options: EncodingOptions,
    results: Results,
) -> None:
    """Give segments a label of your own, such as hesitant. A segment has one label: another replaces it."""
    name, examples = (words or [""])[0], (words or [])[1:]
    if sum((list_, remove, suggest, csv is not None)) > 1:
        raise typer.BadParameter("--csv, --list, --remove and --suggest exclude each other")
    if suggest and words:
        raise typer.BadParameter("--suggest takes no NAME - narrow it with --where")
    with options.open() as collection:
        if suggest:
            _suggest(collection, k, classifier, where, results)
        elif list_:
            _list(collection, name, results)
        elif remove:
            if not name:
                raise typer.BadParameter("write e2vsearch label NAME --remove, or NAME EXAMPLE... --remove")
            removed = collection.labels.remove(label=name, segments=examples)
            results.note(f"removed {name} from {removed:,} segments")
        else:
            _add(collection, name, examples, csv, speaker, results)


@command("train", "train mood --speaker-key customer", "train mood --export mood.npz")
def train(
    name: Annotated[str, typer.Argument(help="The classifier; training again makes its next version.")] = "labels",
    only: Annotated[
        list[str] | None, typer.Option(help="Tell only these labels apart; repeatable.", metavar="LABEL")
    ] = None,
    speaker_key: Annotated[
        list[str] | None,
        typer.Option(help="A column of --meta that names who speaks, e.g. customer; repeatable.", metavar="KEY"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of folds and samples: the same gives the same classifier.", min=0)] = 0,
    list_: Annotated[bool, typer.Option("--list", help="List the classifiers; train none.")] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the classifier and the labels it gave; train none.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write its newest version to this file; train none.", metavar="FILE")
    ] = None,
    import_: Annotated[
        Path | None,
        typer.Option("--import", help="Store the classifier in this file, under its own name.", metavar="FILE"),
    ] = None,
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Train a classifier on the labelled segments. It is measured on voices that it was not trained on."""
    if sum((list_, remove, export is not None, import_ is not None)) > 1:
        raise typer.BadParameter("--list, --remove, --export and --import exclude each other")
    with options.open() as collection:
        if list_:
            _list_classifiers(collection.labels.classifiers(), results)
            return
        if remove:
            results.note(f"removed {collection.labels.remove_classifier(name):,} versions of {name}")
            return
        if export is not None:
            report = collection.labels.export_classifier(name, export)
            results.note(f"wrote {report.name} version {report.version} to {export}")
            return
        if import_ is not None:
            report = collection.labels.import_classifier(import_)
        else:
            report = collection.labels.train(name, labels=only, speaker_keys=speaker_key or (), seed=seed)
    _report(report, results)


@command("classify", "classify mood --min-score 0.8", "classify mood --audio clip.wav")
def classify(
    name: Annotated[
        str | None, typer.Argument(help="The classifier.  [default: the one trained last]", show_default=False)
    ] = None,
    where: Where = None,
    min_score: Annotated[
        float, typer.Option(help="Least probability at which a label is stored.", min=0.0, max=1.0)
    ] = 0.5,
    audio: Annotated[
        Path | None, typer.Option(help="Classify the segments of this clip; nothing is stored.", metavar="FILE")
    ] = None,
    *,
    options: EncodingOptions,
    results: Results,
) -> None:
    """Let a classifier label the collection. Run again, it takes new segments only. Then: --where 'label = NAME'."""
    with options.open() as collection:
        if audio is not None:
            found = collection.labels.classify_audio(audio, name)
            table = [
                {"channel": each.channel, "at": span(each.start_s, each.end_s), "label": scored(each.label, each.score)}
                for each in found
            ]
            results.write(
                [asdict(each) for each in found], {"channel": "ch>", "at": "at", "label": "label"}, table=table
            )
            return
        with ProgressBar(results.quiet) as bar:
            done = collection.labels.classify(name, where, min_score=min_score, progress=partial(bar.stage, "segments"))
    rows = [
        {"classifier": done.classifier, "version": done.version, "label": each, "segments": count}
        for each, count in done.labels.items()
    ]
    table = [{**row, "segments": f"{row['segments']:,}"} for row in rows]
    results.write(rows, {"label": "label", "segments": "segments>"}, table=table, whole=asdict(done))
    skipped = f", {done.skipped:,} classified before" if done.skipped else ""
    results.note(
        f"{done.classifier} version {done.version} classified {done.scored:,} segments in {done.seconds:.1f} s"
        f"{skipped}: {done.stored:,} with a probability of {min_score:g} or more (--min-score)"
    )


def _add(
    collection: Collection,
    name: str,
    examples: Sequence[str],
    table: Path | None,
    speaker: str | None,
    results: Results,
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
    columns = {"label": "label", "segments": "segments>", "added": "new>", "already": "already>"}
    shown = [{**asdict(each), "segments": len(each.examples), "replaced": len(each.replaced)} for each in reports]
    results.write([asdict(each) for each in reports], {**columns, "replaced": "replaced>"}, table=shown)
    results.note_each([f"{each.example} was {each.before}, is {of.label}" for of in reports for each in of.replaced])
    failures = [each.message for report in reports for each in report.failures]
    results.note_failures(failures)
    if failures:
        raise typer.Exit(SOME_FAILED)


def _list(collection: Collection, name: str, results: Results) -> None:
    if name:
        rows = [asdict(each) for each in collection.labels.examples(name)]
        columns = {"example": "example", "recording": "recording", "speaker": "speaker"}
    else:
        rows = [asdict(each) for each in collection.labels.list()]
        columns = {"name": "label", "examples": "examples>", "classified": "classified>"}
    results.write_rows(rows, columns, none="no labels yet - give some with: e2vsearch label NAME EXAMPLE...")


def _suggest(collection: Collection, k: int, classifier: str | None, where: str | None, results: Results) -> None:
    found = collection.labels.suggest(k, classifier, where)
    columns = {"segment": "id", "name": "recording", "channel": "ch>", "at": "at", "label": "label", "why": "why"}
    table = [{**asdict(each), "at": span(each.start_s, each.end_s)} for each in found]
    results.write([asdict(each) for each in found], columns, table=table)
    if found:
        results.note(f"listen, then e.g.: e2vsearch label {found[0].label or 'NAME'} {found[0].segment}")
    else:
        results.note("nothing left to label" + (f" where {where}" if where else ""))


def _list_classifiers(reports: Sequence[ClassifierReport], results: Results) -> None:
    columns = {"name": "classifier", "version": "version>", "labels": "labels", "examples": "examples>", "uar": "UAR>"}
    rows = [asdict(each) for each in reports]
    table = [{**row, "labels": ", ".join(row["labels"]), "uar": figure(row["uar"], 2)} for row in rows]
    results.write(rows, columns, table=table)


def _report(report: ClassifierReport, results: Results) -> None:
    columns = {"label": "label", "examples": "examples>", "groups": "voices>", "recall": "recall>"}
    columns |= {"precision": "precision>"} | {f"as {at}": f"{name}>" for at, name in enumerate(report.labels)}
    table = [
        {
            "label": each.label,
            "examples": each.examples,
            "groups": each.groups,
            "recall": figure(each.recall, 2),
            "precision": figure(each.precision, 2),
            **{f"as {at}": count for at, count in enumerate(report.confusion[row] if report.confusion else ())},
        }
        for row, each in enumerate(report.classes)
    ]
    if results.to_terminal:
        echo("\n".join(_headlines(report)) + "\n")
    results.write([asdict(report)], columns, table=table, whole=asdict(report))
    for warning in report.warnings:
        results.note(f"note: {warning}")


def _headlines(report: ClassifierReport) -> Iterator[str]:
    yield f"{report.name} version {report.version}: {report.examples} examples of {len(report.labels)} labels"
    if report.accuracy is None or report.uar is None:
        return
    folds = f"{report.folds} folds over {report.groups} groups by {report.grouped_by}"
    yield f"cross-validated, {folds}" + (" (on the collection it comes from)" if report.imported else "")
    yield f"accuracy {_with_interval(report.accuracy, report.accuracy_interval)}, chance {report.accuracy_chance:.3f}"
    yield f"UAR      {_with_interval(report.uar, report.uar_interval)}, chance {report.uar_chance:.3f}"
    yield f"calibration error {report.calibration_error:.3f}; columns under the labels: predictions of each"


def _with_interval(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.3f}" + (f" (95 %: {interval[0]:.3f} to {interval[1]:.3f})" if interval else "")
