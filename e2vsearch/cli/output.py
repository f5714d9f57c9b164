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
from e2vsearch.cli.text import cell, json_shown, shown
from e2vsearch.errors import SettingsError
from e2vsearch.listing import clock

if TYPE_CHECKING:
    from e2vsearch.policy import Policy

SOME_FAILED = 3
"""Exit code of a run that finished, but for some files."""

Rows = Sequence[Mapping[str, Any]]
_LISTED = 20
"""Messages of one kind after a run; the json format has them all."""

SUFFIXES: Mapping[str, Format] = {".json": "json", ".jsonl": "jsonl", ".csv": "csv"}
"""Of files, and the formats that they pick."""


@dataclass(frozen=True, slots=True)
class Results:
    """Options of how results are printed, and the printing of them."""

    format_: OutputFormat = None
    output: Output = None
    quiet: Quiet = False
    raw_csv: RawCsv = False

    @property
    def format(self) -> Format:
        """The format that is named, else the output file's, else what suits a terminal or a pipe."""
        if self.format_ is not None:
            return self.format_
        if self.output is not None:
            return SUFFIXES.get(self.output.suffix.lower(), "table")
        return "table" if sys.stdout.isatty() else "jsonl"

    @property
    def to_terminal(self) -> bool:
        """Whether people read them on stdout, where a line above the table has its place."""
        return self.format == "table" and self.output is None

    def write(
        self,
        rows: Rows,
        columns: Mapping[str, str] | None = None,
        *,
        table: Rows | None = None,
        whole: Mapping[str, Any] | None = None,
    ) -> None:
        """Print results.

        Args:
            rows: for machines: plain values under stable names.
            columns: of the table: name to heading; a heading that ends in ``>`` is set to the right.
            table: rows for people, where they differ from `rows`.
            whole: for ``json``: one object instead of the list of rows.
        """
        kind = self.format
        if kind == "table":
            text = _table(table if table is not None else rows, columns or {}, wide=self.output is not None)
        elif kind == "json":
            text = json_shown(json.dumps(whole or list(rows), ensure_ascii=False, indent=1, default=_plain)) + "\n"
        elif kind == "jsonl":
            text = json_shown("".join(json.dumps(row, ensure_ascii=False, default=_plain) + "\n" for row in rows))
        else:
            text = _csv(rows, raw=self.raw_csv)
            text = shown(text, lines=True) if self.output is None and sys.stdout.isatty() else text
        if self.output is None:
            typer.echo(text, nl=False)
            return
        from e2vsearch.files import private_file, unwritable  # NumPy comes with it

        try:
            private_file(self.output).write_text(text, encoding="utf-8")
        except OSError as error:
            from e2vsearch.files import unwritable  # which imports numpy

            raise SettingsError(unwritable(self.output, error)) from error

    def write_facts(self, whole: Mapping[str, Any], facts: Sequence[tuple[str, Any]]) -> None:
        """Print one object; as a table, what people want to know of it, a fact a line."""
        table = [{"fact": name, "value": value} for name, value in facts]
        self.write([whole], {"fact": "", "value": ""}, table=table, whole=whole)

    def write_rows(self, rows: Rows, columns: Mapping[str, str], *, none: str, table: Rows | None = None) -> None:
        """Print rows; people get a line on stderr where there are none."""
        if rows or self.format != "table":
            self.write(rows, columns, table=table)
        else:
            self.note(none)

    def write_report(self, whole: Mapping[str, Any], line: str) -> None:
        """Print one object; as a table, one line."""
        if self.format == "table":
            echo(line)
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


def scored(name: str | None, probability: float | None) -> str:
    """Return a class with its probability, where it has one."""
    return name or "" if probability is None else f"{name} {probability:.2f}"


def speed(segments: int, audio_s: float, seconds: float) -> str:
    """Return what a run over audio stored, and how fast."""
    return f"{segments:,} segments of {clock(audio_s)} in {seconds:.1f} s, {audio_s / seconds:.0f}x real time"


def figure(value: float | None, digits: int = 3) -> str:
    """Return a figure, or nothing where it could not be measured."""
    return "" if value is None else f"{value:.{digits}f}"


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
        drawn.add_row(*(Text("" if row.get(name) is None else shown(str(row[name]))) for name in columns))
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


def index_facts(state: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return what people want to know of an index."""
    newer = f"{state['tail']:,} segments are compared one by one"
    facts = [
        ("index", f"{state['kind']}, {state['n']:,} segments; {newer}" if state["generation"] else f"none; {newer}")
    ]
    if state["nprobe"]:
        facts.append(("recall", _recall(state)))
        facts.append(("nprobe", f"{state['nprobe']} of {state['nlist']} lists, {state['k_factor']}-fold re-rank"))
        facts.append(("lists", f"made for {state['trained_n']:,} segments, {state['trained_at']}"))
    if state["generation"]:
        facts.append(("generation", f"{state['generation']}, {size(state['size'] or 0)}, built {state['built_at']}"))
    if state["tombstones"]:
        facts.append(("tombstones", f"{state['tombstones']:,}"))
    facts += [(name, state[name]) for name in ("note", "damage", "due", "drift") if state[name]]
    return facts


def policy_facts(policy: Policy) -> list[tuple[str, Any]]:
    """Return what people want to know of a policy; what is not set is left out."""
    roles = ", ".join(f"{channel} {role}" for channel, role in policy.channel_roles.items())
    found = [
        ("purpose", policy.purpose),
        ("legal basis", policy.legal_basis),
        ("notice", policy.notice),
        ("contact", policy.contact),
        ("kept for", f"{policy.retention_days:,} days" if policy.retention_days else ""),
        ("channels", roles),
        ("employee fields", ", ".join(policy.employee_fields)),
        ("employee purpose", policy.employee_purpose),
        ("agents analysed", "yes" if policy.analyse_agent else ""),
        ("audit log", "on" if policy.audit else ""),
    ]
    return [(name, value) for name, value in found if value]


def _recall(state: dict[str, Any]) -> str:
    whose = f"{state['sample_stored']:,} stored vectors"
    if state["sample_queries"]:
        whose += f" ({state['recall_stored']:.3f}) and the last {state['sample_queries']:,} queries"
        whose += f" ({state['recall_queries']:.3f})"
    return f"{state['recall']:.3f} of the exact top 20 (target {state['target']:g}), on {whose}, {state['measured_at']}"
