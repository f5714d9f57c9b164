"""A cache on this machine's disk, bounded in bytes, of blocks that were read from a store.

fsspec's own caches have no bound, and write files that others may read. Here a block is a file that only its owner may
read, with its CRC-32 behind it: it is not synced, and after a power cut it may be anything.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
import zlib
from collections.abc import Container
from contextlib import suppress
from pathlib import Path

from e2vsearch.files import TEMPORARY, private_file, private_folder

_CRC_BYTES = 4
_FORGOTTEN_S = 3600.0  # after which an empty folder is taken away
_PARTS = 16  # the folder is measured whenever this part of its bound was written, by each process for itself


class BlockCache:
    """Blocks by owner and name; what was not read for longest is deleted first.

    Safe to use from several threads and processes: a block appears whole, and one that is deleted is read once more.
    A full or broken disk costs speed alone.

    Args:
        folder: made with the first owner.
        most_bytes: of all blocks; 0: none is kept.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = folder
        self._most = most_bytes
        self._since = most_bytes  # bytes written since the folder was measured

    def open(self, owner: str) -> None:
        """Allow blocks of an owner to be kept, until `keep` deletes them: what is still read then is kept no more."""
        if self._most:
            with suppress(OSError):
                private_folder(self.folder / owner)

    def read(self, owner: str, name: str) -> bytes | None:
        """Return a block, None where it is not there, or is damaged."""
        path = self.folder / owner / name
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        data, crc = content[:-_CRC_BYTES], content[-_CRC_BYTES:]
        if crc != _crc(data):
            with suppress(OSError):
                path.unlink()
            return None
        return data

    def write(self, owner: str, name: str, data: bytes) -> None:
        """Keep a block of an owner that was opened, and delete others until all are within the bound."""
        if len(data) + _CRC_BYTES > self._most // _PARTS:
            return
        path = self.folder / owner / name
        aside = path.with_name(f"{name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}")
        try:
            self._make_room(len(data) + _CRC_BYTES)
            private_file(aside).write_bytes(data + _crc(data))
            aside.replace(path)
        except OSError:
            with suppress(OSError):
                aside.unlink()

    def held(self, owner: str) -> int:
        """Return the bytes of an owner's blocks."""
        return sum(size for _, size, _ in self._files(owner))

    def owners(self) -> list[str]:
        """Return whose blocks there are."""
        try:
            return sorted(each.name for each in self.folder.iterdir() if each.is_dir())
        except OSError:
            return []

    def keep(self, owners: Container[str]) -> None:
        """Delete the blocks of all other owners.

        Raises:
            OSError: they cannot be deleted.
        """
        for owner in self.owners():
            if owner not in owners:
                aside = (
                    self.folder / f"{secrets.token_hex(8)}{TEMPORARY}"
                )  # no owner: what is left of it goes next time
                with suppress(FileNotFoundError):  # another process does the same
                    (self.folder / owner).rename(aside)
                    shutil.rmtree(aside)

    def _make_room(self, size: int) -> None:
        self._since += size
        if self._since < self._most // _PARTS:
            return
        self._since = size
        files = sorted(self._files("*"))
        excess = sum(size for _, size, _ in files) - (self._most - self._most // _PARTS)
        for _, size, path in files:
            if excess <= 0:
                break
            with suppress(OSError):
                path.unlink()
                excess -= size
        for owner in self.owners():
            with suppress(OSError):  # not empty
                if time.time() - (self.folder / owner).stat().st_mtime > _FORGOTTEN_S:
                    (self.folder / owner).rmdir()

    def _files(self, owners: str) -> list[tuple[int, int, Path]]:
        """Return the files of an owner, or of all: when each was read last, its size and path."""
        found = []
        for path in self.folder.glob(f"{owners}/*"):
            with suppress(OSError):  # gone meanwhile
                state = path.stat()
                found.append((state.st_mtime_ns, state.st_size, path))
        return found


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_CRC_BYTES, "little")
