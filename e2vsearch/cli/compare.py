"""``compare``: how alike two clips feel."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from e2vsearch.cli.command import command
from e2vsearch.cli.emotion import bar
from e2vsearch.cli.options import EncodingOptions, actor
from e2vsearch.cli.output import Results, span


@command("compare angry.wav calm.wav", "compare angry.wav calm.wav --encoder light --format json")
def compare(
    a: Annotated[str, typer.Argument(help="A clip, or a stored id: call:45 or seg:123.", metavar="A")],
    b: Annotated[str, typer.Argument(help="Another.", metavar="B")],
    *,
    options: EncodingOptions,
    results: Results,
) -> None:
    """Compare how alike two clips feel. Scores are cosines, as the collection compares; nothing is stored."""
    import e2vsearch

    found = e2vsearch.compare(a, b, **asdict(options), actor=actor())
    table = [
        {
            "name": each.name,
            "emotion": bar(each.emotion, each.emotion_score),
            "speech": f"{each.speech_s:.1f} s",
            "at": f"ch {each.channel}, {span(each.start_s, each.end_s)}",
        }
        for each in (found.a, found.b)
    ]
    columns = {"name": "clip~", "emotion": "emotion", "speech": "speech>", "at": "most alike segment"}
    similarity = f"similarity {found.score:.4f}, of the most alike segments {found.best:.4f}"
    results.write_headline(f"{similarity}\n{found.space}")
    results.write([asdict(found)], columns, table=table, whole=asdict(found))
    raw = found.space.projection == "raw"
    how = "raw, as the encoder made the vectors" if raw else f"through {found.space.projection}"
    results.note(f"compared {how}: {found.reason}")
