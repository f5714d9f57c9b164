"""The log on stderr of commands that run long: lines for people, or JSON for machines. Knows nothing of its content."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from enum import StrEnum


class LogForm(StrEnum):
    """How the log is written."""

    text = "text"
    json = "json"


def log_to_stderr(name: str, form: LogForm, *, quiet: bool = False) -> None:
    """Show what a logger says, and all below it.

    Args:
        name: of the logger.
        form: how.
        quiet: only warnings and worse.
    """
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(_AsJson() if form is LogForm.json else text)
    logger = logging.getLogger(name)
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)


class _AsJson(logging.Formatter):
    """One object a line: when, how serious, and the record's own fields, or else its message."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = getattr(record, "fields", None) or {"message": record.getMessage()}
        if record.exc_info:
            said = {**said, "exception": self.formatException(record.exc_info)}
        return json.dumps({"time": when, "level": record.levelname.lower(), **said}, ensure_ascii=False)
