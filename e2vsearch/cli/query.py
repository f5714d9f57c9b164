"""``query``, ``compare``, ``embed``."""

from __future__ import annotations

from dataclasses import asdict
from math import floor
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2vsearch.cli.embed import emotion_cell
from e2vsearch.cli.options import By, Device, EncoderName, Index, Output, OutputFormat, Precision, Quiet, Where
from e2vsearch.cli.output import clock, note, span, write

if TYPE_CHECKING:
    from e2vsearch.types import Hit, Match


_SAID = 48  # characters shown of what is said


def query(
    references: Annotated[
        list[str] | None,
        typer.Argument(
            help="A clip, an .npy vector, or a stored id: seg:123 or call:45. Not needed with --emotion or --arc.",
            metavar="REFERENCE...",
            show_default=False,
        ),
    ] = None,
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
    weight: Annotated[
        str | None,
        typer.Option(help="A number for each REFERENCE, e.g. 2,1: the score is their weighted mean.", metavar="W,W..."),
    ] = None,
    but_not: Annotated[
        list[str] | None,
        typer.Option(
            "--not", help="A reference that hits should be unlike. May be given several times.", metavar="REFERENCE"
        ),
    ] = None,
    not_weight: Annotated[
        float | None,
        typer.Option(
            "--not-weight", help="How much of the likeness to --not is taken off the score.  [default: 0.5]", min=0
        ),
    ] = None,
    emotion: Annotated[
        list[str] | None,
        typer.Option(
            help="An emotion or a label of yours, as a reference. Several mix: frustrated=1 and shouting=-0.5 is "
            "frustrated but not shouting; =0 is only what --min is of. May be given several times.",
            metavar="NAME[=WEIGHT]",
        ),
    ] = None,
    min_: Annotated[
        float | None,
        typer.Option("--min", help="The least probability of --emotion in a moment, likeliest or not.", min=0, max=1),
    ] = None,
    arc: Annotated[
        str | None,
        typer.Option(
            help="Calls that run like this from beginning to end: call:45, a file, or stations: neutral,angry,happy.",
            metavar="CALL|NAME,NAME...",
        ),
    ] = None,
    per_recording: Annotated[
        int | None, typer.Option(help="At most so many hits of one recording.", metavar="N", min=1)
    ] = None,
    per: Annotated[
        list[str] | None,
        typer.Option(
            help="At most so many hits that share a value: day, or a column of --meta, e.g. agent=2. May be given "
            "several times.",
            metavar="KEY=N",
        ),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say of each hit why it is one.")] = False,
    index: Index = None,
    encoder: EncoderName = None,
    device: Device = None,
    precision: Precision = None,
    format_: OutputFormat = None,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Find the calls that feel most like a reference. Scores are exact cosines: 1.0000 is the reference itself."""
    import e2vsearch

    if not references and not emotion and arc is None:
        raise typer.BadParameter("Missing argument REFERENCE: a clip or an id, or else --emotion or --arc")
    if not_weight is not None and not but_not:
        raise typer.BadParameter("--not-weight is the weight of --not, which is not given")
    limits = {} if per_recording is None else {"recording": per_recording}
    limits |= dict(_limit(each) for each in per or ())
    with e2vsearch.open(index, create=False, encoder=encoder, device=device, precision=precision) as collection:
        result = collection.query(
            *_with_weights(references or [], weight),
            k=k,
            by=by.value,
            where=where,
            include_self=include_self,
            exact=exact,
            text=text,
            named_vectors=dict(map(_weighed, fuse or ())),
            avoid=[each if not_weight is None else (each, not_weight) for each in but_not or ()],
            emotion=dict(map(_emotion_weight, emotion or ())),
            min_probability=min_,
            trajectory=arc,
            per=limits,
            explain=explain,
        )
        unsaid = (() if explain else ("percentile", "why")) + (() if result.arc else ("course",))
        rows = [
            {"rank": rank, **{name: value for name, value in asdict(hit).items() if name not in unsaid}}
            for rank, hit in enumerate(result, start=1)
        ]
        several = len(result.reference) > 1
        table = [{"rank": rank, **_hit_row(hit, several)} for rank, hit in enumerate(result, start=1)]
        columns = {
            "rank": "#>",
            "score": "score>",
            "name": "call",
            "channel": "ch>",
            "at": "at",
            "emotion": "emotion",
            **{name: name for name in ("label", "said", "fused") if any(row[name] for row in table)},
            **({"course": "course"} if result.arc else {}),
            **({"percentile": "nearer than>", "why": "why"} if explain else {}),
            "segment": "id",
        }
        whole = {**{name: value for name, value in asdict(result).items() if name != "hits"}, "hits": rows}
        write(rows, format_=format_, output=output, columns=columns, table=table, whole=whole)
        among = f"{result.searched:,} of {result.total:,}" if where or text else f"{result.searched:,}"
        how = "" if result.exact else " through the index"
        filtered = (f" where {where}" if where else "") + (f" saying {text}" if text else "")
        place = collection.location.named
        note(f"searched {among} segments{filtered}{how} in {result.seconds * 1000:.0f} ms, index {place}", quiet=quiet)
        if explain:
            note(
                "nearer than: so many % of random pairs of moments of this collection, of different calls", quiet=quiet
            )
        if collection.index.building:
            note(f"rebuilding the index, since {collection.index.building}", quiet=quiet)


def _hit_row(hit: Hit, several: bool) -> dict[str, Any]:
    return {
        "score": f"{hit.score:.4f}",
        "name": hit.name,
        "channel": hit.channel,
        "at": span(hit.start_s, hit.end_s),
        "emotion": emotion_cell(hit.emotion, hit.emotion_score),
        "label": f"{hit.label} (yours)" if hit.label_score == 1 else emotion_cell(hit.label, hit.label_score),
        "said": _shortened(hit.text or ""),
        "fused": ", ".join(f"{name} {cosine:.3f}" for name, cosine in hit.named_vector_scores.items()),
        "course": course(hit, several),
        "percentile": percentile(hit),
        "why": why(hit, several),
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
    from e2vsearch.transfer.vector_files import vector

    return name, (number, vector(Path(reference).expanduser()))


def _with_weights(references: list[str], weights: str | None) -> list[Any]:
    """References with the numbers of ``2,1``, as `Collection.query` takes them."""
    if weights is None:
        return list(references)
    try:
        numbers = [float(each) for each in weights.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"--weight takes numbers such as 2,1, not {weights!r}") from error
    if len(numbers) != len(references):
        raise typer.BadParameter(f"--weight takes a number for each reference: {len(references)}, not {len(numbers)}")
    return list(zip(references, numbers, strict=True))


def _emotion_weight(option: str) -> tuple[str, float]:
    """``shouting=-0.5`` → a name and its weight, 1 where none is given."""
    name, _, weight = option.partition("=")
    try:
        return name.strip(), float(weight or 1)
    except ValueError as error:
        raise typer.BadParameter(f"--emotion takes NAME or NAME=WEIGHT, as in angry=0.5, not {option!r}") from error


def _limit(option: str) -> tuple[str, int]:
    """``agent=2`` → a key and how many hits may share its value."""
    name, _, most = option.rpartition("=")
    if not name or not (most.isascii() and most.isdigit()):
        raise typer.BadParameter(f"--per takes KEY=N, as in agent=2 or day=3, not {option!r}")
    return name.strip(), int(most)


_MATCHES = 2  # shown of a hit's

_STATIONS = 5  # shown of a course


def why(hit: Hit, several: bool) -> str:
    """``both angry 0.81/0.74; 00:12.0 like 12:41.2 0.941; not calm.wav -0.120; emotion 0.31 + rest 0.63``."""
    if hit.why is None:
        return ""
    parts = []
    if hit.why.shared:
        shared = ", ".join(f"{each.emotion} {each.reference:.2f}/{each.moment:.2f}" for each in hit.why.shared[:2])
        parts.append(f"both {shared}")
    nearest = sorted(hit.why.matches, key=lambda match: -match.cosine)[:_MATCHES]
    parts += [f"{_at(match, several)} like {clock(match.start_s)} {match.cosine:.3f}" for match in nearest]
    parts += [f"not {_name(each.reference)} -{each.penalty:.3f}" for each in hit.why.avoided]
    if hit.why.emotion_part is not None and hit.why.rest_part is not None:
        parts.append(f"emotion {hit.why.emotion_part:.2f} + rest {hit.why.rest_part:.2f}")
    return "; ".join(parts)


def course(hit: Hit, several: bool) -> str:
    """When the call comes to each station of the reference: ``emotion:neutral 00:03.0, emotion:angry 01:12.4``."""
    reached = [
        match
        for before, match in zip((None, *hit.course), hit.course, strict=False)
        if before is None or _key(before) != _key(match)
    ]
    if len(reached) > _STATIONS:
        reached = [reached[round(at * (len(reached) - 1) / (_STATIONS - 1))] for at in range(_STATIONS)]
    return ", ".join(f"{_at(match, several)} {clock(match.start_s)}" for match in reached)


def percentile(hit: Hit) -> str:
    """``99.7 %``, rounded down: 100 is said only where no pair that was drawn is as near."""
    return "" if hit.percentile is None else f"{floor(hit.percentile * 10) / 10:.1f} %"


def _key(match: Match) -> tuple[str, float | None]:
    return match.reference, match.reference_start_s


def _at(match: Match, named: bool) -> str:
    """A moment of the reference, under its name where there are several."""
    start_s = match.reference_start_s
    if start_s is None:
        return _name(match.reference)
    return f"{_name(match.reference)}@{clock(start_s)}" if named else clock(start_s)


def _name(reference: str) -> str:
    """A file without its folders; an id or name as it is."""
    return PurePath(reference).name or reference
