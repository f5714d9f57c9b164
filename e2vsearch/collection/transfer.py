"""Export and import of a whole collection, lossless, as plain files. Knows the format, nothing of databases.

An export is a folder::

    manifest.json     format, version, collection, space, counts, SHA-256 of each file
    recordings.jsonl  one recording a line: id, uri, name, content_sha256, …, metadata
    segments.jsonl    one segment a line: recording (its id), channel, start_s, end_s; row i belongs to row i of
    vectors.npy       (segments, dim) little-endian float32, as the encoder made them
    scores.npy        (segments, labels) float32, NaN where a segment has none; absent without labels

Ids are given anew on import; everything else comes back as it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from e2vsearch.catalog import Catalog, NewRecording, NewSegment
from e2vsearch.errors import ExportError
from e2vsearch.space import Space

FORMAT = 1
_FILES = ("recordings.jsonl", "segments.jsonl", "vectors.npy", "scores.npy")
_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Transferred:
    """What went over."""

    recordings: int
    segments: int
    already: int = 0  # recordings that the collection held before


def export(catalog: Catalog, folder: Path) -> Transferred:
    """Write a collection to a folder, which must not exist yet.

    Raises:
        ExportError: the folder exists, or cannot be written.
        NoCollection: there is nothing to export.
    """
    feed = catalog.feed()
    if folder.exists():
        raise ExportError(f"{folder} exists already - name a new folder")
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        aside.mkdir(parents=True)
        with feed.snapshot() as snapshot:
            recordings, segments = _write(catalog, aside, snapshot)
        assert catalog.space is not None  # feed() raises NoCollection without one
        manifest = {
            "format": FORMAT,
            "collection": catalog.collection_id,
            "space": asdict(catalog.space),
            "encoder_source": catalog.encoder_source,
            "recordings": recordings,
            "segments": segments,
            "sha256": {name: _sha256(aside / name) for name in _FILES if (aside / name).exists()},
        }
        (aside / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        aside.rename(folder)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Transferred(recordings, segments)


def read_space(folder: Path) -> tuple[Space, str]:
    """The space that an export's vectors live in, and what opens its encoder.

    Raises:
        ExportError: it is no export.
    """
    manifest = _manifest(folder)
    space = manifest["space"]
    return Space(**{**space, "labels": tuple(space["labels"])}), manifest["encoder_source"]


def load(catalog: Catalog, folder: Path) -> Transferred:
    """Add everything from an export; recordings that are stored already stay as they are.

    Raises:
        ExportError: it is no export, or is damaged.
        SpaceMismatch: the collection is pinned to another space.
    """
    manifest = _manifest(folder)
    for name, digest in manifest["sha256"].items():
        if not (folder / name).is_file() or _sha256(folder / name) != digest:
            raise ExportError(f"{folder / name} is missing or damaged - export again")
    space, source = read_space(folder)
    catalog.pin(space, source)
    vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
    scores = np.load(folder / "scores.npy", mmap_mode="r", allow_pickle=False) if space.labels else None
    rows = _rows_of(folder)
    stored = already = segments = 0
    for fields in _lines(folder / "recordings.jsonl"):
        made = tuple(_segment(at, line, vectors, scores) for at, line in rows.get(fields.pop("id"), []))
        for moment in ("recorded_at", "added_at"):
            fields[moment] = datetime.fromisoformat(fields[moment])
        if catalog.store(NewRecording(**fields, segments=made)).outcome == "already":
            already += 1
        else:
            stored += 1
            segments += len(made)
    return Transferred(stored, segments, already)


def _write(catalog: Catalog, folder: Path, snapshot: Any) -> tuple[int, int]:
    """Rows of both tables, which belong together only if nobody wrote between the two reads."""
    assert catalog.space is not None
    changed = ExportError("the collection changed while it was exported - export again")
    labels = catalog.space.labels
    known: set[str] = set()
    spoken: set[str] = set()
    with (folder / "recordings.jsonl").open("w", encoding="utf-8") as file:
        for _, recording in catalog.recordings():
            known.add(recording.id)
            if not recording.note:
                spoken.add(recording.id)
            _line(file, asdict(recording))
    vectors: NDArray[Any] = open_memmap(
        folder / "vectors.npy", "w+", np.dtype("<f4"), (snapshot.count, catalog.space.dim)
    )
    scores: NDArray[Any] | None = None
    if labels:
        scores = open_memmap(folder / "scores.npy", "w+", np.dtype("<f4"), (snapshot.count, len(labels)))
    row = 0
    with (folder / "segments.jsonl").open("w", encoding="utf-8") as file:
        for batch in snapshot.batches():
            found = dict(catalog.segments(batch.ids.tolist()))
            for number, vector in zip(batch.ids.tolist(), batch.vectors, strict=True):
                segment = found.get(number)
                if segment is None or segment.recording not in known:
                    raise changed
                spoken.discard(segment.recording)
                kept = ("recording", "channel", "start_s", "end_s")
                _line(file, {name: getattr(segment, name) for name in kept})
                vectors[row] = vector
                if scores is not None:
                    scores[row] = [segment.scores.get(label, np.nan) for label in labels]
                row += 1
    if spoken:
        raise changed
    for array in (vectors, scores):
        if isinstance(array, np.memmap):
            array.flush()
    return len(known), row


def _segment(at: int, line: dict[str, Any], vectors: NDArray[Any], scores: NDArray[Any] | None) -> NewSegment:
    own = None if scores is None or np.isnan(scores[at]).any() else np.array(scores[at], np.float32)
    return NewSegment(line["channel"], line["start_s"], line["end_s"], np.array(vectors[at], np.float32), own)


def _rows_of(folder: Path) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    rows: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for at, line in enumerate(_lines(folder / "segments.jsonl")):
        rows.setdefault(line.pop("recording"), []).append((at, line))
    return rows


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest["format"] == FORMAT and {"space", "sha256", "encoder_source"} <= manifest.keys():
            return manifest
        raise ExportError(f"{folder} is an export of format {manifest['format']}, this version reads {FORMAT}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{folder} is no export of a collection - make one with: e2vsearch export {folder}"
        ) from error


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _line(file: IO[str], fields: dict[str, Any]) -> None:
    file.write(json.dumps(fields, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in an export")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
