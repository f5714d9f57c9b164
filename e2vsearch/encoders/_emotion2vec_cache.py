"""Stripped copies of checkpoints in the user's cache. Knows tensors and where they are kept, nothing of networks.

A published checkpoint holds each weight three times over, 1.95 GB for 0.65 GB, under names that differ from the
network's. A copy holds what the network takes, as safetensors, and is only ever believed after a look at it:

* It is *found* by what the checkpoint says of itself: the names, sizes and CRC-32 of its parts, which stand in a table
  at the end of the archive, and how they are to be used (names and shapes wanted, scope_map, excludes). No path or
  date, so that a moved or copied model finds its copy; no reading of 1.95 GB either. A checkpoint without checksums
  (of before 2020, or saved with them off) has no such name, and is read anew every time.
* It is *checked* when read: every tensor against its CRC-32, 0.3 s for 0.65 GB (SHA-256 takes thrice as long). That
  finds damage, not malice: the space's revision, a SHA-256 over what was loaded, is computed afterwards all the same.
* It is written aside and renamed, by one process at a time, never changed afterwards, and rebuilt when found broken.
  So it can be mapped: processes that run side by side hold the weights once.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2vsearch import settings
from e2vsearch.encoders._emotion2vec_weights import checksum

OFF = "off"
_FORMAT = "emotion2vec-stripped-1"
_SUMS = "crc32"
_READERS = 2  # threads that read a file and add up its checksums, which is about as fast as memory then


@dataclass(frozen=True, slots=True)
class Stripped:
    """Where the copy of one checkpoint is, or will be."""

    path: Path

    def read(self, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
        """The tensors that are wanted, mapped, each as it was written; None if there is no such copy."""
        import safetensors

        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                sums = json.loads((file.metadata() or {}).get(_SUMS, "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        except (OSError, ValueError, safetensors.SafetensorError):
            return None
        if tensors.keys() != wanted.keys() or sums.keys() != wanted.keys():
            return None
        if any((each.shape, each.dtype) != (wanted[name].shape, wanted[name].dtype) for name, each in tensors.items()):
            return None
        with ThreadPoolExecutor(_READERS) as pool:
            found = dict(zip(tensors, pool.map(checksum, tensors.values()), strict=True))
        return tensors if found == sums else None

    def write(self, tensors: Mapping[str, Any]) -> bool:
        """Keep a copy; whether there is one now. A full disk or another process at the same work are no errors."""
        from filelock import FileLock, Timeout

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock"), timeout=0):
                return self._write(tensors)
        except (OSError, Timeout, NotImplementedError):  # file systems without locks
            return False

    def _write(self, tensors: Mapping[str, Any]) -> bool:
        import safetensors
        from safetensors.torch import save_file

        aside = self.path.with_suffix(".part")  # one name: what a killed process left is overwritten
        sums = {name: checksum(tensor) for name, tensor in tensors.items()}
        try:
            # not synced to disk: what a power cut tears is found out by the next reading
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, aside, {_SUMS: json.dumps(sums)})
            aside.replace(self.path)
        except (OSError, safetensors.SafetensorError):
            with suppress(OSError):
                aside.unlink()
            return False
        return True


def find(checkpoint: Path, wanted: Mapping[str, Any], mapping: object) -> Stripped | None:
    """Where the copy of a checkpoint belongs; None where none can be kept.

    Args:
        checkpoint: the file.
        wanted: names, shapes and types of the network's tensors.
        mapping: whatever else decides which tensor goes where.
    """
    folder = place()
    try:
        import safetensors  # noqa: F401 - part of the extra
    except ImportError:
        return None
    named = _identity(checkpoint) if folder is not None else None
    if folder is None or named is None:
        return None
    use = [_FORMAT, named, mapping, sorted((name, str(each.dtype), tuple(each.shape)) for name, each in wanted.items())]
    key = hashlib.sha256(json.dumps(use, default=str).encode()).hexdigest()
    return Stripped(folder / f"{key[:32]}.safetensors")


def place() -> Path | None:
    """The folder of copies, by the setting ``weights_cache``; None where it is off."""
    named = settings.load().weights_cache
    if named == OFF:
        return None
    return Path(named).expanduser() if named else settings.user_cache() / "weights"


def described() -> str:
    """Where copies are kept, and how much of the disk they take."""
    folder = place()
    if folder is None:
        return "off: checkpoints are read anew at every start"
    try:
        sizes = [file.stat().st_size for file in folder.glob("*.safetensors")]
    except OSError:
        sizes = []
    return f"{folder}: {len(sizes)} checkpoints, {sum(sizes) / 1e9:.2f} GB; may be deleted at any time"


def sums(checkpoint: Path) -> list[tuple[str, int, int]] | None:
    """Name, size in bytes and CRC-32 of each part of a checkpoint; None where it has none, or is no archive."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            parts = archive.infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return None
    if not any(part.CRC for part in parts):  # saved with torch.serialization.set_crc32_options(False)
        return None
    # the first folder is called like the file that was saved
    return [(part.filename.partition("/")[2], part.file_size, part.CRC) for part in parts]


def _identity(checkpoint: Path) -> object | None:
    parts = sums(checkpoint)
    return None if parts is None else [checkpoint.stat().st_size, sorted(parts)]
