"""Where a collection lives, a folder or a database URL, and what is a URL at all. Opens nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL

from e2vsearch.catalog.database import parsed, place, sqlite_file
from e2vsearch.errors import SettingsError
from e2vsearch.settings import user_cache


@dataclass(frozen=True, slots=True)
class Place:
    """Where a collection's catalog is, and where its generations go."""

    named: str  # as the user wrote it
    url: URL  # of the database
    folder: Path | None  # that holds ``generations/``; None: one in the cache, named by the collection's UUID

    def cached(self, cache: str, collection_id: str) -> Path:
        """The folder for generations: the collection's own, or one in the cache."""
        if self.folder is not None:
            return self.folder
        base = Path(cache).expanduser() if cache else user_cache()
        return base / collection_id


def locate(index: str | os.PathLike[str]) -> Place:
    """The place that ``--index`` names.

    Raises:
        SettingsError: it names a file.
        CatalogError: it is a URL of nothing that can hold a collection.
    """
    text = os.fspath(index)
    if "://" in text:
        url = parsed(text)
        file = sqlite_file(url)
        return Place(place(url), url, file.parent if file is not None else None)
    folder = Path(text).expanduser()
    if folder.is_file():
        raise SettingsError(
            f"{folder} is a file - a collection is a folder, or a database URL such as sqlite:///{text}"
        )
    # not by text: a folder's name may hold "?" or "%", which mean something in a URL
    return Place(text, URL.create("sqlite", database=str((folder / "catalog.db").absolute())), folder)


def scheme_of(text: str) -> str | None:
    """The scheme of a URL, lower case; None for a path.

    >>> scheme_of("S3://bucket/a.wav"), scheme_of("calls/a.wav"), scheme_of("C:/calls/a.wav")
    ('s3', None, None)
    """
    scheme, separator, _ = text.partition("://")
    return scheme.lower() if separator and scheme.isalnum() else None
