"""The engine that a collection is searched in, and the reports of its indexes: a column of the collection's row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update

from e2vsearch import plugins
from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.catalog.schema import HeaderRow, ProjectionRow
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import SettingsError
from e2vsearch.settings import Settings

FAISS, PGVECTOR, MILVUS = "faiss", "pgvector", "milvus"
ENGINES = (FAISS, PGVECTOR, MILVUS)


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """An engine, and where it is."""

    name: str = FAISS
    url: str = ""  # of Milvus, or the folder of milvus-lite


_ROW = select(HeaderRow.engine, HeaderRow.space_id, ProjectionRow.name, ProjectionRow.revision).outerjoin(
    ProjectionRow, HeaderRow.projection_id == ProjectionRow.id
)


@dataclass(frozen=True, slots=True)
class InUse:
    """The space, projection and engine that searches use."""

    space: int | None  # its number
    projection: tuple[str, str] | None  # name and revision; None: raw vectors
    engine: EngineChoice


def in_use(catalog: CatalogReader) -> InUse:
    """Return the space, projection and engine in use, in one statement."""
    with catalog.reading() as connection:
        row = connection.execute(_ROW).one()
    return InUse(row.space_id, None if row.name is None else (row.name, row.revision), _choice(row.engine))


def chosen(catalog: CatalogReader) -> EngineChoice:
    """Return the engine of a collection."""
    return in_use(catalog).engine


def choose(catalog: Catalog, choice: EngineChoice) -> None:
    """Keep the choice of an engine; reports of all engines stay.

    Raises:
        CatalogError: the database cannot be written.
    """
    with catalog.writing() as connection:
        stored = connection.execute(select(HeaderRow.engine).with_for_update()).scalar_one() or {}
        values = {**stored, "name": choice.name, "url": choice.url}
        connection.execute(update(HeaderRow).values(engine=values))


def checked(catalog: CatalogReader, name: str, url: str) -> EngineChoice:
    """Return the engine of that name, with its address.

    Raises:
        SettingsError: there is no such engine, or not for this catalog, or its address is missing.
        PluginRefused: it is of a plug-in that cannot be used.
    """
    if name not in ENGINES and plugins.load("engine", name) is None:
        known = ", ".join((*ENGINES, *plugins.names("engine")))
        raise SettingsError(f"there is no engine {name!r} - use one of {known} with --engine")
    if name == PGVECTOR and catalog.url.get_backend_name() != "postgresql":
        raise SettingsError(
            "pgvector works in the catalog's own Postgres, and this collection is in SQLite - start one in Postgres "
            "with --index postgresql://user@host/calls, or use --engine milvus"
        )
    if name == MILVUS and not url:
        raise SettingsError(
            "milvus needs its address - add --engine-url http://host:19530, or a folder for milvus-lite"
        )
    return EngineChoice(name, "" if name in (FAISS, PGVECTOR) else url)


def settle(catalog: Catalog, name: str | None, url: str | None, settings: Settings) -> None:
    """Keep the engine of a new collection, which is named or else a setting; of another one, check what is named.

    Raises:
        SettingsError: there is no such engine, or the collection has another one.
    """
    if catalog.space is None:
        wanted = name or settings.engine
        if wanted and (choice := checked(catalog, wanted, url or settings.engine_url)) != chosen(catalog):
            choose(catalog, choice)
    elif name and checked(catalog, name, url or "") != (now := chosen(catalog)):
        raise SettingsError(
            f"this collection is searched in {' at '.join(filter(None, (now.name, now.url)))} - move it to another "
            f"engine with: e2vsearch index build --engine {name}{f' --engine-url {url}' if url else ''}"
        )


@dataclass(frozen=True, slots=True)
class StoredReport:
    """The report of one index of one engine, which is kept beside the choice."""

    catalog: Catalog
    engine: str
    space: str

    def read(self) -> Mapping[str, Any] | None:
        """Return the report as plain values, None where there is none."""
        found: Mapping[str, Any] | None = _reports(self.catalog).get(f"{self.engine} {self.space}")
        return found

    def write(self, report: Mapping[str, Any] | None) -> None:
        """Keep a report in place of the one there is, or none."""
        with self.catalog.writing() as connection:
            stored = connection.execute(select(HeaderRow.engine).with_for_update()).scalar_one() or {}
            reports = {**stored.get("reports", {}), f"{self.engine} {self.space}": report}
            reports = {name: each for name, each in reports.items() if each is not None}
            connection.execute(update(HeaderRow).values(engine={**stored, "reports": reports}))


def _reports(catalog: CatalogReader) -> dict[str, Any]:
    with catalog.reading() as connection:
        stored = connection.execute(select(HeaderRow.engine)).scalar_one() or {}
    found: dict[str, Any] = stored.get("reports", {})
    return found


def _choice(stored: Mapping[str, Any] | None) -> EngineChoice:
    return EngineChoice(str((stored or {}).get("name", FAISS)), str((stored or {}).get("url", "")))
