"""``evaluate``: how well emotions are found in other voices and other words, on labels of the user's own."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2vsearch.cli.options import By, Device, Format, Output, OutputFormat, Precision, Quiet
from e2vsearch.cli.output import SOME_FAILED, chosen, note, write
from e2vsearch.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from e2vsearch.analysis.evaluation.types import Evaluation, Figures, LabelFailure, Leak, Ranking, Recall


_LISTED = 20  # failures shown after a run; the json format has them all


class Condition(StrEnum):
    """How the labelled files are heard."""

    clean = "clean"
    telephone = "telephone"
    all = "all"


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
            help="Hears each file as one signal: light, emotion2vec_plus_large, ...  [default: the encoder that ingest "
            "would take]",
            show_default=False,
        ),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            help="A collection: its stored segments and its projection are taken. With --encoder too, files are heard "
            "anew, and the projection is the collection's.",
            metavar="COLLECTION",
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
    by: Annotated[By, typer.Option(help="Find segments, or calls by their mean.")] = By.segment,
    condition: Annotated[
        Condition,
        typer.Option(help="Hear files as they are, as telephone copies (made here), or both and each among the other."),
    ] = Condition.clean,
    seed: Annotated[int, typer.Option(help="Of copies, triplets and intervals: the same gives the same.", min=0)] = 0,
    draws: Annotated[int, typer.Option(help="Triplets of each kind.", min=1)] = 6_000,
    device: Device = None,
    precision: Precision = None,
    format_: OutputFormat = None,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Measure how well the same emotion is found in other voices and other words, beside chance."""
    import e2vsearch
    from e2vsearch import settings
    from e2vsearch.analysis.evaluation import evaluate as evaluation_evaluate
    from e2vsearch.analysis.evaluation import labels_table
    from e2vsearch.analysis.evaluation import layers as evaluation_layers
    from e2vsearch.cli import layers as layer_table
    from e2vsearch.cli.progress import Shown
    from e2vsearch.pipeline import encoder_for

    if layers or projections:
        _only_alone(index=index, projection=projection, by=by is By.call, condition=condition is not Condition.clean)
        with Shown(quiet) as shown:
            table = labels_table.read(labels)
            opened = encoder_for(settings.load(encoder=encoder, device=device, precision=precision))
            blocks = evaluation_layers.evaluate_layers(
                table, opened, layers=layers, projections=projections, seed=seed, draws=draws, progress=shown
            )
        layer_table.show(blocks, format_, output)
        _tell(blocks.notes, blocks.failures, quiet)
        return
    with ExitStack() as stack:
        collection = None
        if index is not None:
            collection = stack.enter_context(e2vsearch.open(index, create=False, device=device, precision=precision))
        table = labels_table.read(labels)  # before an encoder takes its time to open
        stored = collection is not None and encoder is None
        hears = None if stored else encoder_for(settings.load(encoder=encoder, device=device, precision=precision))
        found = evaluation_evaluate.evaluate(
            table,
            hears,
            collection=collection,
            projection=projection,
            by=by.value,
            condition=condition.value,
            seed=seed,
            draws=draws,
            progress=stack.enter_context(Shown(quiet)),
        )
    whole = asdict(found)
    rows = list(_rows(found))
    if chosen(format_, output) is Format.table and output is None:
        typer.echo(_headline(found) + "\n")
    machine = rows if chosen(format_, output) is Format.csv else [whole]
    columns, drawn = _drawn(rows)
    write(machine, format_=format_, output=output, columns=columns, table=drawn, whole=whole)
    _tell(found.notes, found.failures, quiet)


def _only_alone(**given: object) -> None:
    """See that options which a table of layers and projections has no place for are left out.

    Raises:
        SettingsError: one is given.
    """
    for name, value in given.items():
        if value:
            raise SettingsError(
                f"--layers and --projections measure an encoder's vectors of clips as they are - leave --{name} out, "
                "and name the encoder with --encoder"
            )


def _tell(notes: Sequence[str], failures: Sequence[LabelFailure], quiet: bool) -> None:
    """Notes and failed rows, on stderr.

    Raises:
        typer.Exit: some rows failed.
    """
    for message in notes:
        note(f"note: {message}", quiet=quiet)
    for failure in failures[:_LISTED]:
        note(f"failed: {failure.message}", quiet=quiet)
    if len(failures) > _LISTED:
        note(f"… and {len(failures) - _LISTED:,} more: --format json has them all", quiet=quiet)
    if failures:
        raise typer.Exit(SOME_FAILED)


def _headline(found: Evaluation) -> str:
    emotions = ", ".join(f"{name} {n:,}" for name, n in found.emotions.items())
    of = f"{found.speakers:,} speakers, {found.texts:,} texts"
    space = found.space
    made = f"{space.encoder}@{space.revision[:12]}, {space.dim}-d, projection {found.projection}"
    return f"{made}: {found.n:,} {found.by}s of {of} ({emotions})"


def _rows(found: Evaluation) -> Iterator[dict[str, Any]]:
    """One figure a row, each beside its chance."""
    for name, figures in found.figures.items():
        heard = name.replace("_", " ")
        for row in (*_retrieval(figures), *_carried(figures), *_named(found.recalls.get(name))):
            yield {"heard": heard, **row}
    first = next(iter(found.figures)).replace("_", " ")
    for split in found.splits:
        yield {"heard": first, **_row(f"mAP, {split.name}", split.map, split.map_chance, split.map_interval)}
        if "raw" in found.figures:
            yield {"heard": "raw", **_row(f"mAP, {split.name}", split.raw, split.map_chance, split.raw_interval)}


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


def _carried(figures: Figures) -> Iterator[dict[str, Any]]:
    leaks: Mapping[str, Leak | None] = {"speaker": figures.same_speaker, "text": figures.same_text}
    for what, leak in leaks.items():
        if leak is not None:
            yield _row(f"same {what} among the first 10", leak.at_10, leak.chance)
    for kind, drawn in figures.triplets.items():
        yield _row(f"triplets, {kind}", drawn.accuracy, 0.5, drawn.interval)


def _named(recall: Recall | None) -> Iterator[dict[str, Any]]:
    if recall is not None:
        yield _row("UAR of the encoder's classes", recall.uar, recall.chance)


def _row(figure: str, value: float, chance: float, interval: tuple[float, float] | None = None) -> dict[str, Any]:
    low, high = interval or (None, None)
    return {"figure": figure, "value": value, "low": low, "high": high, "chance": chance}


def _drawn(rows: list[dict[str, Any]]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Columns and rows for people: one condition with its intervals, or several side by side; raw vectors beside."""
    heard = list(dict.fromkeys(row["heard"] for row in rows))
    several = len([name for name in heard if name != "raw"]) > 1
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        low, high, chance = row["low"], row["high"], row["chance"]
        line = lines.setdefault(row["figure"], {"figure": row["figure"], "chance": f"{chance:.3f}"})
        line[row["heard"]] = f"{row['value']:.3f}"
        if not several and row["heard"] != "raw":
            line["interval"] = "" if low is None else f"{low:.3f} to {high:.3f}"
            line["ratio"] = f"{row['value'] / chance:.1f}" if chance else ""
    columns = {"figure": "figure"} | {name: f"{name}>" for name in heard} | {"chance": "chance>"}
    if not several:
        columns |= {"ratio": "x chance>", "interval": "95 %>"}
    return columns, list(lines.values())
