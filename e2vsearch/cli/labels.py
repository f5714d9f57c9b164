"""``label``: labels of one's own: given, listed, removed, and what is worth a label next."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from e2vsearch.cli.command import command, group
from e2vsearch.cli.options import EncodingOptions, OpenOptions, Where, Yes
from e2vsearch.cli.output import SOME_FAILED, Results, counted, span
from e2vsearch.cli.table import Column

_MOVED = {f"--{each}": f"e2vsearch label {each}" for each in ("list", "remove", "suggest")}
_EXAMPLES = (
    "clips, folders, seg:12, call:3, a part call:3@12.0-15.5 (on channel 1 alone: call:3@12.0-15.5#1), or a part of a "
    "file, clip.wav@1.5-4."
)


@command("label hesitant seg:12 call:3@12.0-15.5 clip.wav", "label --csv labels.csv", moved=_MOVED)
def add(
    words: Annotated[
        list[str] | None,
        typer.Argument(help=f"The label, then its examples: {_EXAMPLES}", metavar="[NAME] [EXAMPLE]..."),
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
    *,
    options: EncodingOptions,
    results: Results,
) -> None:
    """Give segments a label of your own, such as hesitant. A segment has one label: another replaces it."""
    name, examples = (words or [""])[0], (words or [])[1:]
    if csv is not None and name:
        raise typer.BadParameter("--csv names the labels itself")
    if csv is not None and speaker is not None:
        raise typer.BadParameter("--csv names speakers in a column of its own")
    if csv is None and not examples:
        raise typer.BadParameter("write e2vsearch label NAME EXAMPLE..., or --csv FILE; e2vsearch label list has all")
    with options.open() as collection:
        if csv is not None:
            reports = collection.labels.add_from(csv)
        else:
            reports = (collection.labels.add(name, *examples, speaker=speaker),)
    columns = {"label": "label~", "segments": "segments>", "added": "new>", "already": "already>"}
    shown = [{**asdict(each), "segments": len(each.examples), "replaced": len(each.replaced)} for each in reports]
    results.write([asdict(each) for each in reports], {**columns, "replaced": "replaced>"}, table=shown)
    results.note_each([f"{each.example} was {each.before}, is {of.label}" for of in reports for each in of.replaced])
    for each in reports:
        if each.near is not None:
            results.note(f"note: new label {each.label!r} - did you mean {each.near!r}?")
    failures = [each.message for report in reports for each in report.failures]
    results.note_failures(failures)
    if failures:
        raise typer.Exit(SOME_FAILED)


@command("label list", "label list hesitant")
def list_(
    name: Annotated[
        str | None,
        typer.Argument(help="List the examples of this label.  [default: list the labels]", metavar="[NAME]"),
    ] = None,
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """List the labels, or the examples of one."""
    columns: dict[str, str | Column]
    with options.open() as collection:
        if name:
            rows = [asdict(each) for each in collection.labels.examples(name)]
            columns = {"example": "example~", "recording": "recording", "speaker": Column("speaker", fit="end")}
        else:
            rows = [asdict(each) for each in collection.labels.list()]
            columns = {"name": "label~", "examples": "examples>", "classified": "classified>"}
    results.write_rows(rows, columns, none="no labels yet - give some with: e2vsearch label NAME EXAMPLE...")


@command("label remove hesitant seg:12", "label remove hesitant --yes")
def remove(
    name: Annotated[str, typer.Argument(help="The label.", metavar="NAME")],
    examples: Annotated[
        list[str] | None,
        typer.Argument(
            help="Take it back from these: seg:12, or a file as e2vsearch label list NAME shows it.  [default: all]",
            metavar="[EXAMPLE]...",
        ),
    ] = None,
    yes: Yes = False,
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Take a label back: from some examples, or from all it was given to."""
    with options.open() as collection:
        if not examples and not yes:
            count = len(collection.labels.examples(name))
            typer.confirm(f"Take {name} back from {counted(count, 'segment')}?", abort=True, err=True)
        removed = collection.labels.remove(label=name, segments=examples or ())
    results.write_report({"label": name, "removed": removed}, f"took {name} back from {counted(removed, 'segment')}")


@command("label suggest -k 5", "label suggest --where 'queue = billing'")
def suggest(
    k: Annotated[int, typer.Option("-k", help="How many segments.", min=1)] = 10,
    classifier: Annotated[
        str | None,
        typer.Option(
            help="The classifier whose uncertainty it goes by.  [default: the one trained last]", metavar="NAME"
        ),
    ] = None,
    where: Where = None,
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """List segments worth a label next, and why."""
    with options.open() as collection:
        found = collection.labels.suggest(k, classifier, where)
    columns: dict[str, str | Column] = {
        "segment": "id",
        "name": "recording~",
        "channel": "ch>",
        "at": "at",
        "label": "label~",
        "why": Column(fit="wrap", below=True),
        "text": Column(fit="end", below=True),
    }
    table = [{**asdict(each), "at": span(each.start_s, each.end_s)} for each in found]
    results.write([asdict(each) for each in found], columns, table=table)
    if found:
        results.note(f"listen, then e.g.: e2vsearch label {found[0].label or 'NAME'} {found[0].segment}")
    else:
        results.note("nothing left to label" + (f" where {where}" if where else ""))


label = group("label", "Labels of your own, such as hesitant.", add, list_, remove, suggest, main="add")
