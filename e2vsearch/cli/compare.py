"""``compare``: how alike two recordings feel."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from e2vsearch.cli.options import (
    Device,
    EncoderName,
    Format,
    Index,
    Output,
    OutputFormat,
    Precision,
    Quiet,
)
from e2vsearch.cli.output import chosen, note, span, write

if TYPE_CHECKING:
    pass
from e2vsearch.cli.embed import emotion_cell


def compare(
    a: Annotated[str, typer.Argument(help="A clip.")],
    b: Annotated[str, typer.Argument(help="Another clip.")],
    index: Index = None,
    encoder: EncoderName = None,
    device: Device = None,
    precision: Precision = None,
    format_: OutputFormat = None,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """How alike two clips feel, and what each seems to be: cosines, as the collection compares. Nothing is stored."""
    from e2vsearch import settings
    from e2vsearch.files import local_path
    from e2vsearch.pipeline import embed_audio, encoder_for
    from e2vsearch.projections.base import RAW
    from e2vsearch.projections.recalibrate import recalibrate
    from e2vsearch.search.compare import at_hand, compare_audio

    options = settings.load(index=index, encoder=encoder, device=device, precision=precision)
    opened = encoder_for(options)
    through = at_hand(options, opened)
    sides = [(clip, recalibrate(through.projection, embed_audio(local_path(clip), opened))) for clip in (a, b)]
    result = compare_audio(through.space, sides[0], sides[1], through.projection)
    row = asdict(result)
    table = [
        {
            "name": side.name,
            "emotion": emotion_cell(side.emotion, side.emotion_score),
            "speech": f"{side.speech_s:.1f} s",
            "at": f"ch {side.channel}, {span(side.start_s, side.end_s)}",
        }
        for side in (result.a, result.b)
    ]
    columns = {"name": "clip", "emotion": "emotion", "speech": "speech>", "at": "most alike moment"}
    if chosen(format_, output) is Format.table and output is None:
        typer.echo(f"similarity {result.score:.4f}, of the most alike moments {result.best:.4f}  ({result.space})\n")
    write([row], format_=format_, output=output, columns=columns, table=table, whole=row)
    how = "raw, as the encoder made the vectors" if through.projection is RAW else f"through {result.space.projection}"
    note(f"compared {how}: {through.why}", quiet=quiet)
