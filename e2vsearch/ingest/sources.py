"""Recordings are named by files, folders, globs, lists and URLs; none is opened here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from e2vsearch.audio.paths import audio_files, expand, expand_globs
from e2vsearch.encoders import embedding_files
from e2vsearch.errors import AudioNotFound, SettingsError
from e2vsearch.files import local_path, uri_scheme
from e2vsearch.remote.stores import Stores
from e2vsearch.remote.uris import Remote, remote


def sources(
    paths: Iterable[str | os.PathLike[str]], stores: Stores, *, of_vectors: bool = False
) -> Iterator[Path | Remote]:
    """Yield every recording that paths and URLs name, each once, see `expand` and `Stores.expand`.

    Raises:
        SettingsError: a URL of another scheme, with a secret in it, or of saved vectors.
        MissingExtra: a package for a URL's store is not installed.
    """
    seen: set[str] = set()
    for named in paths:
        text = os.fspath(named)
        if uri_scheme(text) in (None, "file"):
            found: Iterator[Path | Remote] = expand([text], embedding_files.find if of_vectors else audio_files)
        elif of_vectors:
            raise SettingsError(
                f"saved vectors are read from files, not from {uri_scheme(text)}:// - download them first"
            )
        else:
            found = stores.expand(text)
        for source in found:
            uri = str(source) if isinstance(source, Path) else source.uri
            if uri not in seen:
                seen.add(uri)
                yield source


def check_named(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Check that something is there of what is named; of a list, what is missing is reported with the rest.

    Raises:
        AudioNotFound: none of the files, folders and globs is, and there is no URL.
    """
    missing = []
    for named in paths:
        text = os.fspath(named)
        if uri_scheme(text) not in (None, "file") or local_path(text).exists() or any(expand_globs(local_path(text))):
            return
        missing.append(text)
    if missing:
        more = f", nor {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise AudioNotFound(f"{missing[0]}: no such file or folder{more} - check the path")


def source_of(uri: str) -> Path | Remote:
    """Return a recording by its URI, as the catalog has it; nothing is opened.

    Raises:
        SettingsError: a URL of another scheme, or with a secret in it.
    """
    if uri_scheme(uri) in (None, "file"):
        return local_path(uri)
    return remote(uri)
