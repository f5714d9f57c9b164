"""One immutable generation on disk, opened and checked, with its manifest and pointer.

What a reader maps is what a builder wrote, by size and hash, or it is refused. FAISS itself has no checksum; 4 KiB of
random bytes in its codes load silently, and a torn file can end the process. A reader keeps its maps when a newer
generation takes over or its own is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
import weakref
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from e2vsearch.errors import GenerationError
from e2vsearch.feed import VectorSource
from e2vsearch.files import atomic_write, open_mapped, sha256
from e2vsearch.vectors.engine import FAISS_KINDS
from e2vsearch.vectors.exact import Float32s, Ints
from e2vsearch.vectors.faiss.ivf import Ivf
from e2vsearch.vectors.faiss.nprobe import Tuned, Tuning

STAMP = ".verified"
GROWN = 4  # times as many segments as lists were trained on: as many again would be due, by `builder.lists_for`
_READ_ROWS = 1024  # more at once are quicker mapped
_CLOCK_STEP_NS = 50_000_000  # file times step by up to 10 ms; what changed this soon before a stamp may hide a change


FileState = tuple[int, int, int]
"""Size in bytes, time of the last change in ns, and inode: another state means another content, as good as always."""


def file_state(path: Path | str) -> FileState:
    """Return size, time and inode of a file; 1 us by a string, which every query asks of each file, 5 by a path."""
    stat = os.stat(path)  # noqa: PTH116 - see above
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


class Generation:
    """An open generation: its arrays are maps of its files.

    Attributes:
        pointer: what points to it.
        manifest: what it is.
        tuned: its settings and recall now.
        ids: ``(n,)`` segments, ascending.
        recordings: ``(n,)`` the recording of each.
        vectors: ``(n, dim)`` unit float32.
        ivf: lists over the rows, None for flat.
    """

    def __init__(self, root: Path, pointer: Pointer, source: VectorSource, *, rehash: bool = False) -> None:
        """Open and check what `pointer` points to.

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
            self.manifest = manifest = read_manifest(root, pointer)
            self.tuned: Tuned = read_tuned(root, pointer, manifest)
            _check_origin(manifest, source)
            found = _checked(self._folder, manifest, rehash=rehash)
            self._looks = [(str(self._folder / name), look) for name, look in found.items()]
            self.ids: Ints = open_mapped(self._folder / IDS, "<i8", (manifest.n,))
            self.recordings: Ints = open_mapped(self._folder / RECORDINGS, "<i8", (manifest.n,))
            self.vectors: Float32s = open_mapped(self._folder / VECTORS, "<f4", (manifest.n, manifest.dim))
            self._file: int | None = None
            if hasattr(os, "pread"):  # not on Windows
                self._file = os.open(self._folder / VECTORS, os.O_RDONLY)
                weakref.finalize(self, os.close, self._file)
            if not (self.ids[1:] > self.ids[:-1]).all():
                raise GenerationError(f"the ids in {IDS} do not ascend")
            self.ivf = None
            if manifest.kind != "flat":
                self.ivf = Ivf.read(self._folder / IVF, manifest.n, manifest.dim, manifest.nlist or 0)
                if manifest.requested_kind == "gpu":
                    self.ivf.use_gpu()
        except (OSError, ValueError, GenerationError) as error:
            raise GenerationError(f"index generation {self.name} cannot be used: {error}") from error

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.pointer.name

    @property
    def watermark(self) -> int:
        """How far it has read the change feed."""
        return self.manifest.watermark

    @property
    def size(self) -> int:
        """Bytes on disk, the manifest not counted."""
        return sum(file.size for file in self.manifest.files.values())

    def gather(self, rows: Ints) -> Float32s:
        """Return the vectors of rows ``(…)``, ``(…, dim)``, not to be written to; few are read, not mapped.

        A map brings in what lies around each row, 64 KiB or, where the kernel keeps a file in large folios, 2 MiB: all
        of the file counts as resident after a few hundred queries. 60 rows of 4 KiB take 80 us so, 100 into buffers
        of one's own, and 33 mapped.
        """
        flat = rows.reshape(-1)
        if self._file is None or flat.size > _READ_ROWS:
            return np.asarray(self.vectors[rows])
        size = 4 * self.manifest.dim
        read = b"".join([os.pread(self._file, size, at) for at in (flat * size).tolist()])
        if len(read) != flat.size * size:
            raise GenerationError(f"index generation {self.name} cannot be used: {VECTORS} ends early")
        return np.frombuffer(read, "<f4").reshape(*rows.shape, self.manifest.dim)

    def unchanged(self) -> bool:
        """Tell whether its files still look as they did when they were checked; some microseconds."""
        try:
            return all(file_state(path) == look for path, look in self._looks)
        except OSError:
            return False


def _check_origin(manifest: Manifest, source: VectorSource) -> None:
    if manifest.collection_id != source.collection_id:
        raise GenerationError(f"it is of another collection ({manifest.collection_id})")
    if (manifest.space_id, manifest.dim) != (source.space_id, source.dim):
        raise GenerationError(f"it is of another space ({manifest.space_id}, {manifest.dim}-d)")


def _checked(folder: Path, manifest: Manifest, *, rehash: bool) -> dict[str, FileState]:
    """Return the state of each file, once its size and hash were right, now or when it was last in that state."""
    found = states(folder, manifest)
    for name, file in manifest.files.items():
        if found[name][0] != file.size:
            raise GenerationError(f"{name} has {found[name][0]} bytes where {file.size} were written")
    if not rehash and _stamped(folder) == found:
        return found
    for name, file in manifest.files.items():
        if sha256(folder / name) != file.sha256:
            _stamp_of(folder).unlink(missing_ok=True)  # no other process shall trust it either
            raise GenerationError(f"{name} is not what its builder wrote")
    stamp(folder, found)
    return found


def states(folder: Path, manifest: Manifest) -> dict[str, FileState]:
    """Return the state of each of a generation's files."""
    return {name: file_state(folder / name) for name in manifest.files}


def _stamp_of(folder: Path) -> Path:
    return folder.with_name(folder.name + STAMP)


def stamp(folder: Path, found: dict[str, FileState]) -> None:
    """Note beside the folder that files in this state are right; skipped without the right to write."""
    with contextlib.suppress(OSError):
        atomic_write(_stamp_of(folder), json.dumps({"at": time.time_ns(), "files": found}).encode())


def _stamped(folder: Path) -> dict[str, FileState] | None:
    try:
        noted = json.loads(_stamp_of(folder).read_bytes())
        found = {
            str(name): (int(size), int(mtime), int(inode)) for name, (size, mtime, inode) in noted["files"].items()
        }
        settled = int(noted["at"]) - _CLOCK_STEP_NS
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if all(mtime < settled for _, mtime, _ in found.values()) else None


FORMAT = 3
"""Format 2 kept no recall model and had the kind ``ivf-sq8``: a generation of it is built anew."""

VECTORS, IDS, RECORDINGS, IVF = "vectors.f32", "ids.i64", "recordings.i64", "ivf.faiss"
MANIFEST, CURRENT, LOCK = "manifest.json", "CURRENT", "build.lock"
TUNED = ".tuned"
"""How the name of a file beside a generation ends that holds a later tuning."""

NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{8}")
"""Of a generation: UTC and a random tail, so ascending names are ascending builds."""

_POINTER = re.compile(rf"({NAME.pattern}) ([0-9a-f]{{64}})(?: ([0-9a-f]{{64}}))?\n")


@dataclass(frozen=True, slots=True)
class FileSum:
    """Size and hash that a file must have."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The description of a generation; ``manifest.json``."""

    format: int
    e2vsearch: str  # version that built it
    faiss: str | None  # None: no FAISS file
    kind: str
    requested_kind: str  # the kind that the next build makes too, unless another is requested
    dim: int
    n: int
    watermark: int  # how far it has read the change feed
    collection_id: str
    space_id: str
    nlist: int | None
    trained: Trained | None  # None: no lists
    tuned: Tuned  # as it was built; `Generation.tuned` is what holds now
    seed: int
    built_at: str  # UTC, ISO 8601
    note: str
    files: dict[str, FileSum]

    def to_json(self) -> bytes:
        """Return the file's content."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> Manifest:
        """Parse a file's content.

        Raises:
            GenerationError: of another format, or not a manifest.
        """
        try:
            fields: dict[str, Any] = json.loads(content)
            if fields["format"] != FORMAT:
                raise GenerationError(
                    f"it is of format {fields['format']!r}, this e2vsearch reads {FORMAT}: e2vsearch index build"
                )
            fields["tuned"] = Tuned.from_fields(fields["tuned"])
            if fields["trained"] is not None:
                trained = fields["trained"]
                fields["trained"] = Trained(**{**trained, "tuning": Tuning(**trained["tuning"])})
            fields["files"] = {name: FileSum(**file) for name, file in fields["files"].items()}
            return cls(**fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GenerationError(f"{MANIFEST} is invalid ({error})") from error


@dataclass(frozen=True, slots=True)
class Pointer:
    """The content of ``CURRENT``."""

    name: str
    manifest_sha256: str
    tuned_sha256: str | None = None  # of the tuning that took the place of the manifest's

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        parts = (self.name, self.manifest_sha256, self.tuned_sha256)
        return (" ".join(part for part in parts if part is not None) + "\n").encode()

    def tuned_path(self, root: Path) -> Path:
        """Return the path of that tuning: a new one has a new name, so that neither is ever half there."""
        return root / f"{self.name}.{(self.tuned_sha256 or '')[:16]}{TUNED}"


def read_pointer(root: Path) -> Pointer | None:
    """Return the content of ``CURRENT``; None without one.

    Raises:
        GenerationError: it is invalid, or cannot be read.
    """
    try:
        with (root / CURRENT).open("rb") as file:
            content = file.read(512)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise GenerationError(f"{root / CURRENT} cannot be read ({error})") from error
    match = _POINTER.fullmatch(content.decode("ascii", "replace"))
    if match is None:
        raise GenerationError(f"{root / CURRENT} names no generation")
    return Pointer(match[1], match[2], match[3])


def pointer_state(root: Path) -> FileState | None:
    """Return a value that differs whenever ``CURRENT`` was replaced; some microseconds."""
    try:
        return file_state(f"{root}/{CURRENT}")  # joined by `/` it takes 3 us more
    except OSError:
        return None


def read_manifest(root: Path, pointer: Pointer) -> Manifest:
    """Return the manifest that is pointed to.

    Raises:
        GenerationError: it is not what its builder wrote.
        OSError: it cannot be read.
    """
    return Manifest.from_json(_manifest_bytes(root, pointer))


def read_tuned(root: Path, pointer: Pointer, manifest: Manifest) -> Tuned:
    """Return what holds of a generation now: its last tuning, or its builder's.

    Raises:
        GenerationError: that tuning is not what was written.
        OSError: it cannot be read.
    """
    if pointer.tuned_sha256 is None:
        return manifest.tuned
    try:
        return Tuned.from_fields(json.loads(_tuned_bytes(root, pointer)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GenerationError(f"{pointer.tuned_path(root).name} is invalid ({error})") from error


def _manifest_bytes(root: Path, pointer: Pointer) -> bytes:
    return _checked_bytes(root / pointer.name / MANIFEST, pointer.manifest_sha256)


def _tuned_bytes(root: Path, pointer: Pointer) -> bytes:
    return _checked_bytes(pointer.tuned_path(root), pointer.tuned_sha256)


def _checked_bytes(path: Path, sha256: str | None) -> bytes:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise GenerationError(f"{path.name} is not what was written")
    return content


def last_requested(root: Path) -> tuple[str, float] | None:
    """Return the kind and the target that the last build was for, whatever its format and the state of its files."""
    try:
        pointer = read_pointer(root)
        if pointer is None:
            return None
        fields = json.loads(_manifest_bytes(root, pointer))
        tuned = fields["tuned"] if pointer.tuned_sha256 is None else json.loads(_tuned_bytes(root, pointer))
        kind = fields["requested_kind"] if fields["format"] == FORMAT else fields["asked_kind"]
        return kind if kind in FAISS_KINDS else "auto", float(tuned["target"])
    except (OSError, GenerationError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class Trained:
    """The origin of an index's lists; those of a generation before may be used again."""

    n: int  # segments there were
    rows: int  # of them that k-means saw
    at: str  # UTC, ISO 8601
    kind: str
    tuning: Tuning  # what reached the target then
    imbalance: float  # of the lists then
