"""Tables in CSV or TSV files: metadata, labels, and what a table's columns may call the file that a row is of."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from e2vsearch.errors import AudioNotAFile, SettingsError
from e2vsearch.files import read_regular

FILE_COLUMNS = ("file", "filename", "file_name", "path", "uri", "recording", "name")
"""Names of the column that holds a file, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV or TSV file; names and cells without spaces around them."""

    columns: list[str]  # as its first line names them
    rows: list[tuple[int, list[str]]]  # each with the number of its last line; those without any text are left out
    unreadable: tuple[tuple[int, str], ...] = ()  # lines that are no row, with the reason


def read_table(path: Path, name: str, *, lenient: bool = False) -> Table:
    """Read a table; its first line tells whether tabs, semicolons or commas are between its cells.

    Args:
        path: of the file.
        name: what an error calls it, such as ``--meta``.
        lenient: leave lines out that are no CSV, but for the first.

    Raises:
        SettingsError: it cannot be read, or a line is no CSV.
    """
    try:
        text = read_regular(path).decode("utf-8-sig")
    except AudioNotAFile as error:
        raise SettingsError(f"{name} {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise SettingsError(f"{name} {path} is not UTF-8 text - save it as CSV in UTF-8") from error
        raise SettingsError(f"{name} {path} cannot be read: {error.strerror} - name a CSV or TSV file") from error
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter="\t" if "\t" in head else ";" if ";" in head else ",")
    rows: list[tuple[int, list[str]]] = []
    unreadable: list[tuple[int, str]] = []
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if not rows or not lenient:
                raise SettingsError(f"{name} {path} line {reader.line_num}: {error} - mend that line") from error
            unreadable.append((reader.line_num, str(error)))
            continue
        if cells is None:
            break
        rows.append((reader.line_num, [cell.strip() for cell in cells]))
    left = [(line, cells) for line, cells in rows[1:] if any(cells)]
    return Table(rows[0][1] if rows else [], left, tuple(unreadable))
