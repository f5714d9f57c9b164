"""Imports an exported collection, of this format or a former one."""

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
from e2vsearch.errors import ExportError, SettingsError
from e2vsearch.files import sha256
from e2vsearch.policy import Policy
from e2vsearch.transfer.annotations import NOT_STORED, lines, load_annotations
from e2vsearch.transfer.export import FORMAT, REFERENCE_EMBEDDING, TransferReport
from e2vsearch.types import Space


def read_space(folder: Path) -> tuple[Space, str]:
    """Return the space of an export's vectors, and the name or path that opens its encoder.

    Raises:
        ExportError: it is no export.
    """
    manifest = _manifest(folder)
    space = manifest["space"]
    return Space(**{**space, "labels": tuple(space["labels"])}), manifest["encoder_source"]


def load(catalog: Catalog, folder: Path) -> TransferReport:
    """Add everything from an export; what the collection has already stays as it is, its policy too.

    Raises:
        ExportError: it is no export, or is damaged.
        SpaceMismatch: the collection is pinned to another space, or its encoder made another reference embedding.
    """
    manifest = _manifest(folder)
    for name, digest in manifest["sha256"].items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            raise ExportError(f"{folder / name} is missing or damaged - export again")
    space, source = read_space(folder)
    policy = _policy(folder, manifest)
    _pin(catalog, folder, manifest["format"], space, source)
    other_policy = policy not in (catalog.policy, Policy())
    if other_policy and catalog.policy == Policy():
        catalog.set_policy(policy.plain(), "import")
        other_policy = False
    fresh = not catalog.segment_count()
    vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
    scores = np.load(folder / "scores.npy", mmap_mode="r", allow_pickle=False) if space.labels else None
    rows = _rows_of(folder)
    ids = np.full(len(vectors), NOT_STORED, np.int64)  # of the segment in each row
    stored = already = segments = 0
    for fields in lines(folder / "recordings.jsonl"):
        own = rows.get(fields.pop("id"), [])
        made = tuple(_segment(at, row, vectors, scores) for at, row in own)
        for name in ("recorded_at", "added_at"):
            fields[name] = datetime.fromisoformat(fields[name])
        done = catalog.store(NewRecording(**fields, segments=made))
        if done.outcome == "already":
            already += 1
        else:
            stored += 1
            segments += len(made)
        _match_segments(catalog, done.id, own, ids)
    added = load_annotations(catalog, folder, ids, manifest["format"], fresh=fresh)
    return TransferReport(stored, segments, already, other_policy, added)


def _policy(folder: Path, manifest: dict[str, Any]) -> Policy:
    try:
        return Policy.of(manifest.get("policy"))
    except (SettingsError, TypeError) as error:
        raise ExportError(f"{folder / 'manifest.json'}: its policy is damaged ({error}) - export again") from error


def _pin(catalog: Catalog, folder: Path, format_: int, space: Space, source: str) -> None:
    """Pin the collection, and compare the reference embeddings; no encoder is opened."""
    path = folder / (REFERENCE_EMBEDDING if format_ > 2 else "golden.npy")
    exported = np.load(path, allow_pickle=False) if path.is_file() else None
    if exported is not None and (exported.shape != (space.dim,) or exported.dtype != np.float32):
        raise ExportError(f"{path} must be {space.dim} numbers of float32 - export again")
    catalog.pin(space, source)
    if exported is None:
        return
    catalog.store_reference_embedding(exported)  # unless there is one, which it is compared with then
    stored = catalog.reference_embedding()
    if stored is not None:
        encoder_check.compare_embeddings(space, stored, exported, "in the export what it does in this collection")


def _match_segments(
    catalog: Catalog, recording: int, own: list[tuple[int, dict[str, Any]]], ids: NDArray[np.int64]
) -> None:
    """Note the stored number of each exported segment, and add transcripts where there are none.

    A recording that was stored before may be segmented otherwise, and then has none of the export's segments.
    """
    numbers, _ = catalog.segments_of([recording])
    here = dict(catalog.segments(numbers.tolist()))
    times = [(segment.channel, segment.start_s, segment.end_s) for segment in here.values()]
    if times != [(row["channel"], row["start_s"], row["end_s"]) for _, row in own]:
        return
    for (at, _), number in zip(own, here, strict=True):
        ids[at] = number
    texts = {number: row["text"] for (_, row), number in zip(own, here, strict=True) if "text" in row}
    if texts:
        text_search.put(catalog, recording, texts | {n: segment.text for n, segment in here.items() if segment.text})


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
        if manifest["format"] in range(1, FORMAT + 1) and {"space", "sha256", "encoder_source"} <= manifest.keys():
            return manifest
        raise ExportError(f"{folder} is an export of format {manifest['format']}, this version reads up to {FORMAT}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{folder} is no export of a collection - make one with: e2vsearch export {folder}"
        ) from error
