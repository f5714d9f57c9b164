"""The labels to evaluate on, from a CSV or TSV file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from e2vsearch.analysis.evaluation.types import LabelFailure
from e2vsearch.csv_table import FILE_COLUMNS, read_table
from e2vsearch.errors import SettingsError

COLUMNS: dict[str, tuple[str, ...]] = {
    "path": ("path", *FILE_COLUMNS),
    "emotion": ("emotion", "emotion_label", "label"),
    "speaker": ("speaker", "speaker_id", "actor", "voice"),
    "text": ("text", "sentence", "sentence_id", "transcript", "transcription", "utterance", "words"),
    "call": ("call", "call_id", "conversation", "dialogue", "session"),
    "channel": ("channel",),
}
"""What each column may be called, in any case; the first that is there counts."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One row: a file, or one channel of it, and what is known of it."""

    line: int  # of the table
    path: str  # as written there
    emotion: str
    speaker: str = ""  # "": unknown, here and below
    text: str = ""
    call: str = ""
    channel: int | None = None  # None: every channel that sounds


@dataclass(frozen=True, slots=True)
class LabelTable:
    """The rows that can be used, and those that cannot."""

    folder: Path  # that the table lies in
    rows: tuple[Labelled, ...]
    failures: tuple[LabelFailure, ...]

    def files(self, row: Labelled) -> tuple[Path, ...]:
        """Return where a row's file may be: beside the table, or one folder up; absolute, existing or not."""
        written = Path(row.path).expanduser()
        below = (self.folder, self.folder.parent)
        # not resolved: a collection stores paths as they were given, links and all, but without ".."
        return tuple(dict.fromkeys(Path(os.path.abspath(base / written)) for base in below))  # noqa: PTH100

    def file(self, row: Labelled) -> Path:
        """Return the first of `files` that exists, else the first: opening it raises the error."""
        files = self.files(row)
        return next((each for each in files if each.exists()), files[0])


def read(path: str | os.PathLike[str]) -> LabelTable:
    """Return the rows of a table with a header; see `COLUMNS` for the names.

    Case and spacing of emotions and texts do not matter. A row without a path or an emotion, or of what a row before it
    is of, is a failure; the rest goes on.

    Raises:
        SettingsError: the file cannot be read, or has no column for paths or emotions.
    """
    file = Path(path).expanduser()
    table = read_table(file, "the labels")
    header = [name.casefold() for name in table.columns]
    at = {kind: next((header.index(name) for name in names if name in header), -1) for kind, names in COLUMNS.items()}
    for kind in ("path", "emotion"):
        if at[kind] < 0:
            raise SettingsError(f"the labels {file} have no column {kind!r} - its first line must name the columns")
    rows: list[Labelled] = []
    failures: list[LabelFailure] = []
    seen: dict[tuple[str, int | None], int] = {}
    for line, cells in table.rows:
        _add(cells, at, line, rows, failures, seen)
    return LabelTable(Path(os.path.abspath(file)).parent, tuple(rows), tuple(failures))  # noqa: PTH100


def _add(
    cells: list[str],
    at: dict[str, int],
    line: int,
    rows: list[Labelled],
    failures: list[LabelFailure],
    seen: dict[tuple[str, int | None], int],
) -> None:
    values = {kind: cells[column] if 0 <= column < len(cells) else "" for kind, column in at.items()}
    path, channel = values["path"], values["channel"]

    def fail(reason: str, message: str) -> None:
        failures.append(LabelFailure(line, path, reason, f"line {line}: {message}"))

    if not path:
        fail("no-path", "no path is given")
    elif not values["emotion"]:
        fail("no-emotion", f"{path} has no emotion")
    elif channel and not (channel.isascii() and channel.isdigit()):
        fail("bad-channel", f"{path}: channel {channel!r} is no number from 0")
    else:
        row = Labelled(
            line,
            path,
            _plain(values["emotion"]),
            values["speaker"],
            _plain(values["text"]),
            values["call"],
            int(channel) if channel else None,
        )
        before = seen.setdefault((path, row.channel), line)
        if before != line:
            fail("twice", f"{path} is there twice, in line {before} as well: that one counts")
        else:
            rows.append(row)


def _plain(words: str) -> str:
    return " ".join(words.casefold().split())
