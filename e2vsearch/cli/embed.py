"""``embed``: audio files to ``.npy`` and JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2vsearch.cli.options import (
    Device,
    EncoderName,
    Granularity,
    Index,
    OutputFormat,
    Precision,
    Quiet,
)
from e2vsearch.cli.output import SOME_FAILED, note, write

if TYPE_CHECKING:
    pass


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
    precision: Precision = None,
    format_: OutputFormat = None,
    quiet: Quiet = False,
) -> None:
    """Embed audio files: .npy vectors, and JSON with emotion and confidence. A file that fails is passed over."""
    import sys

    from e2vsearch import pipeline, settings
    from e2vsearch.audio.paths import expand
    from e2vsearch.ingest.runner import paths_from
    from e2vsearch.transfer import embeddings

    named = [path for path in paths if path != "-"] + (list(paths_from(sys.stdin)) if "-" in paths else [])
    opened = pipeline.encoder_for(settings.load(index=index, encoder=encoder, device=device, precision=precision))
    results = []
    made = embeddings.embed(expand(named), output, opened, granularity=granularity.value, similar_to=similar_to)
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


def _embedded_row(row: dict[str, Any]) -> dict[str, Any]:
    cosine = row["similarity_to_sample"]
    return {
        "filepath": Path(row["filepath"]).name,
        "emotion": emotion_cell(row["emotion"], row["confidence"]),
        "similarity_to_sample": None if cosine is None else f"{cosine:.4f}",
    }


def emotion_cell(label: str | None, score: float | None) -> str:
    """Format a class and its probability for a table."""
    return label or "" if score is None else f"{label} {score:.2f}"
