"""The file of a recording as it was when it was stored."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select

from e2vsearch.catalog.schema import RecordingRow
from e2vsearch.policy import Role

STORED_FILE = select(
    *(RecordingRow.id, RecordingRow.uri, RecordingRow.size_bytes, RecordingRow.mtime_ns, RecordingRow.channels),
    RecordingRow.roles,
)
"""The columns of a `StoredFile`, of all recordings."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """The size and time of a recording's file, which tell without reading it whether it is stored already."""

    id: int
    uri: str
    size_bytes: int
    mtime_ns: int
    channels: int
    roles: tuple[Role | None, ...] | None

    @classmethod
    def of(cls, row: Row[Any]) -> StoredFile:
        """Convert a row of `STORED_FILE`."""
        roles = None if row.roles is None else tuple(row.roles)
        return cls(row.id, row.uri, row.size_bytes, row.mtime_ns, row.channels, roles)

    def matches(self, stat: os.stat_result) -> bool:
        """Return whether a file has the stored size and time."""
        return (self.size_bytes, self.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
