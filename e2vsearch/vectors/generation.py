"""One immutable index on disk, opened and checked. Knows files, nothing of searching, building or SQL.

What a reader maps is what a builder wrote, or it is refused (`manifest` says how that is known). FAISS itself has no
checksum; 4 KiB of random bytes in its codes load silently, and a torn file can end the process. A reader keeps its maps
when a newer generation takes over or its own is removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import weakref
from pathlib import Path

import numpy as np

from e2vsearch.errors import GenerationError
from e2vsearch.feed import VectorSource
from e2vsearch.vectors.disk import FileState, mapped, replace, sha256, state
from e2vsearch.vectors.exact import Floats, Ints
from e2vsearch.vectors.ivf import Ivf
from e2vsearch.vectors.manifest import (
    IDS,
    IVF,
    RECORDINGS,
    VECTORS,
    Manifest,
    Pointer,
    read_manifest,
    read_tuned,
)
from e2vsearch.vectors.tuning import Tuned

STAMP = ".verified"
_READ_ROWS = 1024  # more at once are quicker mapped
_CLOCK_STEP_NS = 50_000_000  # file times step by up to 10 ms; what changed this soon before a stamp may hide a change


class Generation:
    """An open generation: its arrays are maps of its files.

    Attributes:
        pointer: what points to it.
        manifest: what it is.
        tuned: what it promises now.
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
            self.manifest = manifest = read_manifest(root, pointer)
            self.tuned: Tuned = read_tuned(root, pointer, manifest)
            _check_origin(manifest, source)
            found = _checked(self._folder, manifest, rehash=rehash)
            self._looks = [(str(self._folder / name), look) for name, look in found.items()]
            self.ids: Ints = mapped(self._folder / IDS, "<i8", (manifest.n,))
            self.recordings: Ints = mapped(self._folder / RECORDINGS, "<i8", (manifest.n,))
            self.vectors: Floats = mapped(self._folder / VECTORS, "<f4", (manifest.n, manifest.dim))
            self._file: int | None = None
            if hasattr(os, "pread"):  # not on Windows
                self._file = os.open(self._folder / VECTORS, os.O_RDONLY)
                weakref.finalize(self, os.close, self._file)
            if not (self.ids[1:] > self.ids[:-1]).all():
                raise GenerationError(f"the ids in {IDS} do not ascend")
            self.ivf = None
            if manifest.kind != "flat":
                self.ivf = Ivf.read(self._folder / IVF, manifest.n, manifest.dim, manifest.nlist or 0)
                if manifest.asked_kind == "gpu":
                    self.ivf.use_gpu()
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

    def gather(self, rows: Ints) -> Floats:
        """The vectors of rows ``(…)``, ``(…, dim)``, not to be written to; few are read, not mapped.

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
        """Whether its files still look as they did when they were checked; some microseconds."""
        try:
            return all(state(path) == look for path, look in self._looks)
        except OSError:
            return False


def _check_origin(manifest: Manifest, source: VectorSource) -> None:
    if manifest.collection_id != source.collection_id:
        raise GenerationError(f"it is of another collection ({manifest.collection_id})")
    if (manifest.space_id, manifest.dim) != (source.space_id, source.dim):
        raise GenerationError(f"it is of another space ({manifest.space_id}, {manifest.dim}-d)")


def _checked(folder: Path, manifest: Manifest, *, rehash: bool) -> dict[str, FileState]:
    """The state of each file, after its size and hash were found right, now or when it was last in that state."""
    found = states(folder, manifest)
    for name, file in manifest.files.items():
        if found[name][0] != file.size:
            raise GenerationError(f"{name} has {found[name][0]} bytes where {file.size} were written")
    if not rehash and _stamped(folder) == found:
        return found
    for name, file in manifest.files.items():
        if sha256(folder / name) != file.sha256:
            _stamp_of(folder).unlink(missing_ok=True)  # nobody else shall trust it either
            raise GenerationError(f"{name} is not what its builder wrote")
    stamp(folder, found)
    return found


def states(folder: Path, manifest: Manifest) -> dict[str, FileState]:
    """The state of each of a generation's files."""
    return {name: state(folder / name) for name in manifest.files}


def _stamp_of(folder: Path) -> Path:
    return folder.with_name(folder.name + STAMP)


def stamp(folder: Path, found: dict[str, FileState]) -> None:
    """Notes that files in this state were found right, beside the folder; without the right to write, never mind."""
    with contextlib.suppress(OSError):
        replace(_stamp_of(folder), json.dumps({"at": time.time_ns(), "files": found}).encode())


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
