"""``space``: what is compared instead of the encoder's own vectors, fitted, compared, put to use."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2vsearch.cli.options import Device, EncoderName, Index, Output, OutputFormat, Precision, Quiet
from e2vsearch.cli.output import note, write

if TYPE_CHECKING:
    from collections.abc import Iterable

    from e2vsearch.analysis.projections import Compared, ProjectionReport


space_app = typer.Typer(
    help="Projections of the space: compare by emotion, not by voice and words. Vectors stay as they are.",
    no_args_is_help=True,
)

_LIST = {"on": "", "name": "projection", "kind": "kind", "dim": "dim>", "map": "mAP>", "raw": "raw>", "made": "made"}

_COMPARE = {"on": "", "name": "projection", "map": "mAP>", "gain": "over raw>", "precision": "P@10>"}

_COMPARE |= {"speaker": "own speaker>", "words": "words>", "voice": "voice>", "both": "both>"}


@space_app.command("list")
def space_list(index: Index = None, format_: OutputFormat = None, output: Output = None) -> None:
    """The projections of a collection, and which one is in use; mAP as cross-validated when it was fitted."""
    import e2vsearch

    with e2vsearch.open(index, create=False) as collection:
        found = collection.projections.list()
    write([asdict(each) for each in found], format_=format_, output=output, columns=_LIST, table=_rows(found))


@space_app.command("fit")
def space_fit(
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
            help="Of nuance beside the emotion part, 0 to 1.  [default: chosen by cross-validation]",
            min=0.0,
            max=1.0,
            show_default=False,
        ),
    ] = None,
    speaker_key: Annotated[
        list[str] | None,
        typer.Option(help="With --head: a column of --meta that names who speaks; may be repeated.", metavar="KEY"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a better one.")] = False,
    seed: Annotated[int, typer.Option(help="Of the folds: the same gives the same projection.", min=0)] = 0,
    index: Index = None,
    encoder: EncoderName = None,
    device: Device = None,
    precision: Precision = None,
    format_: OutputFormat = None,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Fit a projection to labelled moments, judged on speakers held out. `space use` then searches through it."""
    import e2vsearch

    if head and labels is not None:
        raise typer.BadParameter("--head takes no labels")
    if speaker_key and not head:
        raise typer.BadParameter("--speaker-key goes with --head: labels name speakers in a column of their own")
    with e2vsearch.open(index, create=False, encoder=encoder, device=device, precision=precision) as collection:
        from e2vsearch.projections.head import SHARE

        if head:
            kept = SHARE if share is None else share
            made = collection.projections.fit_head(
                name=name or "head", share=kept, speaker_keys=speaker_key or (), seed=seed
            )
        else:
            made = collection.projections.fit(labels, name=name or "fitted", share=share, force=force, seed=seed)
    write([asdict(made)], format_=format_, output=output, columns=_LIST, table=_rows([made]), whole=asdict(made))
    if failed := made.report.get("failed"):
        note(f"{failed:,} rows could not be used", quiet=quiet)
    if not made.used:
        note(f"search through it: e2vsearch space use {made.name}", quiet=quiet)


@space_app.command("compare")
def space_compare(
    labels: Annotated[
        Path, typer.Argument(help="A table with the columns path, emotion, speaker and text.", metavar="LABELS.CSV")
    ],
    seed: Annotated[int, typer.Option(help="Of triplets and intervals: the same gives the same.", min=0)] = 0,
    index: Index = None,
    encoder: EncoderName = None,
    device: Device = None,
    precision: Precision = None,
    format_: OutputFormat = None,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """How well each projection finds the same emotion, the query's own speaker left out, beside raw vectors."""
    import e2vsearch

    with e2vsearch.open(index, create=False, encoder=encoder, device=device, precision=precision) as collection:
        found = collection.projections.compare(labels, seed=seed)
    rows = [asdict(each) for each in found]
    write(rows, format_=format_, output=output, columns=_COMPARE, table=[_compared(each) for each in found])
    first = found[0]
    if first.map_chance is not None:
        chance = f"chance: mAP {first.map_chance:.3f}"
        own = first.same_speaker_chance
        chance += f", own speaker {own:.2f}" if own is not None else ""
        note(f"{chance}, triplets 0.50; one fitted to these very files looks better than it is", quiet=quiet)


@space_app.command("use")
def space_use(
    name: Annotated[str, typer.Argument(help="The projection, or raw: the encoder's own vectors.")],
    index: Index = None,
    quiet: Quiet = False,
) -> None:
    """Search through a projection from now on. Its index is built first; nothing is ingested again."""
    import e2vsearch

    with e2vsearch.open(index, create=False) as collection:
        built = collection.projections.use(name)
    note(f"searching through {name}" + (f", {built.n:,} segments indexed" if built else ""), quiet=quiet)


@space_app.command("drop")
def space_drop(
    name: Annotated[str, typer.Argument(help="The projection.")], index: Index = None, quiet: Quiet = False
) -> None:
    """Forget a projection; raw vectors are searched from then on if it was in use."""
    import e2vsearch

    with e2vsearch.open(index, create=False) as collection:
        collection.projections.drop(name)
    note(f"dropped {name}", quiet=quiet)


def _rows(found: Iterable[ProjectionReport]) -> list[dict[str, Any]]:
    return [
        {
            "on": "*" if each.used else "",
            "name": each.name,
            "kind": each.kind,
            "dim": each.dim,
            "map": _figure(each.report.get("map")),
            "raw": _figure(each.report.get("map_raw")),
            "made": each.created_at.date().isoformat() if each.created_at else "",
        }
        for each in found
    ]


def _compared(each: Compared) -> dict[str, Any]:
    between = each.gain_interval
    return {
        "on": "*" if each.used else "",
        "name": each.name,
        "map": _figure(each.map),
        "gain": ""
        if each.gain is None
        else f"{each.gain:+.3f}" + (f" ({between[0]:+.3f} to {between[1]:+.3f})" if between else ""),
        "precision": _figure(each.precision_at_10),
        "speaker": _figure(each.same_speaker_at_10, 2),
        **{kind: _figure(value, 2) for kind, value in each.triplets.items()},
    }


def _figure(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"
