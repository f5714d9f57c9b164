"""Printing results: a table for people, JSON and CSV for machines."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from e2vsearch.cli.options import Format, Output, OutputFormat, Quiet, RawCsv
from e2vsearch.cli.table import Column, draw, wrapped
from e2vsearch.cli.text import cell, json_shown, shown
from e2vsearch.display import clock
from e2vsearch.errors import E2vsearchError

if TYPE_CHECKING:
    from rich.text import Text

SOME_FAILED = 3
"""Exit code of a run that finished, but for some files."""

INTERRUPTED = 130
"""Exit code of a run that Ctrl-C or SIGTERM ended; the next one goes on."""

Rows = Sequence[Mapping[str, Any]]
_LISTED = 20
"""Messages of one kind after a run; the json format has them all."""

SUFFIXES: Mapping[str, Format] = {".json": "json", ".jsonl": "jsonl", ".csv": "csv", ".txt": "table"}
"""Of files, and the formats that they pick."""

_PLACES = 6  # decimals of a number; scores are exact in double precision, whose last ten digits nobody reads
_DIGITS = 4  # of a number too small for these, such as a p value


@dataclass(frozen=True, slots=True)
class Results:
    """Options of how results are printed, and the printing of them."""

    format_: OutputFormat = None
    output: Output = None
    quiet: Quiet = False
    raw_csv: RawCsv = False

    def __post_init__(self) -> None:
        """Refuse a file whose suffix picks no format before anything is done for it."""
        if self.output is not None and self.format_ is None and self.output.suffix.lower() not in SUFFIXES:
            raise typer.BadParameter(
                f"--output {self.output}: the suffix says what is written: {', '.join(SUFFIXES)} - or name a --format"
            )

    @property
    def format(self) -> Format:
        """The format that is named, else the output file's, else what suits a terminal or a pipe."""
        if self.format_ is not None:
            return self.format_
        if self.output is not None:
            return SUFFIXES[self.output.suffix.lower()]
        return "table" if sys.stdout.isatty() else "jsonl"

    def write(
        self,
        rows: Rows,
        columns: Mapping[str, str | Column] | None = None,
        *,
        table: Rows | None = None,
        whole: Mapping[str, Any] | None = None,
        above: Sequence[Text] = (),
    ) -> None:
        """Print results.

        Args:
            rows: for machines: plain values under stable names.
            columns: of the table: name to heading, as `Column.of` reads it.
            table: rows for people, where they differ from `rows`.
            whole: for ``json``: one object instead of the list of rows.
            above: lines for people, before the table.
        """
        kind = self.format
        if kind == "table":
            on_terminal = self.output is None and sys.stdout.isatty()
            text = draw(rows if table is None else table, columns or {}, terminal=on_terminal, above=above)
        elif kind == "json":
            text = json_shown(json.dumps(plain(whole or list(rows)), ensure_ascii=False, indent=1)) + "\n"
        elif kind == "jsonl":
            text = json_shown("".join(json.dumps(plain(row), ensure_ascii=False) + "\n" for row in rows))
        else:
            text = _csv(rows, raw=self.raw_csv)
            text = shown(text, lines=True) if self.output is None and sys.stdout.isatty() else text
        self._print(text)

    def _print(self, text: str) -> None:
        if self.output is None:
            typer.echo(text, nl=False)
            return
        from e2vsearch.files import private_file, unwritable  # NumPy comes with it

        try:
            private_file(self.output).write_text(text, encoding="utf-8")
        except OSError as error:
            raise E2vsearchError(unwritable(self.output, error)) from error

    def write_headline(self, text: str) -> None:
        """Print lines and an empty one above a table, where people read it on stdout."""
        if self.format == "table" and self.output is None:
            typer.echo(wrapped(text, terminal=sys.stdout.isatty()))

    def write_facts(self, whole: Mapping[str, Any], facts: Sequence[tuple[str, Any]]) -> None:
        """Print one object; as a table, what people want to know of it, a fact a line."""
        table = [{"fact": name, "value": value} for name, value in facts]
        self.write([whole], {"fact": Column(fit="wrap"), "value": Column(fit="wrap")}, table=table, whole=whole)

    def write_rows(
        self, rows: Rows, columns: Mapping[str, str | Column], *, none: str, table: Rows | None = None
    ) -> None:
        """Print rows; people get a line on stderr where there are none."""
        if rows or self.format != "table":
            self.write(rows, columns, table=table)
        else:
            self.note(none)

    def write_report(self, whole: Mapping[str, Any], line: str) -> None:
        """Print one object; as a table, one line."""
        if self.format == "table":
            self._print(shown(line, lines=True) + "\n")
        else:
            self.write([whole], whole=whole)

    def note(self, message: str) -> None:
        """Print a line on stderr, unless that is to be quiet."""
        note(message, quiet=self.quiet)

    def note_each(self, messages: Sequence[str], more: str = "") -> None:
        """Print the first lines on stderr, and how many more there are.

        Args:
            messages: all of them.
            more: where the rest is found.
        """
        for message in messages[:_LISTED]:
            self.note(message)
        if len(messages) > _LISTED:
            self.note(f"… and {len(messages) - _LISTED:,} more{more}")

    def note_failures(self, messages: Iterable[str], more: str = "") -> None:
        """Print what failed on stderr, as `note_each` does."""
        self.note_each([f"failed: {each}" for each in messages], more)


def note(message: str, *, quiet: bool = False) -> None:
    """Print a line on stderr, unless that is to be quiet."""
    if not quiet:
        echo(message, err=True)


def echo(line: str, *, err: bool = False) -> None:
    """Print lines, whatever they hold of names and texts of others."""
    typer.echo(shown(line, lines=True), err=err)


def span(start_s: float, end_s: float) -> str:
    """Return two times with a dash between."""
    return f"{clock(start_s)}–{clock(end_s)}"  # noqa: RUF001 - a dash between numbers


def size(count: float) -> str:
    """Return bytes as people read them: ``1536`` → ``1.5 kB``."""
    if count < 1000:
        return f"{count:.0f} B"
    thousands = min(3, int(math.log10(count) // 3))
    return f"{count / 1000**thousands:.1f} {' kMG'[thousands]}B"


def counted(count: int, noun: str, nouns: str | None = None) -> str:
    """Return ``1 recording``, ``2,000 recordings``.

    Args:
        count: of them.
        noun: one of them.
        nouns: several, where that is not the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else nouns or f'{noun}s'}"


def scored(name: str | None, probability: float | None) -> str:
    """Return a class with its probability, where it has one."""
    return name or "" if probability is None else f"{name} {probability:.2f}"


def speed(segments: int, audio_s: float, seconds: float) -> str:
    """Return what a run over audio stored, and how fast."""
    return f"{counted(segments, 'segment')} of {clock(audio_s)} in {seconds:.1f} s, {audio_s / seconds:.0f}x real time"


def figure(value: float | None, digits: int = 3) -> str:
    """Return a figure, or nothing where it could not be measured."""
    return "" if value is None else f"{value:.{digits}f}"


def _csv(rows: Rows, *, raw: bool) -> str:
    """Return rows as CSV; nested values are columns of their own: ``metadata.queue``."""
    flat = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([cell(name, raw=raw) for name in names])
    writer.writerows([cell(row.get(name), raw=raw) for name in names] for row in flat)
    return buffer.getvalue()


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        elif isinstance(value, list | tuple):
            flat[prefix + name] = json.dumps(plain(value))
        else:
            flat[prefix + name] = plain(value) if isinstance(value, float) else value
    return flat


def plain(value: Any) -> Any:
    """Return a value as JSON has it, numbers rounded to what they are good for.

    >>> plain({"score": 0.9200394749641418, "p": 1.23456e-9})
    {'score': 0.920039, 'p': 1.235e-09}
    """
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float) and math.isfinite(value):
        number = float(value)
        return round(number, _PLACES) if abs(number) >= 10**-_DIGITS else float(f"{number:.{_DIGITS}g}")
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    return value


def check_outputs(paths: Sequence[Path], drawn: Sequence[str]) -> None:
    """Refuse files that cannot be written, before anything is done for them.

    Args:
        paths: of tables and pictures.
        drawn: suffixes of pictures.
    """
    known = (*SUFFIXES, *drawn)
    for path in paths:
        if path.suffix.lower() not in known:
            raise typer.BadParameter(f"{path}: the suffix says what is written: {', '.join(known)}")
        if not path.parent.is_dir():
            raise typer.BadParameter(f"{path}: there is no folder {path.parent}")


def split_outputs(
    paths: Sequence[Path], format_: Format | None, *, quiet: bool, raw_csv: bool
) -> tuple[list[Results], list[Path]]:
    """Return results that print into each file of a table, or to stdout where there is none, and files of pictures."""
    tables = [path for path in paths if path.suffix.lower() in SUFFIXES]
    printed = [Results(None, path, quiet, raw_csv) for path in tables] or [Results(format_, None, quiet, raw_csv)]
    return printed, [path for path in paths if path not in tables]
