"""Results that are kept: the rows that a benchmark wrote with `--json`, with machine, date and command, as JSON.

One file a run in `benchmarks/results`. A run that took longer than a documentation build can wait for is carried over
from the table in which its figures were published, and says so.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from _table import Row

RESULTS = Path(__file__).resolve().parent / "results"
WITHIN = " > "
"""Between a row and an indented row below it, which is about the same thing."""

_SIGNIFICANT = 6  # digits: more are noise, and a diff


class UnknownResult(ValueError):
    """A file or a row that is not there."""


@dataclass(frozen=True)
class Result:
    """One run of one benchmark.

    Attributes:
        name: of the file, without its ending.
        command: what gives these figures.
        run: quick, full, or carried over from a published table.
        date: of the measurement, ISO 8601.
        machine: cores and instruction sets, without a name.
        note: what a reader has to know, such as other programs on the same cores.
        rows: as the benchmark wrote them.
    """

    name: str
    command: str
    run: str
    date: str
    machine: str
    note: str
    rows: tuple[Row, ...]

    @cached_property
    def by_name(self) -> Mapping[str, Row]:
        """Rows by name; an indented one by the row above it, too."""
        found: dict[str, Row] = {}
        above = ""
        for row in self.rows:
            indented = row.name.startswith("  ")
            above = above if indented else row.name
            found.setdefault(f"{above}{WITHIN}{row.name.strip()}" if indented else row.name, row)
        return found

    def row(self, name: str) -> Row:
        """Return the row of that name.

        Raises:
            UnknownResult: there is none.
        """
        try:
            return self.by_name[name]
        except KeyError:
            raise UnknownResult(f"{self.name}.json has no row {name!r}: measure it again, or name another") from None


def read(folder: Path = RESULTS) -> dict[str, Result]:
    """Return every result of a folder by its name."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(Row(**row) for row in fields.pop("rows"))
        found[path.stem] = Result(path.stem, **fields, rows=rows)
    return found


def record(rows: Path, name: str, command: str, *, quick: bool, note: str = "", folder: Path = RESULTS) -> Path:
    """Write the rows that a benchmark just wrote on this machine as a result; return the file."""
    made = [Row(**row) for row in json.loads(rows.read_text(encoding="utf-8"))]
    today = datetime.now(UTC).date().isoformat()
    return write(Result(name, command, "quick" if quick else "full", today, machine(), note, tuple(made)), folder)


def write(result: Result, folder: Path = RESULTS) -> Path:
    """Write a result; return the file."""
    fields = asdict(result)
    path = folder / f"{fields.pop('name')}.json"
    fields["rows"] = [_rounded(row) for row in fields["rows"]]
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def machine() -> str:
    """Describe this machine, without its name: cores, instruction sets that matter here, Python."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        flags = set()
    known = [
        name for flag, name in (("avx512f", "AVX-512"), ("avx512_vnni", "VNNI"), ("amx_tile", "AMX")) if flag in flags
    ]
    sets = f" ({', '.join(known)})" if known else ""
    return (
        f"{os.cpu_count()} cores, {platform.machine()}{sets}, {platform.system()}, Python {platform.python_version()}"
    )


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    numbers: Sequence[str] = ("value", "ratio")
    return {
        key: float(f"{value:.{_SIGNIFICANT}g}") if key in numbers and value is not None else value
        for key, value in row.items()
    }
