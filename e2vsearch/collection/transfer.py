"""Export and import of a whole collection, lossless, as plain files. Knows the format, nothing of databases.

An export is a folder::

    manifest.json     format, version, collection, space, counts, SHA-256 of each file
    recordings.jsonl  one recording a line: id, uri, name, content_sha256, …, metadata
    segments.jsonl    one segment a line: recording (its id), channel, start_s, end_s, level_db where that is known,
                      text where there is a transcript; row i belongs to row i of
    vectors.npy       (segments, dim) little-endian float32, as the encoder made them
    scores.npy        (segments, labels) float32, NaN where a segment has none; absent without labels
    golden.npy        (dim,) float32, what the encoder made of the test clip; absent if that is not known

and of what was found, labels, classifiers, side vectors and projections, the files that `findings` describes. Format 1
had neither these nor text, and is read as well, and so is an export without levels. Names, arousal and valence follow
from scores, length and level, and are made anew. Ids are given anew on import; everything else comes back as it was. A
map is not exported: `e2vsearch map` makes it of the vectors again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from e2vsearch.catalog import Catalog, NewRecording, NewSegment, texts
from e2vsearch.catalog import golden as kept
from e2vsearch.collection import findings, golden
from e2vsearch.collection.findings import Findings, line, lines
from e2vsearch.errors import ExportError
from e2vsearch.space import Space

FORMAT = 2
_READ = (1, 2)
_BATCH = 4096
_GOLDEN = "golden.npy"


@dataclass(frozen=True, slots=True)
class Transferred:
    """What went over."""

    recordings: int
    segments: int
    already: int = 0  # recordings that the collection held before
    found: Findings = field(default_factory=Findings)  # labels, classifiers, sets of side vectors, projections


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
            recordings, ids = _write(catalog, aside, snapshot)
        found = findings.write(catalog, aside, ids)
        vector = kept.kept(catalog)
        if vector is not None:
            np.save(aside / _GOLDEN, vector.astype("<f4"), allow_pickle=False)
        assert catalog.space is not None  # feed() raises NoCollection without one
        manifest = {
            "format": FORMAT,
            "collection": catalog.collection_id,
            "space": asdict(catalog.space),
            "encoder_source": catalog.encoder_source,
            "recordings": recordings,
            "segments": len(ids),
            "sha256": {
                path.relative_to(aside).as_posix(): _sha256(path) for path in sorted(aside.rglob("*")) if path.is_file()
            },
        }
        (aside / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        aside.rename(folder)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Transferred(recordings, len(ids), found=found)


def read_space(folder: Path) -> tuple[Space, str]:
    """The space that an export's vectors live in, and what opens its encoder.

    Raises:
        ExportError: it is no export.
    """
    manifest = _manifest(folder)
    space = manifest["space"]
    return Space(**{**space, "labels": tuple(space["labels"])}), manifest["encoder_source"]


def load(catalog: Catalog, folder: Path) -> Transferred:
    """Add everything from an export. What is known already stays as it is, and only what is missing is added to it.

    Raises:
        ExportError: it is no export, or is damaged.
        SpaceMismatch: the collection is pinned to another space, or its encoder made another vector of the test clip.
    """
    manifest = _manifest(folder)
    for name, digest in manifest["sha256"].items():
        if not (folder / name).is_file() or _sha256(folder / name) != digest:
            raise ExportError(f"{folder / name} is missing or damaged - export again")
    space, source = read_space(folder)
    _join_golden(catalog, folder, space, source)
    fresh = not catalog.segment_count()
    vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
    scores = np.load(folder / "scores.npy", mmap_mode="r", allow_pickle=False) if space.labels else None
    rows = _rows_of(folder)
    ids = np.full(len(vectors), -1, np.int64)  # of the segment in each row, as it is called here
    stored = already = segments = 0
    for fields in lines(folder / "recordings.jsonl"):
        own = rows.get(fields.pop("id"), [])
        made = tuple(_segment(at, row, vectors, scores) for at, row in own)
        for moment in ("recorded_at", "added_at"):
            fields[moment] = datetime.fromisoformat(fields[moment])
        done = catalog.store(NewRecording(**fields, segments=made))
        if done.outcome == "already":
            already += 1
        else:
            stored += 1
            segments += len(made)
        _recognise(catalog, done.id, own, ids)
    return Transferred(stored, segments, already, findings.load(catalog, folder, ids, fresh=fresh))


def _join_golden(catalog: Catalog, folder: Path, space: Space, source: str) -> None:
    """Pin the collection, and see that what is added was computed as what it holds; the encoder itself is not asked."""
    theirs = np.load(folder / _GOLDEN, allow_pickle=False) if (folder / _GOLDEN).is_file() else None
    if theirs is not None and (theirs.shape != (space.dim,) or theirs.dtype != np.float32):
        raise ExportError(f"{folder / _GOLDEN} must be {space.dim} numbers of float32 - export again")
    catalog.pin(space, source)
    if theirs is None:
        return
    kept.keep(catalog, theirs)  # unless there is one, which it is compared with then
    ours = kept.kept(catalog)
    if ours is not None:
        golden.compare(space, ours, theirs, "in the export what it does in this collection")


def _recognise(catalog: Catalog, recording: int, own: list[tuple[int, dict[str, Any]]], ids: NDArray[np.int64]) -> None:
    """Note which segments here are those of the export, and say what they say where nothing is known of it.

    A recording that was here before may have been cut otherwise, and then has none of them.
    """
    numbers, _ = catalog.segments_of([recording])
    here = dict(catalog.segments(numbers.tolist()))
    spans = [(segment.channel, segment.start_s, segment.end_s) for segment in here.values()]
    if spans != [(row["channel"], row["start_s"], row["end_s"]) for _, row in own]:
        return
    for (at, _), number in zip(own, here, strict=True):
        ids[at] = number
    said = {number: row["text"] for (_, row), number in zip(own, here, strict=True) if "text" in row}
    if said:
        texts.put(catalog, recording, said | {n: segment.text for n, segment in here.items() if segment.text})


def _write(catalog: Catalog, folder: Path, snapshot: Any) -> tuple[int, NDArray[np.int64]]:
    """Rows of both tables, which belong together only if nobody wrote between the two reads.

    Returns:
        How many recordings there are, and the number of the segment in each row.
    """
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
            file.write(line(asdict(recording)))
    vectors: NDArray[Any] = open_memmap(
        folder / "vectors.npy", "w+", np.dtype("<f4"), (snapshot.count, catalog.space.dim)
    )
    scores: NDArray[Any] | None = None
    if labels:
        scores = open_memmap(folder / "scores.npy", "w+", np.dtype("<f4"), (snapshot.count, len(labels)))
    row = 0
    ids = [np.empty(0, np.int64)]
    with (folder / "segments.jsonl").open("w", encoding="utf-8") as file:
        for batch in snapshot.batches():
            ids.append(batch.ids)
            found = dict(catalog.segments(batch.ids.tolist()))
            for number, vector in zip(batch.ids.tolist(), batch.vectors, strict=True):
                segment = found.get(number)
                if segment is None or segment.recording not in known:
                    raise changed
                spoken.discard(segment.recording)
                known_of = [name for name in ("level_db", "text") if getattr(segment, name) not in (None, "")]
                kept = ("recording", "channel", "start_s", "end_s", *known_of)
                file.write(line({name: getattr(segment, name) for name in kept}))
                vectors[row] = vector
                if scores is not None:
                    scores[row] = [segment.scores.get(label, np.nan) for label in labels]
                row += 1
    if spoken:
        raise changed
    for array in (vectors, scores):
        if isinstance(array, np.memmap):
            array.flush()
    return len(known), np.concatenate(ids)


def _segment(at: int, row: dict[str, Any], vectors: NDArray[Any], scores: NDArray[Any] | None) -> NewSegment:
    own = None if scores is None or np.isnan(scores[at]).any() else np.array(scores[at], np.float32)
    vector = np.array(vectors[at], np.float32)
    return NewSegment(row["channel"], row["start_s"], row["end_s"], vector, own, row.get("level_db"))


def _rows_of(folder: Path) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    rows: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for at, row in enumerate(lines(folder / "segments.jsonl")):
        rows.setdefault(row.pop("recording"), []).append((at, row))
    return rows


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest["format"] in _READ and {"space", "sha256", "encoder_source"} <= manifest.keys():
            return manifest
        raise ExportError(f"{folder} is an export of format {manifest['format']}, this version reads up to {FORMAT}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{folder} is no export of a collection - make one with: e2vsearch export {folder}"
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
