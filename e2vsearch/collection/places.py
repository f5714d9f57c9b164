"""Where a collection lives: a folder, or a database URL. Knows paths and URLs, opens nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from e2vsearch.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Place:
    """Where a collection's catalog is, and where its generations go."""

    named: str  # as the user wrote it
    url: str  # of the database
    folder: Path | None  # that holds ``generations/``; None: one in the cache, named by the collection's UUID

    def cached(self, cache: str, collection_id: str) -> Path:
        """The folder for generations: the collection's own, or one in the cache."""
        if self.folder is not None:
            return self.folder
        base = Path(cache).expanduser() if cache else _user_cache() / "e2vsearch"
        return base / collection_id


def locate(index: str | os.PathLike[str]) -> Place:
    """The place that ``--index`` names.

    Raises:
        SettingsError: it names a file.
    """
    text = os.fspath(index)
    if "://" in text:
        if text.startswith("sqlite:///"):
            path = Path(text.removeprefix("sqlite:///"))
            return Place(str(path), text, path.parent)
        return Place(_without_password(text), text, None)
    folder = Path(text).expanduser()
    if folder.is_file():
        raise SettingsError(
            f"{folder} is a file - a collection is a folder, or a database URL such as sqlite:///{text}"
        )
    return Place(text, f"sqlite:///{(folder / 'catalog.db').absolute()}", folder)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return url if not parts.password else url.replace(f":{parts.password}@", ":***@", 1)


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
