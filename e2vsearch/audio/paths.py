"""Files, folders and globs, expanded to audio files."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from e2vsearch.audio import AUDIO_SUFFIXES
from e2vsearch.files import local_path

_WILD = frozenset("*?[")


def audio_files(folder: Path) -> Iterator[str]:
    """Yield what looks like audio by its suffix, in a folder and all below it; hidden files are left out."""
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES:  # noqa: PTH122
                yield os.path.join(root, name)  # noqa: PTH118 - pathlib's parsing took a tenth of an ingest of nothing new


def expand(
    paths: Iterable[str | os.PathLike[str]], walk: Callable[[Path], Iterator[str | Path]] = audio_files
) -> Iterator[Path]:
    """Yield every file that the paths name, absolute, each once.

    A file that is named is taken whatever it is called; of a folder, and of all below it, what looks like audio by its
    suffix, hidden files left out. A name that does not exist but has ``* ? [`` in it is a glob, ``**`` included. What
    does not exist is given too, so that it is reported and not overlooked.

    Args:
        paths: files, folders and globs, as ``file://`` URIs too.
        walk: yields the files of a folder.

    Raises:
        QueryError: a URL.
    """
    seen: set[str] = set()
    for named in paths:
        for path in _under(local_path(named), walk):
            absolute = os.path.abspath(path)  # noqa: PTH100 - Path.absolute leaves ".." in, and resolve follows links
            if absolute not in seen:
                seen.add(absolute)
                yield Path(absolute)


def _under(path: Path, walk: Callable[[Path], Iterator[str | Path]]) -> Iterator[str | Path]:
    if path.is_dir():
        yield from walk(path)
    elif not path.exists() and _WILD & set(str(path)):
        for found in expand_globs(path):
            yield from _under(found, walk)
    else:
        yield path


def expand_globs(path: Path) -> Iterator[Path]:
    """Yield what a path is a glob of, in the order of the names."""
    if _WILD & set(str(path)):
        for name in sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207 - pathlib's refuses absolute patterns
            if not (Path(name).is_dir() and "**" in str(path)):  # "**" lists folders beside the files in them
                yield Path(name)
