"""A filter as a statement for an engine that lies in the catalog's own Postgres, and evaluates it there."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from datetime import UTC, datetime

from cachetools import LRUCache
from sqlalchemy import select

from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.catalog.schema import SegmentRow
from e2vsearch.feed import SqlFilter

_MOST = 256
_kept: LRUCache[Hashable, SqlFilter] = LRUCache(_MOST)  # 6 ms each, and the same until tomorrow: it may say "today"
_lock = threading.Lock()


def filter_statement(catalog: CatalogReader, where: str) -> SqlFilter | None:
    """Return the statement that selects the segments which meet a filter; None where the catalog is in SQLite.

    Raises:
        BadFilter: it does not parse, or names nothing known.
        UnlawfulUse: emotion by employee, see `e2vsearch.policy`.
    """
    if catalog.url.get_backend_name() != "postgresql":
        return None
    key = catalog.collection_id, where, datetime.now(UTC).date()
    with _lock:
        found = _kept.get(key)
    if found is None:
        found = _compiled(catalog, where)
        with _lock:
            _kept[key] = found
    return found


def _compiled(catalog: CatalogReader, where: str) -> SqlFilter:
    from sqlalchemy.dialects.postgresql import psycopg  # 25 ms, where most collections are in SQLite

    dialect = psycopg.dialect(paramstyle="pyformat")  # type: ignore[no-untyped-call]
    query = select(SegmentRow.id).where(catalog.condition(where))
    compiled = query.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    values = {}
    for name, value in compiled.params.items():
        bound = compiled.binds.get(name)  # None for one of a list, which is of a plain type
        process = bound.type.dialect_impl(dialect).bind_processor(dialect) if bound is not None else None
        values[name] = value if process is None else process(value)
    return SqlFilter(str(compiled), values)
