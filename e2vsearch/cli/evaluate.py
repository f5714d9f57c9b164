"""``evaluate``: how well emotions are found in other voices and other words, on labels of the user's own."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from e2vsearch.cli import layers as layer_table
from e2vsearch.cli.command import command
from e2vsearch.cli.options import By, Device, EncodingOptions, Precision
from e2vsearch.cli.output import SOME_FAILED, Results
from e2vsearch.cli.progress import ProgressBar
from e2vsearch.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from e2vsearch.analysis.evaluation.types import Evaluation, Figures, LabelFailure, Leak, Ranking, Recall


Condition = Literal["clean", "telephone", "all"]
"""Which copies of the labelled files are encoded."""


@command(
    "evaluate labels.csv --encoder light",
    "evaluate labels.csv --index index --condition all --format json",
    "evaluate labels.csv --encoder light --projections",
)
def evaluate(
    labels: Annotated[
        Path,
        typer.Argument(
            help="A table with the columns path and emotion and, for all figures, speaker, text (what is said: words "
            "or the sentence's id) and call. Paths are relative to it.",
            metavar="LABELS.CSV",
        ),
    ],
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Encodes each file as one signal: light, emotion2vec_plus_large, ...  [default: the encoder that "
            "ingest would take]",
            show_default=False,
        ),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            help="A collection: its stored segments and its projection are taken. With --encoder too, files are "
            "encoded anew, and the projection is the collection's.  [default: what E2VSEARCH_INDEX names, unless "
            "--encoder, --layers or --projections say what is measured]",
            metavar="COLLECTION",
            show_default=False,
        ),
    ] = None,
    projection: Annotated[
        str | None,
        typer.Option(
            help="One of the collection's projections, or raw: the encoder's own vectors.  [default: the one in use, "
            "or without a collection the one that ships with the encoder]",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="Measure every transformer block of an emotion2vec encoder: a table of mAP, triplets and leak (own "
            "speaker among the ten nearest, over chance), of raw vectors, or with --projections of each projection.",
        ),
    ] = False,
    projections: Annotated[
        bool,
        typer.Option(
            "--projections",
            help="The same table for raw vectors, log-posteriors, head and adapted (or what ships with the encoder), "
            "of the last block, or with --layers of every block.",
        ),
    ] = False,
    by: Annotated[By, typer.Option(help="Find segments, or recordings by their mean.")] = "segment",
    condition: Annotated[
        Condition,
        typer.Option(
            help="Encode files as they are, as telephone copies (made here), or both and each among the other."
        ),
    ] = "clean",
    seed: Annotated[int, typer.Option(help="Of copies, triplets and intervals: the same gives the same.", min=0)] = 0,
    draws: Annotated[int, typer.Option(help="Triplets of each kind.", min=1)] = 6_000,
    device: Device = None,
    precision: Precision = None,
    *,
    results: Results,
) -> None:
    """Measure how well emotions are found in other voices. Figures are of other words too, each beside chance."""
    from e2vsearch.analysis.evaluation import labels_table
    from e2vsearch.analysis.evaluation.evaluate import evaluate as evaluate_encoder
    from e2vsearch.analysis.evaluation.layers import evaluate_layers

    if layers or projections:
        _only_alone(index=index, projection=projection, by=by == "recording", condition=condition != "clean")
    elif encoder is None:
        index = index or os.environ.get("E2VSEARCH_INDEX")
    table = labels_table.read(labels)  # before an encoder takes its time to open
    named = EncodingOptions(None, encoder, device, precision)
    drawn: dict[str, Any] = {"seed": seed, "draws": draws}
    with ExitStack() as stack:
        show = stack.enter_context(ProgressBar(results.quiet)).files
        if layers or projections:
            blocks = evaluate_layers(
                table, named.open_encoder(), layers=layers, projections=projections, progress=show, **drawn
            )
            layer_table.show(blocks, results)
            _note(blocks.notes, blocks.failures, results)
            return
        how = {"by": by, "condition": condition, "projection": projection, "progress": show} | drawn
        if index is None:
            found = evaluate_encoder(table, named.open_encoder(), **how)
        else:
            collection = stack.enter_context(EncodingOptions(index, encoder, device, precision).open())
            opened = None if encoder is None else collection.encoder()
            found = collection.evaluate(labels, encoder=opened, **how)
    whole = asdict(found)
    rows = list(_rows(found))
    results.write_headline(_headline(found))
    columns, lines = _table(rows)
    results.write(rows if results.format == "csv" else [whole], columns, table=lines, whole=whole)
    _note(found.notes, found.failures, results)


def _only_alone(**given: object) -> None:
    """Check that options which a table of layers and projections has no place for are left out.

    Raises:
        SettingsError: one is given.
    """
    for name, value in given.items():
        if value:
            raise SettingsError(
                f"--layers and --projections measure an encoder's vectors of clips as they are - leave --{name} out, "
                "and name the encoder with --encoder"
            )


def _note(notes: Sequence[str], failures: Sequence[LabelFailure], results: Results) -> None:
    """Print notes and failed rows on stderr.

    Raises:
        typer.Exit: some rows failed.
    """
    for message in notes:
        results.note(f"note: {message}")
    results.note_failures((each.message for each in failures), ": --format json has them all")
    if failures:
        raise typer.Exit(SOME_FAILED)


def _headline(found: Evaluation) -> str:
    emotions = ", ".join(f"{name} {n:,}" for name, n in found.emotions.items())
    of = f"{found.speakers:,} speakers, {found.texts:,} texts"
    space = found.space
    items = "segments" if found.by == "segment" else "recordings"
    made = f"{space.encoder}@{space.revision[:12]}, {space.dim}-d, projection {found.projection}"
    return f"{made}: {found.n:,} {items} of {of} ({emotions})"


def _rows(found: Evaluation) -> Iterator[dict[str, Any]]:
    """Yield one figure a row, each beside its chance."""
    for name, figures in found.figures.items():
        condition = name.replace("_", " ")
        for row in (*_retrieval(figures), *_leaks(figures), *_recalls(found.recalls.get(name))):
            yield {"condition": condition, **row}
    first = next(iter(found.figures)).replace("_", " ")
    for split in found.splits:
        yield {"condition": first, **_row(f"mAP, {split.name}", split.map, split.map_chance, split.map_interval)}
        if "raw" in found.figures:
            yield {"condition": "raw", **_row(f"mAP, {split.name}", split.raw, split.map_chance, split.raw_interval)}


def _retrieval(figures: Figures) -> Iterator[dict[str, Any]]:
    left_out: Mapping[str, Ranking | None] = {
        "other speakers": figures.other_speakers,
        "other speakers and texts": figures.other_speakers_and_texts,
        "everyone": figures.everyone,
    }
    for who, ranking in left_out.items():
        if ranking is None:
            continue
        yield _row(f"mAP, {who}", ranking.map, ranking.map_chance, ranking.map_interval)
        for depth, value in ((1, ranking.precision_at_1), (5, ranking.precision_at_5), (10, ranking.precision_at_10)):
            interval = ranking.precision_at_10_interval if depth == 10 else None
            yield _row(f"precision@{depth}, {who}", value, ranking.precision_chance, interval)
    ranking = figures.other_speakers or figures.everyone
    for emotion, of in ranking.by_emotion.items() if ranking is not None else ():
        yield _row(f"mAP, {emotion}", of.map, of.map_chance)
        yield _row(f"precision@10, {emotion}", of.precision_at_10, of.precision_chance)


def _leaks(figures: Figures) -> Iterator[dict[str, Any]]:
    leaks: Mapping[str, Leak | None] = {"speaker": figures.same_speaker, "text": figures.same_text}
    for what, leak in leaks.items():
        if leak is not None:
            yield _row(f"same {what} among the first 10", leak.at_10, leak.chance)
    for kind, drawn in figures.triplets.items():
        yield _row(f"triplets, {kind}", drawn.accuracy, 0.5, drawn.interval)


def _recalls(recall: Recall | None) -> Iterator[dict[str, Any]]:
    if recall is not None:
        yield _row("UAR of the encoder's classes", recall.uar, recall.chance)


def _row(figure: str, value: float, chance: float, interval: tuple[float, float] | None = None) -> dict[str, Any]:
    low, high = interval or (None, None)
    return {"figure": figure, "value": value, "low": low, "high": high, "chance": chance}


def _table(rows: list[dict[str, Any]]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Return columns and rows for people: one condition with its intervals, or several; raw vectors beside them."""
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    several = len([name for name in conditions if name != "raw"]) > 1
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        low, high, chance = row["low"], row["high"], row["chance"]
        line = lines.setdefault(row["figure"], {"figure": row["figure"], "chance": f"{chance:.3f}"})
        line[row["condition"]] = f"{row['value']:.3f}"
        if not several and row["condition"] != "raw":
            line["interval"] = "" if low is None else f"{low:.3f} to {high:.3f}"
            line["ratio"] = f"{row['value'] / chance:.1f}" if chance else ""
    columns = {"figure": "figure~"} | {name: f"{name}>" for name in conditions} | {"chance": "chance>"}
    if not several:
        columns |= {"ratio": "x chance>", "interval": "95 %>"}
    return columns, list(lines.values())
