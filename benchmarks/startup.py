"""How soon the command line answers: help, and a query by a stored id among 20,000 segments, as whole processes.

    python benchmarks/startup.py

Beside each figure stands its bar: a query is to take 4 times as long as Python with numpy, at most, and an ingest of
10,000 files that are all stored 2 s. What bounds a query from below is measured as well: Python with numpy, SQLAlchemy
and typer, of which every command makes use.

Vectors are made up (clustered, 384-d); the collection, its index and the processes are real. Times are the least of
several runs, since on a shared machine only the least says what the program itself needs; ratios are to Python's own
start-up with numpy in the same run.

What a query took less by, of 810 CPU-ms (Python with numpy: 71), each from two runs in turns, to about 10 ms:

| done | less |
|---|---|
| tables declared without SQLAlchemy's ORM | 105 |
| only the command that is typed; rich for tables alone | 40 |
| no pydantic for values that are right already | 100 |
| what builds, refits, verifies and reads transcripts loaded where it is used; no numpy.ma | 55 |
| no last collection of garbage, and no dialect of Postgres for SQLite | 50 |
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import time
import wave
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from _table import Row, parser, show

import e2vsearch
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.types import Space

SEGMENTS = 20_000
DIM = 384
FILES = 10_000
QUERY_BAR = 4.0
"""Times as long as Python with numpy, that a query by id may take."""

INGEST_BAR_S = 2.0
"""That an ingest of `FILES` which are all stored may take."""

PER_RECORDING = 50


def fill(folder: Path, segments: int) -> None:
    """Make a collection of that many made-up segments, with its index."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((100, DIM))
    with e2vsearch.open(folder, create=True) as collection:
        collection.catalog.pin(Space("saved", "made-up", DIM), "saved")
        for number in range(segments // PER_RECORDING):
            vectors = centres[rng.integers(100, size=PER_RECORDING)] + rng.standard_normal((PER_RECORDING, DIM))
            spoken = tuple(
                NewSegment(0, 5.0 * at, 5.0 * at + 4.0, vector) for at, vector in enumerate(vectors.astype(np.float32))
            )
            uri = f"/made/{number}.wav"
            digest = hashlib.sha256(uri.encode()).hexdigest()
            when = datetime(2024, 1, 1, tzinfo=UTC)
            length = 5.0 * PER_RECORDING
            made = NewRecording(uri, str(number), digest, 0, 0, when, length, 1, 8000, "made up", spoken)
            collection.catalog.store(made)
        collection.index.build()


def write_calls(folder: Path, count: int) -> None:
    """Write that many short files, no two alike, with no speech in them."""
    folder.mkdir()
    ramp = np.arange(800, dtype=np.int16)
    for number in range(count):
        with wave.open(str(folder / f"{number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes((ramp + np.int16(number)).tobytes())


def least(command: list[str], runs: int) -> float:
    """Seconds of the quickest of some runs of a whole process."""
    spent = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        spent.append(time.perf_counter() - started)
    return min(spent)


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__).parse_args()
    segments, files, runs = (4_000, 500, 3) if arguments.quick else (SEGMENTS, FILES, 9)
    ours = [sys.executable, "-m", "e2vsearch"]
    with tempfile.TemporaryDirectory() as scratch:
        index = str(Path(scratch) / "index")
        fill(Path(index), segments)
        calls, stored = str(Path(scratch) / "calls"), str(Path(scratch) / "stored")
        write_calls(Path(calls), files)
        ingest = [*ours, "ingest", calls, "--encoder", "light", "--index", stored]
        least(ingest, 1)
        query, again = f"query by id, {segments:,} segments", f"ingest of nothing new, {files:,} files"
        commands = {
            "python -c 'import numpy'": [sys.executable, "-c", "import numpy"],
            "and sqlalchemy and typer": [sys.executable, "-c", "import numpy, sqlalchemy, typer"],
            "import e2vsearch": [sys.executable, "-c", "import e2vsearch"],
            "e2vsearch --help": [*ours, "--help"],
            query: [*ours, "query", "seg:7", "-k", "20", "--index", index],
            "the same by segment, filtered": [
                *ours, "query", "seg:7", "--by", "segment", "--where", "recording <= 100", "--index", index,
            ],
            again: ingest,
        }  # fmt: skip
        for command in commands.values():
            least(command, 1)  # caches of the file system and of Python's bytecode
        spent = {name: least(command, runs) for name, command in commands.items()}
    base = next(iter(spent))
    rows = [Row(name, value, "s", value / spent[base], base) for name, value in spent.items()]
    bars = {query: QUERY_BAR * spent[base], again: INGEST_BAR_S}
    if files < FILES:
        del bars[again]
    rows += [Row(f"bar: {name}, at most", bar, "s", bar / spent[name], "the figure") for name, bar in bars.items()]
    show(f"Start-up of whole processes, least of {runs} runs", rows, arguments.json)


if __name__ == "__main__":
    main()
