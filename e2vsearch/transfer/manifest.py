"""The manifest of an export: what is in it, with a checksum of each file and of the manifest itself.

Nothing of an export is believed. Its files are those that the manifest names, each a plain file in the folder or in one
folder below, never a link, a device or anything elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2vsearch.errors import ExportError, SettingsError
from e2vsearch.policy import Policy
from e2vsearch.transfer.fields import LABEL, Kind, check_fields, list_of, table, text, whole
from e2vsearch.types import Space

FORMAT = 4
MANIFEST = "manifest.json"

_CHECKSUM = "checksum"  # of the manifest's other fields
_NAME = re.compile(r"(?:[a-z][a-z0-9_]*/)?[a-z0-9][a-z0-9_]*(?:\.[a-z0-9_]+)+")
_MOST_BYTES = 16 << 20  # of a manifest, which names a few dozen files

_DIGEST = Kind("a SHA-256", lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None)
_DICT = Kind("an object", lambda value: isinstance(value, dict))
_REQUIRED = {
    "format": whole(1, FORMAT),
    "space": _DICT,
    "encoder_source": text(4096),
    "sha256": table(text(255), _DIGEST),
}
_OPTIONAL = {"collection": text(64), "recordings": whole(0, 1 << 62), "segments": whole(0, 1 << 62), "policy": _DICT}
_SPACE = {
    "encoder": text(255),
    "revision": text(64),
    "dim": whole(1, 1 << 16),
    "labels": list_of(LABEL, 1000),
    "projection": text(64),
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an export says of itself.

    Attributes:
        folder: of the export.
        format: 1 to `FORMAT`; the manifests of 1 to 3 had no checksum.
        space: of its vectors.
        encoder_source: what opens the space's encoder.
        policy: of the collection that it is of.
        sha256: of each file, by its name.
        recordings, segments: how many there are; None where it does not say.
    """

    folder: Path
    format: int
    space: Space
    encoder_source: str
    policy: Policy
    sha256: Mapping[str, str]
    recordings: int | None
    segments: int | None

    def path(self, name: str) -> Path | None:
        """Return the path of a file, None where the export has none of that name."""
        return self.folder / name if name in self.sha256 else None

    def check_files(self) -> None:
        """Compare each file with its checksum.

        Raises:
            ExportError: one of them is missing, damaged, or no plain file.
        """
        for name, digest in self.sha256.items():
            if _digest(self.folder, name) != digest:
                raise ExportError(f"{self.folder / name} is missing or damaged - export again")


def write_manifest(folder: Path, fields: Mapping[str, Any]) -> None:
    """Write the manifest of an export's files, with its own checksum."""
    plain = json.loads(json.dumps(fields))  # as it will be read: keys are texts
    content = {**plain, _CHECKSUM: _checksum(plain)}
    (folder / MANIFEST).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of an export; its files are not read.

    Raises:
        ExportError: it is no export, one of a later format, or damaged.
    """
    path = folder / MANIFEST
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ValueError("no plain file")
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES)
        fields = json.loads(content)
        format_ = fields["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ExportError(
            f"{folder} is no export of a collection - name a folder that e2vsearch export has written"
        ) from error
    if isinstance(format_, int) and format_ > FORMAT:
        raise ExportError(f"{folder} is an export of format {format_}, this version reads up to {FORMAT}")
    checksum = fields.pop(_CHECKSUM, None)
    # a changed bit makes no manifest of format 4 one of a former format: those have no checksum
    if (checksum is not None or format_ == FORMAT) and checksum != _checksum(fields):
        raise ExportError(f"{path} is damaged: its checksum is another - export again")
    check_fields(fields, _REQUIRED, _OPTIONAL, str(path))
    check_fields(fields["space"], _SPACE, {}, f"{path}: space")
    for name in fields["sha256"]:
        if not _NAME.fullmatch(name):
            raise ExportError(f"{path} names {name!r}, which is no plain file of an export - export again")
    try:
        policy = Policy.of(fields.get("policy"))
    except (SettingsError, TypeError, ValueError, AttributeError) as error:
        raise ExportError(f"{path}: its policy is damaged ({error}) - export again") from error
    space = Space(**{**fields["space"], "labels": tuple(fields["space"]["labels"])})
    counts = fields.get("recordings"), fields.get("segments")
    return Manifest(folder, format_, space, fields["encoder_source"], policy, fields["sha256"], *counts)


def _checksum(fields: Mapping[str, Any]) -> str:
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _digest(folder: Path, name: str) -> str | None:
    """Return the SHA-256 of a plain file, None where there is none; a pipe or device is neither waited for nor read."""
    try:
        for part in (folder / name, *(folder / name).parents[: name.count("/")]):
            if part.is_symlink():
                return None
        descriptor = os.open(folder / name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
