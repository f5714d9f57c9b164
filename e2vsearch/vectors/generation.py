"""One immutable index on disk: written aside, synced, renamed, then pointed to. Knows files, nothing of searching.

``generations/CURRENT`` holds a name and the SHA-256 of that generation's manifest, and the manifest holds the size and
SHA-256 of each of its files: what a reader maps is what a builder wrote, or it is refused. FAISS itself has no
checksum; 4 KiB of random bytes in its codes load silently, and a torn file can end the process.

A reader keeps its maps when a newer generation takes over or its own is removed. A builder killed at any moment leaves
the old pointer, and a folder that the next builder clears away.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from e2vsearch.errors import GenerationBusy, GenerationError
from e2vsearch.feed import Snapshot, VectorSource
from e2vsearch.vectors.disk import TEMPORARY, FileState, replace, sha256, state, sync
from e2vsearch.vectors.exact import Floats, Ints, unit
from e2vsearch.vectors.ivf import Ivf, Tuning

FORMAT = 1
VECTORS, IDS, RECORDINGS, IVF = "vectors.f32", "ids.i64", "recordings.i64", "ivf.faiss"
MANIFEST, CURRENT, LOCK = "manifest.json", "CURRENT", "build.lock"

_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{8}")  # UTC and a random tail: ascending names are ascending builds
_POINTER = re.compile(rf"({_NAME.pattern}) ([0-9a-f]{{64}})\n")
_ASIDE = ".building-"
_STAMP = ".verified"
_CLOCK_STEP_NS = 50_000_000  # file times step by up to 10 ms; what changed this soon before a stamp may hide a change


@dataclass(frozen=True, slots=True)
class FileSum:
    """What a file must be."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All there is to know about a generation but its vectors; ``manifest.json``."""

    format: int
    e2vsearch: str  # version that built it
    faiss: str | None  # None: no FAISS file
    kind: str
    dim: int
    n: int
    watermark: int  # how far it has read the change feed
    collection_id: str
    space_id: str
    nlist: int | None
    tunings: tuple[Tuning, ...]  # rising k; the first is the one shown. None: exact
    target: float
    recall_measured: str  # how the recall was measured
    trained_on: int  # rows
    seed: int
    built_at: str  # UTC, ISO 8601
    note: str
    files: dict[str, FileSum]

    @property
    def recall(self) -> float:
        """Share of the exact top 20 that is found; 1.0 for flat."""
        return self.tunings[0].recall if self.tunings else 1.0

    @property
    def nprobe(self) -> int | None:
        """Lists visited for 20 results without a filter."""
        return self.tunings[0].nprobe if self.tunings else None

    @property
    def k_factor(self) -> int | None:
        """Candidates re-ranked for 20 results, in multiples of 20."""
        return self.tunings[0].k_factor if self.tunings else None

    def to_json(self) -> bytes:
        """The file's content."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> Manifest:
        """The manifest in a file's content.

        Raises:
            GenerationError: of another format, or not a manifest.
        """
        try:
            fields: dict[str, Any] = json.loads(content)
            if fields["format"] != FORMAT:
                raise GenerationError(f"it is of format {fields['format']!r}, this e2vsearch reads {FORMAT}")
            fields["tunings"] = tuple(Tuning(**tuning) for tuning in fields["tunings"])
            fields["files"] = {name: FileSum(**file) for name, file in fields["files"].items()}
            return cls(**fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GenerationError(f"{MANIFEST} makes no sense ({error})") from error


@dataclass(frozen=True, slots=True)
class Pointer:
    """What ``CURRENT`` says."""

    name: str
    manifest_sha256: str


class Generation:
    """An open generation: its arrays are maps of its files.

    Attributes:
        pointer: what points to it.
        manifest: what it is.
        ids: ``(n,)`` segments, ascending.
        recordings: ``(n,)`` the recording of each.
        vectors: ``(n, dim)`` unit float32.
        ivf: lists over the rows, None for flat.
    """

    def __init__(self, root: Path, pointer: Pointer, source: VectorSource, *, rehash: bool = False) -> None:
        """Opens and checks what `pointer` points to.

        Args:
            root: the ``generations`` folder.
            pointer: what ``CURRENT`` says.
            source: the collection that it must be of.
            rehash: read every byte again, even where a stamp says that the files have not changed since.

        Raises:
            GenerationError: damaged, incomplete, or of another collection, space or format.
        """
        self.pointer = pointer
        self._folder = root / pointer.name
        try:
            self.manifest = manifest = _manifest(self._folder, pointer)
            _check_origin(manifest, source)
            self._state = _checked(self._folder, manifest, rehash=rehash)
            self.ids: Ints = _mapped(self._folder / IDS, "<i8", (manifest.n,))
            self.recordings: Ints = _mapped(self._folder / RECORDINGS, "<i8", (manifest.n,))
            self.vectors: Floats = _mapped(self._folder / VECTORS, "<f4", (manifest.n, manifest.dim))
            if not (self.ids[1:] > self.ids[:-1]).all():
                raise GenerationError(f"the ids in {IDS} do not ascend")
            self.ivf = None
            if manifest.kind != "flat":
                self.ivf = Ivf.read(self._folder / IVF, manifest.n, manifest.dim, manifest.nlist or 0)
        except (OSError, ValueError, GenerationError) as error:
            raise GenerationError(f"index generation {self.name} cannot be used: {error}") from error

    @property
    def name(self) -> str:
        """Its folder's name."""
        return self.pointer.name

    @property
    def watermark(self) -> int:
        """How far it has read the change feed."""
        return self.manifest.watermark

    @property
    def size(self) -> int:
        """Bytes on disk, the manifest not counted."""
        return sum(file.size for file in self.manifest.files.values())

    def unchanged(self) -> bool:
        """Whether its files still look as they did when they were checked; some microseconds."""
        try:
            return _states(self._folder, self.manifest) == self._state
        except OSError:
            return False


def _manifest(folder: Path, pointer: Pointer) -> Manifest:
    content = (folder / MANIFEST).read_bytes()
    if hashlib.sha256(content).hexdigest() != pointer.manifest_sha256:
        raise GenerationError(f"{MANIFEST} is not what its builder wrote")
    return Manifest.from_json(content)


def _check_origin(manifest: Manifest, source: VectorSource) -> None:
    if manifest.collection_id != source.collection_id:
        raise GenerationError(f"it is of another collection ({manifest.collection_id})")
    if (manifest.space_id, manifest.dim) != (source.space_id, source.dim):
        raise GenerationError(f"it is of another space ({manifest.space_id}, {manifest.dim}-d)")


def _checked(folder: Path, manifest: Manifest, *, rehash: bool) -> dict[str, FileState]:
    """The state of each file, after its size and hash were found right, now or when it was last in that state."""
    states = _states(folder, manifest)
    for name, file in manifest.files.items():
        if states[name][0] != file.size:
            raise GenerationError(f"{name} has {states[name][0]} bytes where {file.size} were written")
    if not rehash and _stamped(folder) == states:
        return states
    for name, file in manifest.files.items():
        if sha256(folder / name) != file.sha256:
            _stamp_of(folder).unlink(missing_ok=True)  # nobody else shall trust it either
            raise GenerationError(f"{name} is not what its builder wrote")
    _stamp(folder, states)
    return states


def _states(folder: Path, manifest: Manifest) -> dict[str, FileState]:
    return {name: state(folder / name) for name in manifest.files}


def _stamp_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _STAMP)


def _stamp(folder: Path, states: dict[str, FileState]) -> None:
    """Notes that files in this state were found right, beside the folder; without the right to write, never mind."""
    with contextlib.suppress(OSError):
        replace(_stamp_of(folder), json.dumps({"at": time.time_ns(), "files": states}).encode())


def _stamped(folder: Path) -> dict[str, FileState] | None:
    try:
        stamp = json.loads(_stamp_of(folder).read_bytes())
        states = {
            str(name): (int(size), int(mtime), int(inode)) for name, (size, mtime, inode) in stamp["files"].items()
        }
        settled = int(stamp["at"]) - _CLOCK_STEP_NS
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return states if all(mtime < settled for _, mtime, _ in states.values()) else None


def _mapped(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    if shape[0] == 0:  # nothing cannot be mapped
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", shape=shape).view(np.ndarray)


# ------------------------------------------------------------------------------------------------------------ pointer


def read_pointer(root: Path) -> Pointer | None:
    """What ``CURRENT`` says; None without one.

    Raises:
        GenerationError: it says nothing that makes sense, or cannot be read.
    """
    try:
        with (root / CURRENT).open("rb") as file:
            content = file.read(256)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise GenerationError(f"{root / CURRENT} cannot be read ({error})") from error
    match = _POINTER.fullmatch(content.decode("ascii", "replace"))
    if match is None:
        raise GenerationError(f"{root / CURRENT} names no generation")
    return Pointer(match[1], match[2])


def pointer_state(root: Path) -> FileState | None:
    """Differs whenever ``CURRENT`` was replaced; some microseconds."""
    try:
        return state(root / CURRENT)
    except OSError:
        return None


# ----------------------------------------------------------------------------------------------------------- building


@contextlib.contextmanager
def building(folder: Path, wait_s: float = 0.0) -> Iterator[Path]:
    """An empty folder to build in, under the lock that lets one builder at a time in; gone at the end.

    Args:
        folder: holds ``generations`` and the lock; made if it is not there.
        wait_s: how long to wait for another builder.

    Raises:
        GenerationBusy: another builder is still at it.
        GenerationError: the disk is full, read-only or otherwise unwilling.
    """
    from filelock import FileLock, Timeout

    root = folder / "generations"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK, timeout=wait_s):
            for left in root.glob(f"{_ASIDE}*"):  # by a builder that was killed: this one holds the lock
                shutil.rmtree(left, ignore_errors=True)
            for left in root.glob(f"*{TEMPORARY}"):
                left.unlink(missing_ok=True)
            aside = root / f"{_ASIDE}{secrets.token_hex(4)}"
            aside.mkdir()
            try:
                yield aside
            finally:
                shutil.rmtree(aside, ignore_errors=True)  # published, it is there no more
    except Timeout as error:
        raise GenerationBusy(f"another process is building the index in {folder}: wait until it is done") from error
    except OSError as error:
        raise GenerationError(f"the index cannot be written in {folder} ({error}): free or unlock the disk") from error


def copy(snapshot: Snapshot, aside: Path, dim: int, progress: Callable[[int, int], None]) -> int:
    """Writes all segments of a snapshot, vectors scaled to length one, a batch in memory at a time; how many.

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
            vectors.write(unit(batch.vectors).astype("<f4", copy=False).data)
            ids.write(np.ascontiguousarray(batch.ids, "<i8").data)
            of.write(np.ascontiguousarray(batch.recordings, "<i8").data)
            n, last = n + len(batch.ids), int(batch.ids[-1])
            progress(n, max(n, snapshot.count))
    return n


def vectors_of(aside: Path, n: int, dim: int) -> Floats:
    """The vectors that `copy` wrote, mapped."""
    return _mapped(aside / VECTORS, "<f4", (n, dim))


def publish(aside: Path, keep: int, describe: Callable[[dict[str, FileSum], str], Manifest]) -> Manifest:
    """Makes what was built the current generation, for good once this returns.

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
    for path in aside.iterdir():
        sync(path)
    sync(aside)
    name = f"{now:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"
    aside.rename(root / name)
    sync(root)
    _stamp(root / name, _states(root / name, manifest))
    replace(root / CURRENT, f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    _prune(root, name, keep)
    return manifest


def _prune(root: Path, current: str, keep: int) -> None:
    """Removes old generations. Who has one mapped keeps it; what cannot be removed now, the next build removes."""
    names = sorted(path.name for path in root.iterdir() if path.name != current and _NAME.fullmatch(path.name))
    for name in names[: max(0, len(names) - max(keep - 1, 0))]:
        shutil.rmtree(root / name, ignore_errors=True)
    for stamp in root.glob(f"*{_STAMP}"):
        if not stamp.with_name(stamp.name.removesuffix(_STAMP)).exists():
            stamp.unlink(missing_ok=True)
