"""Printing results: a table for people, JSON and CSV for machines. Knows rows of named values, nothing of calls."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from e2vsearch.cli.options import Format
from e2vsearch.errors import SettingsError

SOME_FAILED = 3
"""Exit code of a run that finished, but for some files."""

Rows = Sequence[Mapping[str, Any]]


def chosen(format_: Format | None, output: Path | None) -> Format:
    """The format that was asked for, else the output file's, else what suits a terminal or a pipe."""
    if format_ is not None:
        return format_
    if output is not None:
        by_suffix = {".json": Format.json, ".jsonl": Format.jsonl, ".csv": Format.csv}
        return by_suffix.get(output.suffix.lower(), Format.table)
    return Format.table if sys.stdout.isatty() else Format.jsonl


def write(
    rows: Rows,
    *,
    format_: Format | None,
    output: Path | None = None,
    columns: Mapping[str, str] | None = None,
    table: Rows | None = None,
    whole: Mapping[str, Any] | None = None,
) -> None:
    """Print results.

    Args:
        rows: for machines: plain values under stable names.
        format_: as asked for.
        output: a file instead of stdout.
        columns: of the table: name to heading; a heading that ends in ``>`` is set to the right.
        table: rows for people, where they differ from `rows`.
        whole: for ``json``: one object instead of the list of rows.
    """
    kind = chosen(format_, output)
    if kind is Format.table:
        text = _table(table if table is not None else rows, columns or {}, wide=output is not None)
    elif kind is Format.json:
        text = (
            json.dumps(whole if whole is not None else list(rows), ensure_ascii=False, indent=1, default=_plain) + "\n"
        )
    elif kind is Format.jsonl:
        text = "".join(json.dumps(row, ensure_ascii=False, default=_plain) + "\n" for row in rows)
    else:
        text = _csv(rows)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{output} cannot be written: {error.strerror or error}") from error


def note(message: str, *, quiet: bool = False) -> None:
    """A word on stderr, unless asked to be quiet."""
    if not quiet:
        typer.echo(message, err=True)


def clock(seconds: float) -> str:
    """``761.2`` → ``12:41.2``; from an hour on ``1:02:03.4``."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes:02d}"
    return f"{head}:{rest / 10:04.1f}"


def span(start_s: float, end_s: float) -> str:
    """From when to when, with a dash between."""
    return f"{clock(start_s)}–{clock(end_s)}"  # noqa: RUF001 - a dash between numbers


def size(count: float, unit: str = "B") -> str:
    """``1536`` → ``1.5 kB``."""
    for prefix in ("", "k", "M", "G"):
        if count < 1000 or prefix == "G":
            return f"{count:.0f} {prefix}{unit}" if prefix == "" else f"{count:.1f} {prefix}{unit}"
        count /= 1000
    return ""


def _table(rows: Rows, columns: Mapping[str, str], *, wide: bool) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = columns or {name: name for name in (rows[0] if rows else {})}
    headed = any(columns.values())
    drawn = Table(box=None, pad_edge=False, show_header=headed, header_style="bold", padding=(0, 2, 0, 0))
    for heading in columns.values():
        right = heading.endswith(">")
        drawn.add_column(heading.removesuffix(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text("" if row.get(name) is None else str(row[name])) for name in columns))
    on_terminal = sys.stdout.isatty() and not wide
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=None if on_terminal else 240,  # nothing is folded in a file or a pipe
        force_terminal=on_terminal,
        highlight=False,
    )
    console.print(drawn)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _csv(rows: Rows) -> str:
    """Nested values become columns of their own: ``metadata.agent``."""
    flat = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return buffer.getvalue()


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        elif isinstance(value, list | tuple):
            flat[prefix + name] = json.dumps(value, default=_plain)
        else:
            flat[prefix + name] = value
    return flat


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be printed as JSON")
