"""``embed``: audio files to ``.npy`` and JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from e2vsearch.cli.command import command
from e2vsearch.cli.emotion import bar
from e2vsearch.cli.options import EncodingOptions, MaxAudio, OutputFormat, Quiet, read_paths
from e2vsearch.cli.output import SOME_FAILED, Results

Granularity = Literal["utterance", "frame"]


@command("embed calls/ -o vectors/ --similar-to angry.wav", "embed calls/ -o out/ --channel-role 0=agent,1=customer")
def embed(
    paths: Annotated[
        list[str],
        typer.Argument(help="Files, folders, globs; - reads a list of them from stdin, one a line.", metavar="PATH..."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for NAME.npy and NAME.json.", metavar="DIR")],
    granularity: Annotated[
        Granularity, typer.Option(help="One vector a file, or one a frame (50 a second).")
    ] = "utterance",
    similar_to: Annotated[
        Path | None,
        typer.Option(help="A sample, audio or .npy, that every file is compared with.", metavar="SAMPLE"),
    ] = None,
    max_audio_s: MaxAudio = None,
    channel_role: Annotated[
        str | None,
        typer.Option(help="Whose voice a channel has: an agent's is not embedded.", metavar="0=agent,1=customer"),
    ] = None,
    *,
    options: EncodingOptions,
    format_: OutputFormat = None,
    quiet: Quiet = False,
) -> None:
    """Embed audio files into .npy and JSON. The JSON has emotion and confidence; files that fail are passed over."""
    from e2vsearch import settings
    from e2vsearch.audio.paths import expand
    from e2vsearch.policy import parse_roles
    from e2vsearch.transfer import embeddings

    results = Results(format_, None, quiet)
    roles = None if channel_role is None else parse_roles(channel_role)
    files = expand(read_paths(paths))
    made = []
    longest_s = settings.load().max_audio_s if max_audio_s is None else max_audio_s
    encoder = options.open_encoder()
    for each in embeddings.embed(
        files,
        output,
        encoder,
        granularity=granularity,
        similar_to=similar_to,
        longest_s=longest_s,
        channel_roles=roles,
    ):
        made.append(each)
        if each.error is not None:
            results.note(f"failed: {each.error}")
    rows = [asdict(each) for each in made]
    columns = {"filepath": "file~", "channel": "ch>", "status": "status", "emotion": "emotion"}
    columns |= {"similarity_to_sample": "similarity>"} if similar_to is not None else {}
    results.write(rows, {**columns, "embedding": "embedding~"}, table=[{**row, **_row(row)} for row in rows])
    failed = sum(each.status == "failed" for each in made)
    results.note(f"{len(made) - failed:,} embedded into {output}, {failed:,} failed")
    if failed:
        raise typer.Exit(SOME_FAILED)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    cosine = row["similarity_to_sample"]
    return {
        "filepath": Path(row["filepath"]).name,
        "emotion": bar(row["emotion"], row["confidence"]),
        "similarity_to_sample": None if cosine is None else f"{cosine:.4f}",
    }
