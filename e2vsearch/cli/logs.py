"""The log on stderr of commands that run long: lines for people, or JSON for machines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

from e2vsearch.cli.text import json_shown, shown

LogForm = Literal["text", "json"]
"""Lines for people, or objects for machines."""


def log_to_stderr(name: str, form: LogForm, *, quiet: bool = False) -> None:
    """Write a logger, and all below it, to stderr.

    Args:
        name: of the logger.
        form: how.
        quiet: only warnings and worse.
    """
    handler = logging.StreamHandler(sys.stderr)
    text = _AsText("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(_AsJson() if form == "json" else text)
    logger = logging.getLogger(name)
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)


def use_text_of_logs() -> None:
    """Let warnings that no command writes to a log of its own reach stderr as plain lines."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_AsText("%(message)s"))


class _AsText(logging.Formatter):
    """A line for people; a traceback has several."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record), lines=bool(record.exc_info))


class _AsJson(logging.Formatter):
    """One object a line: time, level, and the record's own fields, or else its message."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        content = getattr(record, "fields", None) or {"message": record.getMessage()}
        if record.exc_info:
            content = {**content, "exception": self.formatException(record.exc_info)}
        return json_shown(json.dumps({"time": when, "level": record.levelname.lower(), **content}, ensure_ascii=False))
