"""Tables that every benchmark prints, and the same rows as JSON."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure, beside what it should be compared with in the same run."""

    name: str
    value: float
    unit: str = ""
    ratio: float | None = None  # value over the value of `beside`, filled by whoever measured both
    beside: str | None = None  # name of the row it is compared with


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks share: `--quick` and `--json`."""
    arguments = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    arguments.add_argument("--quick", action="store_true", help="a smaller run, under 60 s")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    return arguments


def show(title: str, rows: list[Row], json_path: Path | None = None) -> None:
    """Print `rows` under `title`, and write them to `json_path` if there is one."""
    cells = [(row.name, _number(row.value), row.unit, _compared(row)) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(3)] if cells else [0, 0, 0]
    print(title)
    for name, value, unit, compared in cells:
        line = f"  {name:<{widths[0]}}  {value:>{widths[1]}} {unit:<{widths[2]}}  {compared}"
        print(line.rstrip())
    if json_path is not None:
        write(rows, json_path)


def write(rows: list[Row], path: Path) -> None:
    """Write rows as JSON: a list of objects with the keys name, value, unit, ratio and beside."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _compared(row: Row) -> str:
    if row.beside is None:
        return ""
    return f"{row.ratio:.2f} x {row.beside}" if row.ratio is not None else f"beside {row.beside}"
