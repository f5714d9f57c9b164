"""The publication of generations: written aside, synced, renamed, then pointed to; tuned again and dropped.

A builder killed at any moment leaves the old pointer, and a folder that the next builder clears away. A disk that fills
up ends the build with one line and changes nothing that is in use.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from e2vsearch.errors import GenerationBusy, GenerationError
from e2vsearch.feed import Snapshot
from e2vsearch.files import TEMPORARY, atomic_write, make_private, open_mapped, private_folder, sha256, sync, unwritable
from e2vsearch.vectors.exact import Float32s, Ints, unit32
from e2vsearch.vectors.faiss.nprobe import Tuned
from e2vsearch.vectors.faiss.storage import (
    CURRENT,
    IDS,
    LOCK,
    MANIFEST,
    NAME,
    RECORDINGS,
    STAMP,
    TUNED,
    VECTORS,
    FileSum,
    Manifest,
    Pointer,
    stamp,
    states,
)

_ASIDE = ".building-"


@contextlib.contextmanager
def locked(folder: Path, wait_s: float = 0.0) -> Iterator[Path]:
    """Hold the build lock, and yield the ``generations`` folder, made if need be.

    Args:
        folder: holds ``generations`` and the lock.
        wait_s: how long to wait for another builder.

    Raises:
        GenerationBusy: another process is still building.
        GenerationError: the disk is full, read-only or fails.
    """
    from filelock import FileLock, Timeout

    root = folder / "generations"
    try:
        private_folder(folder)
        private_folder(root)
        with FileLock(folder / LOCK, timeout=wait_s, mode=0o600):
            yield root
    except Timeout as error:
        raise GenerationBusy(f"another process is building the index in {folder}: wait until it is done") from error
    except OSError as error:
        raise GenerationError(f"the index in {unwritable(folder, error)}") from error


@contextlib.contextmanager
def building(folder: Path, wait_s: float = 0.0) -> Iterator[Path]:
    """Yield an empty folder to build in, under the lock; removed at the end. Arguments and errors are of `locked`."""
    with locked(folder, wait_s) as root:
        for left in root.glob(f"{_ASIDE}*"):  # by a builder that was killed: this one holds the lock
            shutil.rmtree(left, ignore_errors=True)
        for left in root.glob(f"*{TEMPORARY}"):
            left.unlink(missing_ok=True)
        aside = root / f"{_ASIDE}{secrets.token_hex(4)}"
        private_folder(aside)
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)  # published, it is there no more


def copy(snapshot: Snapshot, aside: Path, dim: int, progress: Callable[[int, int], None]) -> int:
    """Write all segments of a snapshot, scaled to length one, a batch in memory at a time; return how many.

    Raises:
        GenerationError: the snapshot's ids do not ascend or its vectors are of another dimension.
    """
    n, last = 0, -1
    with (
        (aside / VECTORS).open("wb") as vectors,
        (aside / IDS).open("wb") as ids,
        (aside / RECORDINGS).open("wb") as of,
    ):
        for batch in snapshot.batches():
            if not len(batch.ids):
                continue
            if batch.ids[0] <= last or (batch.ids[1:] <= batch.ids[:-1]).any() or batch.vectors.shape[1:] != (dim,):
                raise GenerationError("the catalog gave segments out of order or of another dimension: report this")
            vectors.write(unit32(batch.vectors).astype("<f4", copy=False).data)
            ids.write(np.ascontiguousarray(batch.ids, "<i8").data)
            of.write(np.ascontiguousarray(batch.recordings, "<i8").data)
            n, last = n + len(batch.ids), int(batch.ids[-1])
            progress(n, max(n, snapshot.count))
    return n


def copied(aside: Path, n: int, dim: int) -> tuple[Float32s, Ints]:
    """Return the vectors and ids that `copy` wrote, mapped."""
    return open_mapped(aside / VECTORS, "<f4", (n, dim)), open_mapped(aside / IDS, "<i8", (n,))


def publish(aside: Path, keep: int, describe: Callable[[dict[str, FileSum], str], Manifest]) -> Manifest:
    """Make what was built the current generation, durable once this returns.

    Args:
        aside: the folder of `building`.
        keep: generations to leave on disk, this one included.
        describe: gives the manifest for the files and the time, UTC in ISO 8601.
    """
    root = aside.parent
    now = datetime.now(UTC)
    files = {path.name: FileSum(path.stat().st_size, sha256(path)) for path in sorted(aside.iterdir())}
    manifest = describe(files, now.isoformat(timespec="seconds"))
    content = manifest.to_json()
    (aside / MANIFEST).write_bytes(content)
    make_private(aside)
    for path in aside.iterdir():
        sync(path)
    sync(aside)
    name = f"{now:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"
    aside.rename(root / name)
    try:
        sync(root)
        stamp(root / name, states(root / name, manifest))
        atomic_write(root / CURRENT, Pointer(name, hashlib.sha256(content).hexdigest()).to_bytes())
    except OSError:
        shutil.rmtree(root / name, ignore_errors=True)
        raise
    _prune(root, name, keep)
    return manifest


def retune(root: Path, pointer: Pointer, tuned: Tuned) -> None:
    """Give the generation that is pointed to another tuning, durable once this returns; requires the build lock."""
    content = (json.dumps(asdict(tuned), indent=2) + "\n").encode()
    new = Pointer(pointer.name, pointer.manifest_sha256, hashlib.sha256(content).hexdigest())
    atomic_write(new.tuned_path(root), content)
    atomic_write(root / CURRENT, new.to_bytes())
    for left in root.glob(f"{pointer.name}.*{TUNED}"):
        if left != new.tuned_path(root):
            left.unlink(missing_ok=True)


def drop(root: Path) -> int:
    """Delete all generations and return how many; requires the build lock. Processes that have one mapped keep it."""
    (root / CURRENT).unlink(missing_ok=True)
    sync(root)
    return _remove(root, [path.name for path in root.iterdir() if NAME.fullmatch(path.name)])


def _prune(root: Path, current: str, keep: int) -> None:
    """Delete old generations; what cannot be deleted now, the next build deletes."""
    names = sorted(path.name for path in root.iterdir() if path.name != current and NAME.fullmatch(path.name))
    _remove(root, names[: max(0, len(names) - max(keep - 1, 0))])


def _remove(root: Path, names: list[str]) -> int:
    for name in names:
        shutil.rmtree(root / name, ignore_errors=True)
    for suffix in (STAMP, TUNED):
        for left in root.glob(f"*{suffix}"):
            of = NAME.match(left.name)
            if of is None or not (root / of[0]).exists():
                with contextlib.suppress(OSError):
                    left.unlink()
    return len(names)
