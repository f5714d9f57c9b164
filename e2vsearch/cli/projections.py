"""``projection``: what is compared instead of the encoder's own vectors: fitted, compared, put to use."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2vsearch.cli.command import command, group
from e2vsearch.cli.options import EncodingOptions, OpenOptions
from e2vsearch.cli.output import Results, counted, figure
from e2vsearch.cli.table import Column

if TYPE_CHECKING:
    from collections.abc import Iterable

    from e2vsearch.analysis.projections import ProjectionFigures, ProjectionReport

_LIST = {"on": "", "name": "projection~", "kind": "kind", "dim": "dim>", "map": "mAP>", "raw": "raw>", "made": "made"}
_COMPARE: dict[str, str | Column] = {
    "on": "",
    "name": "projection~",
    "map": "mAP>",
    "gain": "over raw>",
    "precision": "P@10>",
}
_COMPARE |= {"speaker": "own speaker>", "words": "words>", "voice": "voice>", "both": "both>"}
_COMPARE |= {"interval": Column(below=True)}


@command("projection list")
def list_(*, options: OpenOptions, results: Results) -> None:
    """List the projections of a collection, and which one is in use; mAP as cross-validated when it was fitted."""
    with options.open() as collection:
        found = collection.projections.list()
    results.write([asdict(each) for each in found], _LIST, table=_rows(found))


@command("projection fit labels.csv", "projection fit --head --speaker-key customer")
def fit(
    labels: Annotated[
        Path | None,
        typer.Argument(
            help="A table with the columns path, emotion and speaker, and perhaps text: what is said. Paths are "
            "relative to it.  [default: the collection's own labels]",
            metavar="[LABELS.CSV]",
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        bool, typer.Option("--head", help="Without labels: of the encoder's classifier and the collection itself.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="What it is called.  [default: fitted, or head]", show_default=False)
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(
            help="Of the plain vectors beside the emotion's, 0 to 1.  [default: chosen by cross-validation]",
            min=0.0,
            max=1.0,
            show_default=False,
        ),
    ] = None,
    speaker_key: Annotated[
        list[str] | None,
        typer.Option(help="With --head: a column of --meta that names who speaks; repeatable.", metavar="KEY"),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="A plug-in that fits it, see e2vsearch plugins.", metavar="PLUGIN", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a better one.")] = False,
    seed: Annotated[int, typer.Option(help="Of the folds: the same gives the same projection.", min=0)] = 0,
    *,
    options: EncodingOptions,
    results: Results,
) -> None:
    """Fit a projection to labelled segments, measured on speakers held out. Then: e2vsearch projection use."""
    if head and labels is not None:
        raise typer.BadParameter("--head takes no labels")
    if speaker_key and not head:
        raise typer.BadParameter("--speaker-key goes with --head: labels name speakers in a column of their own")
    if kind is not None and (head or share is not None):
        raise typer.BadParameter("--kind names a plug-in, which has neither --head nor --share")
    with options.open() as collection:
        if kind is not None:
            made = collection.projections.fit_plugin(kind, labels, name=name)
        elif head:
            of_head = {} if share is None else {"share": share}
            made = collection.projections.fit_head(
                name=name or "head", speaker_keys=speaker_key or (), seed=seed, **of_head
            )
        else:
            made = collection.projections.fit(labels, name=name or "fitted", share=share, force=force, seed=seed)
    results.write([asdict(made)], _LIST, table=_rows([made]), whole=asdict(made))
    if failed := made.report.get("failed"):
        results.note(f"{counted(failed, 'row')} could not be used")
    if not made.used:
        results.note(f"search through it: e2vsearch projection use {made.name}")


@command("projection compare labels.csv")
def compare(
    labels: Annotated[
        Path, typer.Argument(help="A table with the columns path, emotion, speaker and text.", metavar="LABELS.CSV")
    ],
    seed: Annotated[int, typer.Option(help="Of triplets and intervals: the same gives the same.", min=0)] = 0,
    *,
    options: EncodingOptions,
    results: Results,
) -> None:
    """Measure how well each projection finds the same emotion in other speakers, beside raw vectors."""
    with options.open() as collection:
        found = collection.projections.compare(labels, seed=seed)
    rows = [asdict(each) for each in found]
    results.write(rows, _COMPARE, table=[_compared(each) for each in found])
    first = found[0]
    if first.map_chance is not None:
        chance = f"chance: mAP {first.map_chance:.3f}"
        own = first.same_speaker_chance
        chance += f", own speaker {own:.2f}" if own is not None else ""
        results.note(f"{chance}, triplets 0.50; one fitted to these very files looks better than it is")


@command("projection use fitted", "projection use raw")
def use(
    name: Annotated[str, typer.Argument(help="The projection, or raw: the encoder's own vectors.", metavar="NAME")],
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Search through a projection from now on. Its index is built first; nothing is ingested again."""
    with options.open() as collection:
        built = collection.projections.use(name)
    indexed = built.n if built else 0
    line = f"searching through {name}" + (f", {counted(indexed, 'segment')} indexed" if built else "")
    results.write_report({"projection": name, "indexed": indexed}, line)


@command("projection drop fitted")
def drop(
    name: Annotated[str, typer.Argument(help="The projection.", metavar="NAME")],
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Delete a projection; raw vectors are searched from then on if it was in use."""
    with options.open() as collection:
        collection.projections.drop(name)
    results.write_report({"projection": name, "dropped": True}, f"dropped {name}")


projection = group(
    "projection",
    "Compare by emotion, not by voice. Vectors stay as they are.",
    list_,
    fit,
    compare,
    use,
    drop,
    main="list",
)


def _rows(found: Iterable[ProjectionReport]) -> list[dict[str, Any]]:
    return [
        {
            "on": "*" if each.used else "",
            "name": each.name,
            "kind": each.kind,
            "dim": each.dim,
            "map": figure(each.report.get("map")),
            "raw": figure(each.report.get("map_raw")),
            "made": each.created_at.date().isoformat() if each.created_at else "",
        }
        for each in found
    ]


def _compared(each: ProjectionFigures) -> dict[str, Any]:
    low, high = each.gain_interval or (None, None)
    return {
        "on": "*" if each.used else "",
        "name": each.name,
        "map": figure(each.map),
        "gain": "" if each.gain is None else f"{each.gain:+.3f}",
        "interval": "" if low is None else f"over raw: {low:+.3f} to {high:+.3f} (95 %)",
        "precision": figure(each.precision_at_10),
        "speaker": figure(each.same_speaker_at_10, 2),
        **{kind: figure(value, 2) for kind, value in each.triplets.items()},
    }
