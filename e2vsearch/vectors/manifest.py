"""What a generation says of itself, and what points to it: names, sizes, hashes. Knows no array and opens no index.

``CURRENT`` holds a generation's name and the SHA-256 of its manifest, and of the file beside it that `index tune` wrote
since, if it did; the manifest holds the size and SHA-256 of each of its files. So one small file, replaced at once,
vouches for every byte that is read.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from e2vsearch.errors import GenerationError
from e2vsearch.vectors.disk import FileState, state
from e2vsearch.vectors.training import Trained
from e2vsearch.vectors.tuning import Tuned, Tuning

FORMAT = 2
VECTORS, IDS, RECORDINGS, IVF = "vectors.f32", "ids.i64", "recordings.i64", "ivf.faiss"
MANIFEST, CURRENT, LOCK = "manifest.json", "CURRENT", "build.lock"
TUNED = ".tuned"
"""How the name of a file beside a generation ends that holds a later tuning."""

NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{8}")
"""Of a generation: UTC and a random tail, so ascending names are ascending builds."""

_POINTER = re.compile(rf"({NAME.pattern}) ([0-9a-f]{{64}})(?: ([0-9a-f]{{64}}))?\n")


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
    asked_kind: str  # what was asked for: the next build asks the same, unless told otherwise
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
            fields["tuned"] = Tuned.from_fields(fields["tuned"])
            if fields["trained"] is not None:
                trained = fields["trained"]
                fields["trained"] = Trained(**{**trained, "tuning": Tuning(**trained["tuning"])})
            fields["files"] = {name: FileSum(**file) for name, file in fields["files"].items()}
            return cls(**fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GenerationError(f"{MANIFEST} makes no sense ({error})") from error


@dataclass(frozen=True, slots=True)
class Pointer:
    """What ``CURRENT`` says."""

    name: str
    manifest_sha256: str
    tuned_sha256: str | None = None  # of the tuning that took the place of the manifest's

    def to_bytes(self) -> bytes:
        """The file's content."""
        parts = (self.name, self.manifest_sha256, self.tuned_sha256)
        return (" ".join(part for part in parts if part is not None) + "\n").encode()

    def tuned_path(self, root: Path) -> Path:
        """Where that tuning is: a new one has a new name, so that neither is ever half there."""
        return root / f"{self.name}.{(self.tuned_sha256 or '')[:16]}{TUNED}"


def read_pointer(root: Path) -> Pointer | None:
    """What ``CURRENT`` says; None without one.

    Raises:
        GenerationError: it says nothing that makes sense, or cannot be read.
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
    """Differs whenever ``CURRENT`` was replaced; some microseconds."""
    try:
        return state(f"{root}/{CURRENT}")  # joined by `/` it takes 3 us more
    except OSError:
        return None


def read_manifest(root: Path, pointer: Pointer) -> Manifest:
    """The manifest that is pointed to.

    Raises:
        GenerationError: it is not what its builder wrote.
        OSError: it cannot be read.
    """
    content = (root / pointer.name / MANIFEST).read_bytes()
    if hashlib.sha256(content).hexdigest() != pointer.manifest_sha256:
        raise GenerationError(f"{MANIFEST} is not what its builder wrote")
    return Manifest.from_json(content)


def read_tuned(root: Path, pointer: Pointer, manifest: Manifest) -> Tuned:
    """What holds of a generation now: its last tuning, or its builder's.

    Raises:
        GenerationError: that tuning is not what was written.
        OSError: it cannot be read.
    """
    if pointer.tuned_sha256 is None:
        return manifest.tuned
    path = pointer.tuned_path(root)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != pointer.tuned_sha256:
        raise GenerationError(f"{path.name} is not what was written")
    try:
        return Tuned.from_fields(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GenerationError(f"{path.name} makes no sense ({error})") from error


def wanted_before(root: Path) -> tuple[str, float] | None:
    """The kind and the target that the last build was asked for, whatever became of its other files."""
    try:
        pointer = read_pointer(root)
        if pointer is None:
            return None
        manifest = read_manifest(root, pointer)
        return manifest.asked_kind, read_tuned(root, pointer, manifest).target
    except (OSError, GenerationError):
        return None
