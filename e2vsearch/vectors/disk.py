"""Files that survive a power cut, and tell when they were changed. Knows bytes, nothing of what they mean."""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

TEMPORARY = ".tmp"
"""How the name of a file ends that is not whole yet; after a crash it may be removed."""

FileState = tuple[int, int, int]
"""Size in bytes, time of the last change in ns, and inode: another state means another content, as good as always."""


def state(path: Path | str) -> FileState:
    """What a file looks like from outside; 1 us by a string, which every query asks of each file, 5 by a path."""
    stat = os.stat(path)  # noqa: PTH116 - see above
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def sha256(path: Path) -> str:
    """Hash of a file's content, in hexadecimal; 1.5 GB a second from the page cache."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Returns when a file's content, or a folder's list of names, is on the disk."""
    if os.name == "nt" and path.is_dir():  # a folder cannot be opened there, and NTFS journals renames
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def mapped(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """A file as an array that cannot be written to."""
    if shape[0] == 0:  # nothing cannot be mapped
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", shape=shape).view(np.ndarray)


def let_go(array: NDArray[Any]) -> None:
    """Gives back the memory that pages of a mapped file take in this process; they are read again when touched.

    Whoever reads a whole file through a map counts all of it as resident, 4 GB for a million vectors.
    """
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        base.madvise(mmap.MADV_DONTNEED)


def replace(path: Path, content: bytes) -> None:
    """Writes a small file so that a reader, or a power cut, meets the old content or the new, never a part."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        aside.write_bytes(content)
        sync(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync(path.parent)
