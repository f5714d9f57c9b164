"""Which files a client that is not the user may name. Knows folders, and follows no link out of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from e2vsearch.collection.references import local_path
from e2vsearch.errors import PathForbidden, SettingsError


class Roots:
    """Folders that a service may read from; none by default, so that no path is allowed at all."""

    def __init__(self, folders: Sequence[str | os.PathLike[str]] = ()) -> None:
        self._folders = tuple(Path(folder).expanduser() for folder in folders)
        for folder in self._folders:
            if not folder.is_dir():
                raise SettingsError(f"{folder} is no folder to read clips from - name one that exists")
        self._folders = tuple(folder.resolve() for folder in self._folders)

    def allowed(self, path: str | os.PathLike[str]) -> Path:
        """The file that a path or ``file://`` URI names, links resolved; a relative one is looked for in each root.

        Raises:
            PathForbidden: it is in none of the folders, or there is no such file. Both read alike, so that nobody
                learns what lies elsewhere.
            QueryError: a URI of another scheme.
        """
        asked = local_path(path)
        for folder in self._folders:
            found = (folder / asked).resolve()
            if found.is_relative_to(folder) and found.is_file():
                return found
        where = "the folders it was started with" if self._folders else "no folder: it was started without --root"
        raise PathForbidden(f"{os.fspath(path)} is no file that may be read here - this service reads from {where}")
