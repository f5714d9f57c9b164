"""``query``: what is typed becomes a `Query`, under the names of its fields."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from e2vsearch.cli.command import command
from e2vsearch.cli.emotion import bar
from e2vsearch.cli.explanation import alignment, why
from e2vsearch.cli.options import FILTER, By, EncodingOptions, Text, Where
from e2vsearch.cli.output import Results, scored, span
from e2vsearch.cli.table import Column
from e2vsearch.display import percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from e2vsearch.search.query import NamedVectorWeight, Reference
    from e2vsearch.search.result import QueryResult
    from e2vsearch.types import Consistency, Hit

SCORE, GROUPS = "Score", "Groups"

_ROLES = {"customer": "cust", "agent": "agent"}
_COLUMNS: Mapping[str, str | Column] = {
    "rank": "#>",
    "score": "score>",
    "percentile": Column("pct", right=True, optional=True),
    "name": "recording~",
    "channel": "ch",
    "at": "at",
    "emotion": "emotion",
    "segment": "id",
    "words": Column(fit="end", below=True),
    "alignment": Column(fit="wrap", below=True),
    "why": Column(fit="wrap", below=True),
}


@command(
    "query angry.wav -k 20",
    "query seg:12 --by segment --where 'channel = 1' --explain",
    "query --emotion frustrated --emotion shouting=-0.5",
    moved={"--top-k": "-k", "--limit": "-k", "-n": "-k", "--not": "--avoid"},
)
def query(
    references: Annotated[
        list[str] | None,
        typer.Argument(
            help="A clip (- is stdin), an .npy vector, a stored id (seg:123, call:45), or a name: angry, "
            "emotion:angry, label:hesitant. Not needed with --emotion or --trajectory; --where or --text alone list "
            "what meets them, newest first.",
            metavar="REFERENCE...",
            show_default=False,
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many hits.", min=1)] = 20,
    by: Annotated[By, typer.Option(help="A hit is a recording with its best segment, or a segment.")] = "recording",
    where: Where = None,
    text: Text = None,
    avoid: Annotated[
        list[str] | None,
        typer.Option(
            help="A reference that hits should be unlike; repeatable.", metavar="REFERENCE", rich_help_panel=SCORE
        ),
    ] = None,
    avoid_weight: Annotated[
        float | None,
        typer.Option(
            help="How much of the likeness to --avoid is taken off the score.  [default: 0.5]",
            min=0,
            show_default=False,
            rich_help_panel=SCORE,
        ),
    ] = None,
    emotion: Annotated[
        list[str] | None,
        typer.Option(
            help="An emotion or a label of your own, as a reference; repeatable. frustrated and shouting=-0.5 is "
            "frustrated but not shouting; =0 is only what --min-probability is of.",
            metavar="NAME[=WEIGHT]",
            rich_help_panel=SCORE,
        ),
    ] = None,
    min_probability: Annotated[
        float | None,
        typer.Option(help="The least probability of --emotion in a segment.", min=0, max=1, rich_help_panel=FILTER),
    ] = None,
    trajectory: Annotated[
        str | None,
        typer.Option(
            help="Recordings whose emotion changes over time as in this one, call:45 or a file, or in this order: "
            "neutral,angry,happy.",
            metavar="REF|NAME,NAME...",
            rich_help_panel=SCORE,
        ),
    ] = None,
    group_by: Annotated[
        list[str] | None,
        typer.Option(
            help="Limit the hits that share a value: recording, day, or a column of --meta; repeatable.",
            metavar="KEY",
            rich_help_panel=GROUPS,
        ),
    ] = None,
    group_size: Annotated[
        list[int] | None,
        typer.Option(
            help="How many hits may share a value: one number, or one for each --group-by.  [default: 1]",
            metavar="N",
            show_default=False,
            rich_help_panel=GROUPS,
        ),
    ] = None,
    named_vector: Annotated[
        list[str] | None,
        typer.Option(
            help="Weigh other models' vectors in (see vectors attach); repeatable: text=0.5:seg:12, text=0.5:ref.npy, "
            "or text=0.5 for the reference's own; emotion=2 weighs the emotion, which is 1.",
            metavar="NAME=WEIGHT[:REF]",
            rich_help_panel=SCORE,
        ),
    ] = None,
    weight: Annotated[
        str | None,
        typer.Option(
            help="A number for each REFERENCE, e.g. 2,1: the score is their weighted mean.",
            metavar="W,W...",
            rich_help_panel=SCORE,
        ),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say of each hit why it is one.")] = False,
    exact: Annotated[bool, typer.Option("--exact", help="Compare every segment, whatever index there is.")] = False,
    include_self: Annotated[
        bool, typer.Option("--include-self", help="Keep stored segments that are the reference itself.")
    ] = False,
    consistency: Annotated[
        str,
        typer.Option(
            help="What an engine other than faiss must take account of: fresh, everything committed; any, what it has "
            "read so far; or a watermark.",
            metavar="fresh|any|N",
        ),
    ] = "fresh",
    *,
    options: EncodingOptions,
    results: Results,
) -> None:
    """Find the recordings that feel most like a reference. Scores are exact cosines: 1.0000 is the reference itself."""
    from e2vsearch.search.query import Query, Reference

    if not (references or emotion or where or text) and trajectory is None:
        raise typer.BadParameter(
            "Missing argument REFERENCE: a clip or an id, or else --emotion or --trajectory; or --where or --text alone"
        )
    if avoid_weight is not None and not avoid:
        raise typer.BadParameter("--avoid-weight is the weight of --avoid, which is not given")
    if group_size and not group_by:
        raise typer.BadParameter("--group-size is the size of --group-by, which is not given")
    wanted = Query(
        references=_weighted([_read(each) for each in references or ()], weight),
        k=k,
        by=by,
        where=where,
        text=text,
        avoid=tuple(Reference(each, avoid_weight) for each in avoid or ()),
        emotion=dict(map(_emotion, emotion or ())),
        min_probability=min_probability,
        trajectory=trajectory,
        group_by=tuple(group_by or ()),
        group_size=tuple(group_size) if group_size and len(group_size) > 1 else (group_size or [1])[0],
        named_vectors=dict(map(_named_vector, named_vector or ())),
        explain=explain,
        exact=exact,
        include_self=include_self,
        consistency=int(consistency) if consistency.isdigit() else cast("Consistency", consistency),
    )
    with options.open() as collection:
        result = collection.query(wanted)
        _write(result, results, explain=explain)
        among = f"{result.searched:,} of {result.total:,}" if where or text else f"{result.searched:,}"
        filtered = (f" where {where}" if where else "") + (f" with the text {text}" if text else "")
        how = "" if result.exact else " through the index"
        took = f"in {result.seconds * 1000:.0f} ms, collection {collection.location.named}"
        results.note(f"searched {among} segments{filtered}{how} {took}")
        if result.hint:
            results.note(result.hint)
        if any(hit.percentile is not None for hit in result):
            results.note("pct: so many % of random pairs of segments, of two recordings, are less alike")
        if collection.index.building:
            results.note(f"rebuilding the index, since {collection.index.building}")


def _write(result: QueryResult, results: Results, *, explain: bool) -> None:
    left_out = (() if explain else ("why",)) + (() if result.trajectory else ("alignment",))
    rows = [
        {"rank": rank, **{name: value for name, value in asdict(hit).items() if name not in left_out}}
        for rank, hit in enumerate(result, start=1)
    ]
    several = len(result.references) > 1
    table = None
    if results.format == "table":  # which loads rich
        table = [{"rank": rank, **_row(hit, several)} for rank, hit in enumerate(result, start=1)]
    whole = {**asdict(replace(result, hits=())), "hits": rows}
    columns = {name: column for name, column in _COLUMNS.items() if name != "score" or result.references}
    if rows or results.format != "table":  # of none, what is said on stderr is enough
        results.write(rows, columns, table=table, whole=whole)


def _row(hit: Hit, several: bool) -> dict[str, Any]:
    label = f"{hit.label} (yours)" if hit.label_score == 1 else scored(hit.label, hit.label_score)
    vectors = [f"{name} {cosine:.3f}" for name, cosine in hit.named_vector_scores.items()]
    return {
        "score": None if hit.score is None else f"{hit.score:.4f}",
        "percentile": None if hit.percentile is None else percent(hit.percentile),
        "name": hit.name,
        "channel": f"{hit.channel} {_ROLES[hit.role]}" if hit.role else hit.channel,
        "at": span(hit.start_s, hit.end_s),
        "emotion": bar(hit.emotion, hit.emotion_score),
        "segment": hit.segment,
        "words": " · ".join(filter(None, (label, *vectors, hit.text))),
        "alignment": alignment(hit, several),
        "why": why(hit, several),
    }


def _read(reference: str) -> str | bytes:
    """Return a reference; ``-`` is the audio on stdin."""
    return sys.stdin.buffer.read() if reference == "-" else reference


def _weighted(references: Sequence[str | bytes], weights: str | None) -> tuple[Reference, ...]:
    """Return the references with the numbers of ``2,1``."""
    from e2vsearch.search.query import Reference

    if weights is None:
        return tuple(map(Reference, references))
    try:
        numbers = [float(each) for each in weights.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"--weight takes numbers such as 2,1, not {weights!r}") from error
    if len(numbers) != len(references):
        raise typer.BadParameter(f"--weight takes a number for each reference: {len(references)}, not {len(numbers)}")
    return tuple(map(Reference, references, numbers))


def _emotion(option: str) -> tuple[str, float]:
    """Return the name and the weight of ``shouting=-0.5``; 1 where none is given."""
    name, _, weight = option.partition("=")
    try:
        return name.strip(), float(weight or 1)
    except ValueError as error:
        raise typer.BadParameter(f"--emotion takes NAME or NAME=WEIGHT, as in angry=0.5, not {option!r}") from error


def _named_vector(option: str) -> tuple[str, NamedVectorWeight]:
    """Return the name of ``text=0.5:seg:12``, and its weight with its reference."""
    name, _, value = option.partition("=")
    weight, _, reference = value.partition(":")
    try:
        number = float(weight)
    except ValueError as error:
        raise typer.BadParameter(
            f"--named-vector takes NAME=WEIGHT[:REF], as in text=0.5:seg:12, not {option!r}"
        ) from error
    if not reference:
        return name, number
    if reference.startswith("seg:"):
        return name, (number, reference)
    from e2vsearch.transfer.vector_files import vector

    return name, (number, vector(Path(reference).expanduser()))
