"""Imports an exported collection."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch import encoder_check
from e2vsearch.catalog import text_search
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import ExportError
from e2vsearch.transfer import annotations as findings
from e2vsearch.transfer.annotations import lines
from e2vsearch.transfer.export import _GOLDEN, _READ, FORMAT, TransferReport, sha256_hex
from e2vsearch.types import Space


def read_space(folder: Path) -> tuple[Space, str]:
    """The space that an export's vectors live in, and what opens its encoder.

    Raises:
        ExportError: it is no export.
    """
    manifest = _manifest(folder)
    space = manifest["space"]
    return Space(**{**space, "labels": tuple(space["labels"])}), manifest["encoder_source"]


def load(catalog: Catalog, folder: Path) -> TransferReport:
    """Add everything from an export. What is known already stays as it is, and only what is missing is added to it.

    Raises:
        ExportError: it is no export, or is damaged.
        SpaceMismatch: the collection is pinned to another space, or its encoder made another vector of the test clip.
    """
    manifest = _manifest(folder)
    for name, digest in manifest["sha256"].items():
        if not (folder / name).is_file() or sha256_hex(folder / name) != digest:
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
    return TransferReport(stored, segments, already, findings.load(catalog, folder, ids, fresh=fresh))


def _join_golden(catalog: Catalog, folder: Path, space: Space, source: str) -> None:
    """Pin the collection, and see that what is added was computed as what it holds; the encoder itself is not asked."""
    theirs = np.load(folder / _GOLDEN, allow_pickle=False) if (folder / _GOLDEN).is_file() else None
    if theirs is not None and (theirs.shape != (space.dim,) or theirs.dtype != np.float32):
        raise ExportError(f"{folder / _GOLDEN} must be {space.dim} numbers of float32 - export again")
    catalog.pin(space, source)
    if theirs is None:
        return
    catalog.store_reference_embedding(theirs)  # unless there is one, which it is compared with then
    ours = catalog.reference_embedding()
    if ours is not None:
        encoder_check.compare_embeddings(space, ours, theirs, "in the export what it does in this collection")


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
        text_search.put(catalog, recording, said | {n: segment.text for n, segment in here.items() if segment.text})


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
