"""``train``, ``classify`` and ``classifier``: what is learned of labels."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e2vsearch.cli.command import command, group
from e2vsearch.cli.options import EncodingOptions, OpenOptions, Where, Yes
from e2vsearch.cli.output import Results, counted, figure, scored, span
from e2vsearch.cli.progress import ProgressBar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from e2vsearch.analysis.labels.types import ClassifierReport

_CONFUSION = 33  # columns that a table of 80 has for the names of labels
_NUMBERED = 6  # labels whose numbers have room in it, each above up to 999 predictions

_MOVED = {f"--{each}": f"e2vsearch classifier {each}" for each in ("list", "remove", "export", "import")}
_Name = Annotated[str, typer.Argument(help="The classifier.", metavar="NAME")]


@command("train", "train mood --speaker-key customer", moved=_MOVED)
def train(
    name: Annotated[
        str, typer.Argument(help="The classifier; training again makes its next version.", metavar="NAME")
    ] = "labels",
    only: Annotated[
        list[str] | None, typer.Option(help="Tell only these labels apart; repeatable.", metavar="LABEL")
    ] = None,
    speaker_key: Annotated[
        list[str] | None,
        typer.Option(help="A column of --meta that names who speaks, e.g. customer; repeatable.", metavar="KEY"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of folds and samples: the same gives the same classifier.", min=0)] = 0,
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Train a classifier on the labelled segments. It is measured on voices that it was not trained on."""
    with options.open() as collection:
        report = collection.labels.train(name, labels=only, speaker_keys=speaker_key or (), seed=seed)
    _report(report, results)


@command("classify", "classify mood --min-score 0.8", "classify mood --audio clip.wav")
def classify(
    name: Annotated[
        str | None,
        typer.Argument(help="The classifier.  [default: the one trained last]", metavar="[NAME]", show_default=False),
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
                [asdict(each) for each in found], {"channel": "ch>", "at": "at", "label": "label~"}, table=table
            )
            return
        with ProgressBar(results.quiet) as bar:
            done = collection.labels.classify(name, where, min_score=min_score, progress=partial(bar.stage, "segments"))
    rows = [
        {"classifier": done.classifier, "version": done.version, "label": each, "segments": count}
        for each, count in done.labels.items()
    ]
    table = [{**row, "segments": f"{row['segments']:,}"} for row in rows]
    results.write(rows, {"label": "label~", "segments": "segments>"}, table=table, whole=asdict(done))
    skipped = f", {done.skipped:,} classified before" if done.skipped else ""
    results.note(
        f"{done.classifier} version {done.version} classified {counted(done.scored, 'segment')} in {done.seconds:.1f} s"
        f"{skipped}: {done.stored:,} with a probability of {min_score:g} or more (--min-score)"
    )


@command("classifier list")
def list_(*, options: OpenOptions, results: Results) -> None:
    """List the classifiers, with their unweighted average recall (UAR)."""
    with options.open() as collection:
        reports = collection.labels.classifiers()
    columns = {
        "name": "classifier~",
        "version": "version>",
        "labels": "labels¶",
        "examples": "examples>",
        "uar": "UAR>",
    }
    rows = [asdict(each) for each in reports]
    table = [{**row, "labels": ", ".join(row["labels"]), "uar": figure(row["uar"], 2)} for row in rows]
    results.write_rows(rows, columns, table=table, none="no classifiers yet - train one with: e2vsearch train NAME")


@command("classifier remove mood", "classifier remove mood --yes")
def remove(name: _Name, yes: Yes = False, *, options: OpenOptions, results: Results) -> None:
    """Remove a classifier, and the labels it gave."""
    with options.open() as collection:
        if not yes:
            typer.confirm(f"Remove {name} and the labels it gave?", abort=True, err=True)
        removed = collection.labels.remove_classifier(name)
    line = f"removed {counted(removed, 'version')} of {name}"
    results.write_report({"classifier": name, "versions": removed}, line)


@command("classifier export mood mood.npz")
def export(
    name: _Name,
    file: Annotated[Path, typer.Argument(help="A new file of numbers, for another collection.", metavar="FILE")],
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Write a classifier's newest version to a file."""
    with options.open() as collection:
        report = collection.labels.export_classifier(name, file)
    line = f"wrote {report.name} version {report.version} to {file}"
    results.write_report({"classifier": report.name, "version": report.version, "file": file}, line)


@command("classifier import mood.npz")
def import_(
    file: Annotated[Path, typer.Argument(help="What e2vsearch classifier export wrote.", metavar="FILE")],
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Store the classifier in a file, under its own name."""
    with options.open() as collection:
        report = collection.labels.import_classifier(file)
    _report(report, results)


classifier = group("classifier", "Classifiers trained on labels.", list_, remove, export, import_, main="list")


def _report(report: ClassifierReport, results: Results) -> None:
    names, numbered = _confusion(report)
    columns = {"number": "#>"} if numbered else {}
    columns |= {"label": "label~", "examples": "examples>", "groups": "voices>", "recall": "recall>"}
    columns |= {"precision": "precision>"} | {f"as {at}": f"{name}>" for at, name in enumerate(names)}
    table = [
        {
            "number": row + 1,
            "label": each.label,
            "examples": each.examples,
            "groups": each.groups,
            "recall": figure(each.recall, 2),
            "precision": figure(each.precision, 2),
            **{f"as {at}": count for at, count in enumerate(report.confusion[row] if report.confusion else ())},
        }
        for row, each in enumerate(report.classes)
    ]
    results.write_headline("\n".join(_headlines(report)))
    results.write([asdict(report)], columns, table=table, whole=asdict(report))
    for warning in report.warnings:
        results.note(f"note: {warning}")


def _confusion(report: ClassifierReport) -> tuple[Sequence[str], bool]:
    """Return headings of a column for each label, and whether they are numbers; none where not even these have room."""
    if sum(len(name) + 2 for name in report.labels) <= _CONFUSION:
        return report.labels, False
    numbers = [str(number + 1) for number in range(len(report.labels))]
    return (numbers, True) if len(numbers) <= _NUMBERED else ((), False)


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
