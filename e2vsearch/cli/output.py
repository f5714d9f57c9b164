"""Printing results: a table for people, JSON and CSV for machines. Knows rows of named values, nothing of calls."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from e2vsearch.cli.options import (
    Format,
)
from e2vsearch.errors import SettingsError

if TYPE_CHECKING:
    pass

if TYPE_CHECKING:
    from e2vsearch.ingest.queue import QueueReport


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


FACTS = {"fact": "", "value": ""}
"""Columns of a two-column table without headings."""


def fact_rows(facts: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    """Rows of such a table."""
    return [{"fact": name, "value": value} for name, value in facts]


def index_facts(state: dict[str, Any]) -> list[tuple[str, Any]]:
    """What a person wants to know of an index."""
    newer = f"{state['tail']:,} segments are compared one by one"
    facts = [
        ("index", f"{state['kind']}, {state['n']:,} segments; {newer}" if state["generation"] else f"none; {newer}")
    ]
    if state["nprobe"]:
        facts.append(("recall", _promised(state)))
        facts.append(("nprobe", f"{state['nprobe']} of {state['nlist']} lists, {state['k_factor']}-fold re-rank"))
        facts.append(("lists", f"made for {state['trained_n']:,} segments, {state['trained_at']}"))
    if state["generation"]:
        facts.append(("generation", f"{state['generation']}, {size(state['size'] or 0)}, built {state['built_at']}"))
    if state["tombstones"]:
        facts.append(("tombstones", f"{state['tombstones']:,}"))
    facts += [(name, state[name]) for name in ("note", "damage", "due", "drift") if state[name]]
    return facts


def _promised(state: dict[str, Any]) -> str:
    whose = f"{state['sample_stored']:,} stored vectors"
    if state["sample_queries"]:
        whose += f" ({state['recall_stored']:.3f}) and the last {state['sample_queries']:,} queries"
        whose += f" ({state['recall_queries']:.3f})"
    return f"{state['recall']:.3f} of the exact top 20 (target {state['target']:g}), on {whose}, {state['measured_at']}"


def report_queued(
    report: QueueReport, place: str, *, encoder: str | None, format_: Format | None, output: Any, quiet: bool
) -> None:
    """Print what ``ingest --queue`` did."""
    if chosen(format_, output) is Format.table:
        parts = [f"{report.queued:,} queued"]
        parts += [f"{report.waiting:,} in the queue before"] if report.waiting else []
        parts += [f"{report.parked:,} parked before: e2vsearch queue retry"] if report.parked else []
        parts += [f"{report.already:,} already there"] if report.already else []
        parts += [f"{len(report.failures):,} failed"] if report.failures else []
        typer.echo(f"{place}: {', '.join(parts)}")
    else:
        write([asdict(report)], format_=format_, output=output, whole=asdict(report))
    if report.unused_metadata:
        note(f"{report.unused_metadata:,} rows of --meta name no file of this run", quiet=quiet)
    for failure in report.failures:
        note(f"failed: {failure.message}", quiet=quiet)
    if report.queued:
        with_encoder = f" --encoder {encoder}" if encoder else ""
        note(f"now start workers, here or elsewhere: e2vsearch worker --index {place}{with_encoder}", quiet=quiet)
