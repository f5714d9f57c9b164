"""``calls`` and ``clip``: recordings to look through, and the sound of what was found."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2vsearch.cli.command import command
from e2vsearch.cli.options import OpenOptions, Quiet, Text, Where
from e2vsearch.cli.output import Results, note
from e2vsearch.cli.table import Column
from e2vsearch.display import clock

if TYPE_CHECKING:
    from e2vsearch.types import Call

_EMOTIONS = 3  # that a row names


@command("calls", "calls --where 'queue = billing and date >= 2024-03-01'", "calls --text refund -k 50")
def calls(
    where: Where = None,
    text: Text = None,
    k: Annotated[int, typer.Option("-k", "--limit", help="How many recordings.", min=1)] = 20,
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """List recordings, the newest first. With the emotions in each, as shares of what is spoken.

    With --where or --text, those with a segment that meets both.
    """
    from e2vsearch.catalog.near_values import why_nothing

    with options.open() as collection:
        found = collection.calls(k, where=where, text=text)
        hint = None if found else why_nothing(collection.catalog, where, text)
    rows = [{**asdict(each.recording), "speech_s": each.speech_s, "emotions": each.emotions} for each in found]
    columns: Mapping[str, str | Column] = {
        "id": "id",
        "name": "recording~",
        "when": "recorded (UTC)",
        "length": "length>",
        "emotions": "emotions…",
        "more": Column(fit="end", below=True),
    }
    none = "no recording meets that" if where or text else "no recordings yet - add some with: e2vsearch ingest FOLDER"
    results.write_rows(rows, columns, none=none, table=[_row(each) for each in found])
    if hint:
        results.note(hint)
    elif len(rows) == k:
        results.note(f"the newest {k:,}: -k {10 * k} shows more")


@command("clip seg:32 -o x.wav", "clip call:10@12.3-15 -o x.wav", "clip seg:32 --context 2 -o - | aplay")
def clip(
    name: Annotated[
        str,
        typer.Argument(
            help="A stored id: seg:32, call:10, or a part of a recording, call:10@12.3-15, on channel 1 alone "
            "call:10@12.3-15#1.",
            metavar="ID",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The WAV file to write; - is stdout.")],
    context: Annotated[float, typer.Option(help="Seconds before and after it that are added.", min=0)] = 0.0,
    *,
    options: OpenOptions,
    quiet: Quiet = False,
) -> None:
    """Write the sound of a segment or recording. A WAV file of 16 kHz, 16 bit."""
    from e2vsearch.audio import SAMPLING_RATE_HZ, encode
    from e2vsearch.errors import SettingsError
    from e2vsearch.files import private_file, unwritable

    to_stdout = str(output) == "-"
    if not to_stdout and output.suffix.lower() != ".wav":
        raise typer.BadParameter(f"--output {output}: a clip is written as .wav, or to stdout with -")
    with options.open() as collection:
        signal = collection.clip(name, context)
    content = encode(signal)
    if to_stdout:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    try:
        private_file(output).write_bytes(content)
    except OSError as error:
        raise SettingsError(unwritable(output, error)) from error
    note(f"wrote {output}, {signal.shape[1] / SAMPLING_RATE_HZ:.1f} s", quiet=quiet)


def _row(call: Call) -> dict[str, Any]:
    recording = call.recording
    shares = [f"{name} {share:.0%}" for name, share in list(call.emotions.items())[:_EMOTIONS]]
    roles = ["?" if role is None else role for role in recording.roles or ()]
    channels = [", ".join(roles)] if roles else [f"{recording.channels} channels"] if recording.channels > 1 else []
    return {
        "id": recording.id,
        "name": recording.name,
        "when": f"{recording.recorded_at:%Y-%m-%d %H:%M}",
        "length": clock(recording.duration_s),
        "emotions": ", ".join(shares) or recording.note or "no speech",
        "more": " · ".join([*channels, *(f"{key}={value}" for key, value in recording.metadata.items())]),
    }
