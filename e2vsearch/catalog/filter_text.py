"""Names and values as ``--where`` reads them, for filters that are written by the program."""

from __future__ import annotations

import re

from e2vsearch.catalog.filters import FIELDS, LABEL_FIELDS, RECORDING_FIELDS

_PLAIN = re.compile(r"(?!(?:and|or|not|in|like|between|is|null)\b)[A-Za-z_]\w*([.:-]\w+)*", re.IGNORECASE | re.ASCII)


def equal(name: str, value: str | float | None) -> str:
    """Return the filter of what has a value; None is of what has none.

    >>> equal("queue", 'the "new" one'), equal("queue", None), equal("a b", 3)
    ('queue = "the ""new"" one"', 'queue is null', '`a b` = 3')
    """
    name = quoted(name)
    if value is None:
        return f"{name} is null"
    return f"{name} = {value if isinstance(value, int | float) else text(value)}"


def key(name: str) -> str:
    """Return how a filter names a key of the metadata, also one that is called like a field."""
    hidden = name.startswith(("meta.", "cluster.")) or name in {*FIELDS, *RECORDING_FIELDS, *LABEL_FIELDS}
    return f"meta.{name}" if hidden else name


def quoted(name: str) -> str:
    """Return a name as it is, or in backticks where it would be read as something else."""
    return name if _PLAIN.fullmatch(name) else "`" + name.replace("`", "``") + "`"


def text(value: str) -> str:
    """Return a value in quotation marks."""
    return '"' + value.replace('"', '""') + '"'
