"""Options that several commands share, each written once. Knows names and help, nothing of what they do."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"


class By(StrEnum):
    """What a hit is."""

    call = "call"
    segment = "segment"


class Granularity(StrEnum):
    """One vector a file, or one a frame."""

    utterance = "utterance"
    frame = "frame"


class Kind(StrEnum):
    """How the index is built."""

    auto = "auto"
    flat = "flat"
    ivf_flat = "ivf-flat"
    ivf_rabitq = "ivf-rabitq"
    gpu = "gpu"


Index = Annotated[
    str | None,
    typer.Option(
        help="The collection: a folder, or a database URL such as postgresql://user@host/calls.  [default: index]",
        envvar="E2VSEARCH_INDEX",
        show_default=False,
    ),
]
EncoderName = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        help="emotion2vec_plus_large, emotion2vec_plus_base, emotion2vec_plus_seed, emotion2vec_base, a model folder, "
        "light (offline), or saved (.npy files).  [default: the collection's; emotion2vec_plus_large for a new one]",
        envvar="E2VSEARCH_ENCODER",
        show_default=False,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Where the encoder runs: cpu, cuda, cuda:1 …  [default: cpu]",
        envvar="E2VSEARCH_DEVICE",
        show_default=False,
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="Of emotion2vec: fp32, or bf16, which is about twice as fast and another space: no collection takes "
        "both. bf16-as-fp32 adds to or asks a collection of fp32 all the same, off in the third digit.  "
        "[default: the collection's; fp32 for a new one]",
        envvar="E2VSEARCH_PRECISION",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Recordings in work at a time.  [default: one a core, four with emotion2vec]",
        envvar="E2VSEARCH_WORKERS",
        min=1,
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write results to this file; .json, .jsonl or .csv picks the format."),
]
OutputFormat = Annotated[
    Format | None,
    typer.Option(
        "--format",
        "-f",
        help="How results are printed.  [default: table on a terminal, jsonl when piped]",
        show_default=False,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")]
Where = Annotated[
    str | None,
    typer.Option(
        help="Filter, e.g. 'agent = \"Kim\" and date >= 2024-03-01 and emotion in (angry, sad)'. Names: emotion (a "
        'class, unsure or "too short"), emotion_score, arousal and valence (0 to 1), level_db (dBFS), label, '
        "label_score, channel, start_s, end_s, duration_s, name, uri, date, added, call_s, recording, or a column of "
        "--meta.",
    ),
]
