"""``--meta calls.csv`` has columns about calls, which are joined by file name."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path

from e2vsearch.csv_table import FILE_COLUMNS, read_table
from e2vsearch.errors import SettingsError
from e2vsearch.policy import Role, roles_of

_log = logging.getLogger(__name__)

_LISTED = 20  # warnings of one table
DATE_COLUMNS = ("date", "recorded_at", "datetime", "start_time", "timestamp")


_ROLE_COLUMN = re.compile(r"role_(\d{1,3})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Row:
    """The metadata of one file."""

    metadata: Mapping[str, str]
    recorded_at: datetime | None
    roles: Mapping[int, Role] = field(default_factory=dict)  # whose voice a channel has, where that is known

    @classmethod
    def of(cls, cells: Mapping[str, str], recorded_at: datetime | None) -> Row:
        """Return the metadata of cells by column; ``role_0`` and ``role_1`` say whose voice a channel has.

        Raises:
            SettingsError: no role is called so.
        """
        roles = {column: found[1] for column in cells if (found := _ROLE_COLUMN.fullmatch(column))}
        metadata = {column: value for column, value in cells.items() if column not in roles}
        return cls(metadata, recorded_at, roles_of({number: cells[column] for column, number in roles.items()}))

    @property
    def cells(self) -> dict[str, str]:
        """The metadata, and the roles in columns of their own."""
        return {**self.metadata, **{f"role_{channel}": role for channel, role in self.roles.items()}}


class MetadataTable:
    """A CSV (or TSV) file with a header, found again by path, file name or stem.

    The column that names the file is the first of `FILE_COLUMNS` that is there, or else the first of all; the first of
    `DATE_COLUMNS` says when a call was recorded (ISO 8601; UTC unless it says otherwise). ``role_0``, ``role_1`` … say
    whose voice a channel has, ``customer`` or ``agent``. All other columns are kept as they are; empty cells are left
    out. A row that is none, a date that is none and a cell that no database stores are left out too, each with a
    warning: one bad cell among thousands stops nothing. A role that is none does, lest an agent's channel be analysed.

    Raises:
        SettingsError: the table cannot be read, names a file twice, or has a role that is none.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).expanduser()
        self._rows: dict[str, Row] = {}
        self._used: set[str] = set()
        self._warnings: list[str] = []
        table = read_table(self._path, "--meta", lenient=True)
        columns = [name for name in table.columns if name]
        if not columns:
            raise SettingsError(f"--meta {path} is empty - its first line must name the columns, e.g. file,queue,date")
        lower = {name.lower(): name for name in reversed(columns)}
        file_column = next((lower[name] for name in FILE_COLUMNS if name in lower), columns[0])
        date_column = next((lower[name] for name in DATE_COLUMNS if name in lower and lower[name] != file_column), None)
        for line, why in table.unreadable:
            self._warn(line, f"{why} - its row is left out")
        for line, cells in table.rows:
            self._add(dict(zip_longest(table.columns, cells)), file_column, date_column, line)
        for warning in self._warnings[:_LISTED]:
            _log.warning("%s", warning)
        if len(self._warnings) > _LISTED:
            _log.warning("--meta %s: and %s more", self._path, f"{len(self._warnings) - _LISTED:,}")

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, path: Path, uri: str = "") -> Row | None:
        """Return the row of a file: by its URI or path (also relative to the table), else by its name or stem."""
        for key in (uri, *self._keys(path)):
            if key in self._rows:
                self._used.add(key)
                return self._rows[key]
        return None

    def unused(self) -> int:
        """Return how many rows no file was found for so far."""
        return len(self._rows) - len(self._used)

    def _keys(self, path: Path) -> Iterator[str]:
        yield str(path)
        # `path` has no ".." in it, so the folder of --meta ../calls.csv must not have one either
        for base in (Path(os.path.abspath(self._path.parent)), Path.cwd()):  # noqa: PTH100
            if path.is_relative_to(base):
                yield path.relative_to(base).as_posix()
        yield path.name
        yield path.stem

    def _add(self, cells: Mapping[str, str | None], file_column: str, date_column: str | None, line: int) -> None:
        key = cells[file_column]
        if not key:
            return
        if key in self._rows:
            raise SettingsError(f"--meta {self._path} line {line}: {key} is there twice - keep one row a file")
        if None in cells:
            self._warn(line, "more cells than columns, so its row is left out - quote cells with commas")
            return
        metadata = {name: value for name, value in cells.items() if name and value and name != file_column}
        for name in [name for name, value in metadata.items() if "\0" in value]:
            self._warn(line, f"{name} holds a NUL, and is left out - write it as text")
            del metadata[name]
        recorded_at = None
        if date_column in metadata:
            try:
                recorded_at = datetime.fromisoformat(metadata[date_column])
                recorded_at = (recorded_at if recorded_at.tzinfo else recorded_at.replace(tzinfo=UTC)).astimezone(UTC)
            except (ValueError, OverflowError):  # the calendar ends with the year 9999, in UTC
                recorded_at = None
                given = f"{date_column} {metadata[date_column][:40]!r}"
                self._warn(line, f"{given} is no date, the file's own is kept - write 2024-03-01 or 2024-03-01T09:30")
        try:
            self._rows[key.removeprefix("./")] = Row.of(metadata, recorded_at)
        except SettingsError as error:
            raise SettingsError(f"--meta {self._path} line {line}: {error}") from error

    def _warn(self, line: int, what: str) -> None:
        self._warnings.append(f"--meta {self._path} line {line}: {what}")


class ReloadedMetadata:
    """A metadata table that is read again when its file has changed.

    Raises:
        SettingsError: it cannot be read at first; later that is logged, and the former rows stay.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).expanduser()
        self._version = self._file_state()
        self._table = MetadataTable(path)

    def current(self) -> MetadataTable:
        """Return the table, read again if its file has changed."""
        version = self._file_state()
        if version != self._version:
            self._version = version
            try:
                self._table = MetadataTable(self._path)
            except SettingsError as error:
                _log.warning("%s - its former rows stay", error)
        return self._table

    def _file_state(self) -> tuple[int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_size, stat.st_mtime_ns
