"""``query``, ``compare``, ``embed``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2vsearch.cli.options import (
    By,
    Device,
    EncoderName,
    Format,
    Granularity,
    Index,
    Output,
    OutputFormat,
    Quiet,
    Where,
)
from e2vsearch.cli.output import chosen, clock, note, write

if TYPE_CHECKING:
    from e2vsearch.collection import Hit

_SAID = 48  # characters shown of what is said


def query(
    references: Annotated[
        list[str],
        typer.Argument(help="A clip, an .npy vector, or a stored id: seg:123 or call:45.", metavar="REFERENCE..."),
    ],
    k: Annotated[int, typer.Option("-k", help="How many hits.", min=1)] = 20,
    by: Annotated[By, typer.Option(help="Hits are calls with their best moment, or segments.")] = By.call,
    where: Where = None,
    include_self: Annotated[
        bool, typer.Option("--include-self", help="Keep the stored segment that is asked for.")
    ] = False,
    exact: Annotated[bool, typer.Option("--exact", help="Compare every segment, whatever index there is.")] = False,
    text: Annotated[
        str | None,
        typer.Option(
            help="What must be said in the moment: refund, '\"credit card\"', refund*, -thanks; all of them at once."
        ),
    ] = None,
    fuse: Annotated[
        list[str] | None,
        typer.Option(
            help="Let side vectors count as well (see attach), e.g. text=0.5:seg:12, text=0.5:ref.npy, or text=0.5 for "
            "the reference's own; emotion=2 weighs the emotion, which is 1. May be given several times.",
            metavar="NAME=WEIGHT[:REF]",
        ),
    ] = None,
    index: Index = None,
    encoder: EncoderName = None,
    device: Device = None,
    format_: OutputFormat = None,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Find the calls that feel most like a reference. Scores are exact cosines: 1.0000 is the reference itself."""
    import e2vsearch

    with e2vsearch.open(index, create=False, encoder=encoder, device=device) as collection:
        result = collection.query(
            *references,
            k=k,
            by=by.value,
            where=where,
            include_self=include_self,
            exact=exact,
            text=text,
            fuse=dict(map(_weighed, fuse or ())),
        )
        rows = [{"rank": rank, **asdict(hit)} for rank, hit in enumerate(result, start=1)]
        columns = {
            "rank": "#>",
            "score": "score>",
            "name": "call",
            "channel": "ch>",
            "at": "at",
            "emotion": "emotion",
            **{name: name for name in ("label", "said", "fused") if any(_hit_row(hit)[name] for hit in result)},
            "segment": "id",
        }
        table = [{"rank": rank, **_hit_row(hit)} for rank, hit in enumerate(result, start=1)]
        whole = {**{name: value for name, value in asdict(result).items() if name != "hits"}, "hits": rows}
        write(rows, format_=format_, output=output, columns=columns, table=table, whole=whole)
        among = f"{result.searched:,} of {result.total:,}" if where or text else f"{result.searched:,}"
        how = "" if result.exact else " through the index"
        filtered = (f" where {where}" if where else "") + (f" saying {text}" if text else "")
        place = collection.place.named
        note(f"searched {among} segments{filtered}{how} in {result.seconds * 1000:.0f} ms, index {place}", quiet=quiet)
        if collection.mending:
            note(f"rebuilding the index, since {collection.mending}", quiet=quiet)


def compare(
    a: Annotated[str, typer.Argument(help="A clip.")],
    b: Annotated[str, typer.Argument(help="Another clip.")],
    index: Index = None,
    encoder: EncoderName = None,
    device: Device = None,
    format_: OutputFormat = None,
    output: Output = None,
) -> None:
    """How alike two clips feel: the cosine of their vectors, and what each seems to be. Nothing is stored."""
    from e2vsearch import settings
    from e2vsearch.collection.comparing import compare_heard
    from e2vsearch.collection.embedding import open_encoder
    from e2vsearch.collection.hearing import hear
    from e2vsearch.collection.references import local_path

    opened = open_encoder(settings.load(index=index, encoder=encoder, device=device))
    result = compare_heard(opened.space, (a, hear(local_path(a), opened)), (b, hear(local_path(b), opened)))
    row = asdict(result)
    table = [
        {
            "name": side.name,
            "emotion": _emotion(side.emotion, side.emotion_score),
            "speech": f"{side.speech_s:.1f} s",
            "at": f"ch {side.channel}, {_span(side.start_s, side.end_s)}",
        }
        for side in (result.a, result.b)
    ]
    columns = {"name": "clip", "emotion": "emotion", "speech": "speech>", "at": "most alike moment"}
    if chosen(format_, output) is Format.table and output is None:
        typer.echo(f"similarity {result.score:.4f}, of the most alike moments {result.best:.4f}  ({result.space})\n")
    write([row], format_=format_, output=output, columns=columns, table=table, whole=row)


def embed(
    paths: Annotated[
        list[str],
        typer.Argument(help="Files, folders, globs; - reads a list of them from stdin, one a line.", metavar="PATH..."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for NAME.npy and NAME.json.", metavar="DIR")],
    granularity: Annotated[
        Granularity, typer.Option(help="One vector a file, or one a frame (50 a second).")
    ] = Granularity.utterance,
    similar_to: Annotated[
        Path | None,
        typer.Option(help="A sample, audio or .npy, that every file is compared with.", metavar="SAMPLE"),
    ] = None,
    index: Index = None,
    encoder: EncoderName = None,
    device: Device = None,
    format_: OutputFormat = None,
    quiet: Quiet = False,
) -> None:
    """Embed audio files: .npy vectors, and JSON with emotion and confidence. A file that fails is passed over."""
    import sys

    from e2vsearch import settings
    from e2vsearch.cli.adding import SOME_FAILED
    from e2vsearch.collection import embedding
    from e2vsearch.ingest import expand, paths_from

    named = [path for path in paths if path != "-"] + (list(paths_from(sys.stdin)) if "-" in paths else [])
    opened = embedding.open_encoder(settings.load(index=index, encoder=encoder, device=device))
    results = []
    made = embedding.embed(expand(named), output, opened, granularity=granularity.value, similar_to=similar_to)
    for result in made:
        results.append(result)
        if result.error is not None:
            note(f"failed: {result.error}", quiet=quiet)
    rows = [asdict(result) for result in results]
    table = [{**row, **_embedded_row(row)} for row in rows]
    columns = {"filepath": "file", "channel": "ch>", "status": "status", "emotion": "emotion"}
    columns |= {"similarity_to_sample": "similarity>"} if similar_to is not None else {}
    write(rows, format_=format_, columns={**columns, "embedding": "embedding"}, table=table)
    failed = sum(result.status == "failed" for result in results)
    note(f"{len(results) - failed:,} embedded into {output}, {failed:,} failed", quiet=quiet)
    if failed:
        raise typer.Exit(SOME_FAILED)


def _hit_row(hit: Hit) -> dict[str, Any]:
    return {
        "score": f"{hit.score:.4f}",
        "name": hit.name,
        "channel": hit.channel,
        "at": _span(hit.start_s, hit.end_s),
        "emotion": _emotion(hit.emotion, hit.emotion_score),
        "label": f"{hit.label} (yours)" if hit.label_score == 1 else _emotion(hit.label, hit.label_score),
        "said": _shortened(hit.text or ""),
        "fused": ", ".join(f"{name} {cosine:.3f}" for name, cosine in hit.fused.items()),
        "segment": hit.segment,
    }


def _shortened(text: str) -> str:
    return text if len(text) <= _SAID else f"{text[: _SAID - 1].rstrip()}…"


def _weighed(option: str) -> tuple[str, float | tuple[float, Any]]:
    """``text=0.5:seg:12`` → a name, and its weight with its reference."""
    name, _, value = option.partition("=")
    weight, _, reference = value.partition(":")
    try:
        number = float(weight)
    except ValueError as error:
        raise typer.BadParameter(f"--fuse takes NAME=WEIGHT[:REF], as in text=0.5:seg:12, not {option!r}") from error
    if not reference:
        return name, number
    if reference.startswith("seg:"):
        return name, (number, reference)
    from e2vsearch.collection.attaching import vector

    return name, (number, vector(Path(reference).expanduser()))


def _embedded_row(row: dict[str, Any]) -> dict[str, Any]:
    cosine = row["similarity_to_sample"]
    return {
        "filepath": Path(row["filepath"]).name,
        "emotion": _emotion(row["emotion"], row["confidence"]),
        "similarity_to_sample": None if cosine is None else f"{cosine:.4f}",
    }


def _span(start_s: float, end_s: float) -> str:
    return f"{clock(start_s)}–{clock(end_s)}"  # noqa: RUF001 - a dash between numbers


def _emotion(label: str | None, score: float | None) -> str:
    return "" if label is None else f"{label} {score:.2f}"
