"""Options that several commands share, each written once, and blocks of them."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from e2vsearch.cli.command import OUTPUT

if TYPE_CHECKING:
    from e2vsearch.collection import Collection
    from e2vsearch.encoders.base import Encoder


Format = Literal["table", "json", "jsonl", "csv"]
"""How results are printed."""

By = Literal["recording", "segment"]
"""What a hit, a point or an item is."""

ENCODER, FILTER = "Encoder", "Filter"
"""Panels of every command's help."""

Index = Annotated[
    str | None,
    typer.Option(
        help="The collection: a folder, or a database URL such as postgresql://user@host/calls, whose password belongs "
        "in ~/.pgpass.  [default: index]",
        envvar="E2VSEARCH_INDEX",
        metavar="COLLECTION",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]
EncoderName = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        help="auto, emotion2vec_plus_large, emotion2vec_plus_base, emotion2vec_plus_seed, emotion2vec_base, a model "
        "folder, light (offline), or saved (.npy files).  [default: the collection's; auto for a new one, which is "
        "emotion2vec_plus_large where it is installed and can be had, else light]",
        envvar="E2VSEARCH_ENCODER",
        metavar="NAME",
        rich_help_panel=ENCODER,
        show_default=False,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Where the encoder runs: cpu, cuda, cuda:1 …  [default: cpu]",
        envvar="E2VSEARCH_DEVICE",
        metavar="DEVICE",
        rich_help_panel=ENCODER,
        show_default=False,
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="Of emotion2vec: fp32; bf16, about three times as fast on a GPU or a CPU with AMX; or int8, twice as fast "
        "on CPUs with VNNI. Each is a space of its own: no collection takes two. bf16-as-fp32 adds to and queries a "
        "collection of fp32 all the same, off in the third digit.  "
        "[default: the collection's; fp32 for a new one]",
        envvar="E2VSEARCH_PRECISION",
        metavar="PRECISION",
        rich_help_panel=ENCODER,
        show_default=False,
    ),
]
EngineName = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="What holds the vectors to search in: faiss (files on this machine), pgvector (the collection's own "
        "Postgres), milvus, or a plug-in's name.  [default: the collection's; faiss for a new one]",
        envvar="E2VSEARCH_ENGINE",
        show_default=False,
    ),
]
EngineUrl = Annotated[
    str | None,
    typer.Option(
        "--engine-url",
        help="With milvus: http://host:19530, whose token belongs in E2VSEARCH_ENGINE_TOKEN; or a folder for "
        "milvus-lite, which one process at a time may use.",
        envvar="E2VSEARCH_ENGINE_URL",
        metavar="URL",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Recordings worked on at a time.  [default: one a core, four with emotion2vec]",
        envvar="E2VSEARCH_WORKERS",
        min=1,
        show_default=False,
    ),
]
MaxAudio = Annotated[
    float | None,
    typer.Option(
        "--max-audio-s",
        help="Longest recording, seconds; a longer one fails.  [default: 43200, twelve hours]",
        envvar="E2VSEARCH_MAX_AUDIO_S",
        min=1.0,
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Write results to this file; .json, .jsonl, .csv or .txt (table) picks the format.",
        metavar="FILE",
        rich_help_panel=OUTPUT,
    ),
]
OutputFormat = Annotated[
    Format | None,
    typer.Option(
        "--format",
        "-f",
        help="How results are printed.  [default: table on a terminal, jsonl when piped]",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
RawCsv = Annotated[
    bool,
    typer.Option(
        "--raw-csv",
        help="Cells of CSV as they are: by default one that a spreadsheet would run, such as =1+1, begins with '.",
        rich_help_panel=OUTPUT,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.", rich_help_panel=OUTPUT)]
Where = Annotated[
    str | None,
    typer.Option(
        help="Filter, e.g. 'queue = billing and date >= 2024-03-01 and emotion in (angry, sad)'. Names: emotion (a "
        'class, unsure or "too short"), emotion_score, arousal and valence (0 to 1), level_db (dBFS), label, '
        "label_score, role, channel, start_s, end_s, duration_s, name, uri, format, date, added, call_s, "
        "recording, segment, course (worsening, improving, steady, mixed), talk_share, silence_share, "
        "longest_silence_s, overtalk, interruptions, turns, or a column of --meta.",
        metavar="FILTER",
        rich_help_panel=FILTER,
    ),
]
Text = Annotated[
    str | None,
    typer.Option(
        help="Words of the segment's transcript: refund, '\"credit card\"', refund*, -thanks; all of them at once.",
        rich_help_panel=FILTER,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """Options of commands on a collection."""

    index: Index = None

    def open(self, *, create: bool = False, engine: str | None = None, engine_url: str | None = None) -> Collection:
        """Open the collection, as these options say; see `Collection.open` for the others."""
        import e2vsearch

        collection = e2vsearch.open(create=create, **asdict(self), engine=engine, engine_url=engine_url)
        collection.actor = actor()
        return collection


@dataclass(frozen=True, slots=True)
class EncodingOptions(OpenOptions):
    """Options of commands that encode audio, in a collection's space or without one."""

    encoder: EncoderName = None
    device: Device = None
    precision: Precision = None

    def open_encoder(self) -> Encoder:
        """Open the encoder that is named, else the collection's where there is one, else the default."""
        from e2vsearch import pipeline, settings

        return pipeline.encoder_for(settings.load(**asdict(self)))


def actor() -> str:
    """Return who types, as the audit log has it."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        return f"cli:{getattr(os, 'getuid', lambda: '')()}"


def read_paths(paths: Sequence[str]) -> list[str]:
    """Return paths; ``-`` among them stands for those that stdin lists, one a line."""
    if "-" not in paths:
        return list(paths)
    from e2vsearch.ingest.runner import paths_from

    return [*(path for path in paths if path != "-"), *paths_from(sys.stdin)]
