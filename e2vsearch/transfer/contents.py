"""The contents of an export, checked before anything of it is stored.

Every line and every row is looked at once, a part at a time, and held to what an export may hold; what is kept of a
segment are 16 bytes, of where its line is. So an import either stores all, or refuses and has stored nothing.
"""

from __future__ import annotations

import json
import zipfile
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import DTypeLike, NDArray

from e2vsearch.catalog.named_vectors import is_name
from e2vsearch.errors import ExportError
from e2vsearch.transfer import fields
from e2vsearch.transfer.annotations import Annotations
from e2vsearch.transfer.fields import Kind, check_fields, parsed_lines
from e2vsearch.transfer.manifest import Manifest, read_manifest

_BATCH = 4096  # rows of an array in memory
_FLOAT32 = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class TransferReport:
    """How much was exported or imported."""

    recordings: int
    segments: int
    already: int = 0  # recordings that the collection had before
    other_policy: bool = False  # the export's is another one, and was left out
    found: Annotations = field(default_factory=Annotations)


@dataclass(frozen=True, slots=True)
class Contents:
    """An export that was checked.

    Attributes:
        manifest: of the export.
        vectors: ``(segments, dim)`` float32, mapped.
        scores: ``(segments, labels)`` float32, mapped; None without labels.
        reference_embedding: ``(dim,)`` float32, None where the export has none.
        named_vectors: dimensions of each set, by name.
    """

    manifest: Manifest
    vectors: NDArray[np.float32]
    scores: NDArray[np.float32] | None
    reference_embedding: NDArray[np.float32] | None
    named_vectors: Mapping[str, int]
    _offsets: NDArray[np.int64]  # (segments,) of lines, by recording
    _rows: NDArray[np.int64]  # (segments,) by recording
    _starts: NDArray[np.int64]  # (recordings + 1,) of each recording's part of both

    @property
    def stem(self) -> str:
        """What the files of named vectors are called."""
        return _stem(self.manifest)

    def recordings(self) -> Iterator[tuple[dict[str, Any], list[tuple[int, dict[str, Any]]]]]:
        """Yield the fields of each recording, without its id, and of its segments, each with its row."""
        folder = self.manifest.folder
        with (folder / "segments.jsonl").open("rb") as file:
            for at, (_, _, recording) in enumerate(parsed_lines(folder / "recordings.jsonl")):
                segments = []
                for own in range(self._starts[at], self._starts[at + 1]):
                    file.seek(self._offsets[own])
                    segment = json.loads(file.readline())
                    del segment["recording"]
                    segments.append((int(self._rows[own]), segment))
                del recording["id"]
                yield recording, segments


def read_contents(folder: Path) -> Contents:
    """Read an export, and check all of it.

    Raises:
        ExportError: it is no export, is damaged, or holds what no export holds; the message names file and row.
    """
    manifest = read_manifest(folder)
    manifest.check_files()
    space = manifest.space
    places = _check_recordings(manifest)
    offsets, owners = _check_segments(manifest, places)
    count = len(owners)
    vectors = _array(manifest, "vectors.npy", (count, space.dim))
    _check_vectors(folder / "vectors.npy", vectors)
    scores = None
    if space.labels:
        scores = _array(manifest, "scores.npy", (count, len(space.labels)))
        _check_scores(folder / "scores.npy", scores)
    name = "reference_embedding.npy" if manifest.format > 2 else "golden.npy"
    reference_embedding = None
    if manifest.path(name) is not None:
        reference_embedding = _array(manifest, name, (space.dim,))
        _check_vectors(folder / name, reference_embedding[None])
    _check_labels(manifest, count)
    _check_classifiers(manifest, count)
    named_vectors = _check_named_vectors(manifest, count)
    _check_projections(manifest)
    order = np.argsort(owners, kind="stable")
    starts = np.searchsorted(owners[order], np.arange(len(places) + 1))
    return Contents(manifest, vectors, scores, reference_embedding, named_vectors, offsets[order], order, starts)


def _path(manifest: Manifest, name: str) -> Path:
    path = manifest.path(name)
    if path is None:
        raise ExportError(f"{manifest.folder} has no {name} - export again")
    return path


def _lines(manifest: Manifest, name: str, kinds: Mapping[str, Kind]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the checked lines of a file that need not be there, each with its number."""
    path = manifest.path(name)
    if path is not None:
        for row, _, given in parsed_lines(path):
            check_fields(given, kinds, {}, f"{path} line {row}")
            yield row, given


def _check_recordings(manifest: Manifest) -> dict[str, int]:
    """Return the place of each recording in its file, by id."""
    path = _path(manifest, "recordings.jsonl")
    places: dict[str, int] = {}
    seen: dict[str, set[int]] = {"uri": set(), "content_sha256": set()}
    for row, _, given in parsed_lines(path):
        where = f"{path} line {row}"
        check_fields(given, fields.RECORDING, fields.RECORDING_OPTIONAL, where)
        channels = [each["channel"] for each in (given.get("dynamics") or {}).get("by_channel", ())]
        if channels != list(range(given["channels"]))[: len(channels)]:
            raise ExportError(f"{where}: its dynamics are not of its channels - export again")
        for name, values in seen.items():
            if (value := hash(given[name])) in values:
                raise ExportError(f"{where}: its {name} is another recording's too - export again")
            values.add(value)
        if places.setdefault(given["id"], len(places)) != row - 1:
            raise ExportError(f"{where}: {given['id']} is there twice - export again")
    if manifest.recordings not in (None, len(places)):
        raise ExportError(f"{path} has {len(places):,} recordings, not {manifest.recordings:,} - export again")
    return places


def _check_segments(manifest: Manifest, places: Mapping[str, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first byte of each segment's line, and the place of its recording."""
    path = _path(manifest, "segments.jsonl")
    offsets, owners = array("q"), array("q")
    for row, at, given in parsed_lines(path):
        where = f"{path} line {row}"
        check_fields(given, fields.SEGMENT, fields.SEGMENT_OPTIONAL, where)
        if given["end_s"] <= given["start_s"]:
            raise ExportError(f"{where} ends at {given['end_s']} s, before it starts - export again")
        owner = places.get(given["recording"])
        if owner is None:
            raise ExportError(f"{where} is of {given['recording']}, which the export has not - export again")
        offsets.append(at)
        owners.append(owner)
    if manifest.segments not in (None, len(owners)):
        raise ExportError(f"{path} has {len(owners):,} segments, not {manifest.segments:,} - export again")
    return np.array(offsets, np.int64), np.array(owners, np.int64)


def _array(manifest: Manifest, name: str, shape: tuple[int, ...], dtype: DTypeLike = _FLOAT32) -> NDArray[Any]:
    """Map an array of that shape and type."""
    path = _path(manifest, name)
    found = _mapped(path)
    if found.dtype != dtype or found.shape != shape:
        raise ExportError(f"{path} holds {found.dtype} {found.shape}, not {np.dtype(dtype)} {shape} - export again")
    return found


def _mapped(path: Path) -> NDArray[Any]:
    try:
        with np.errstate(over="raise"):  # of a size that no file has
            found: NDArray[Any] = open_memmap(path, "r")
    except (
        OSError,
        ValueError,
        EOFError,
        TypeError,
        SyntaxError,
        RecursionError,
        MemoryError,
        ArithmeticError,
    ) as error:
        raise ExportError(f"{path} is no array of numbers - export again") from error
    return found


def _check_vectors(path: Path, vectors: NDArray[np.float32]) -> None:
    for start in range(0, len(vectors), _BATCH):
        part = vectors[start : start + _BATCH]
        bad = ~np.isfinite(part).all(axis=1) | ~part.any(axis=1)
        if bad.any():
            row = start + int(np.flatnonzero(bad)[0])
            raise ExportError(f"{path} row {row} is all zeros, or has NaN or infinite values - export again")


def _check_scores(path: Path, scores: NDArray[np.float32]) -> None:
    for start in range(0, len(scores), _BATCH):
        part = scores[start : start + _BATCH]
        bad = ~np.isnan(part).all(axis=1) & ~((part >= -1e-6) & (part <= 1 + 1e-6)).all(axis=1)
        if bad.any():
            raise ExportError(f"{path} row {start + int(np.flatnonzero(bad)[0])} is no probabilities - export again")


def _check_labels(manifest: Manifest, segments: int) -> None:
    lines = _lines(manifest, "labels.jsonl", fields.example(segments))
    alone = sum(given["segment"] is None for _, given in lines)
    if alone or manifest.path("label_vectors.npy") is not None:
        vectors = _array(manifest, "label_vectors.npy", (alone, manifest.space.dim))
        _check_vectors(manifest.folder / "label_vectors.npy", vectors)


def _check_classifiers(manifest: Manifest, segments: int) -> None:
    for row, _ in _lines(manifest, "classifiers.jsonl", fields.CLASSIFIER):
        _check_npz(_path(manifest, f"classifiers/{row - 1}.npz"))
        for _ in _lines(manifest, f"classifiers/{row - 1}.jsonl", fields.prediction(segments)):
            pass


def _check_named_vectors(manifest: Manifest, segments: int) -> dict[str, int]:
    """Return the dimensions of each set."""
    stem = _stem(manifest)
    names: dict[str, int] = {}
    for row, given in _lines(manifest, f"{stem}.jsonl", fields.NAMED_VECTORS):
        if not is_name(given["name"]) or given["name"] in names:
            where = f"{manifest.folder / stem}.jsonl line {row}"
            raise ExportError(f"{where}: {given['name']!r} names no set, or two - export again")
        names[given["name"]] = given["dim"]
        path = _path(manifest, f"{stem}/{row - 1}.segments.npy")
        count = _mapped(path).size
        rows = _array(manifest, f"{stem}/{row - 1}.segments.npy", (count,), np.dtype("<i8"))
        if count and (rows.min() < 0 or rows.max() >= segments or len(np.unique(rows)) != count):
            raise ExportError(f"{path} names rows that are not there, or one twice - export again")
        vectors = _array(manifest, f"{stem}/{row - 1}.npy", (count, given["dim"]))
        for start in range(0, count, _BATCH):
            if not np.isfinite(vectors[start : start + _BATCH]).all():
                path = manifest.folder / stem / f"{row - 1}.npy"
                raise ExportError(f"{path} has NaN or infinite values - export again")
    return names


def _stem(manifest: Manifest) -> str:
    return "sides" if manifest.format < 3 else "named_vectors"


def _check_projections(manifest: Manifest) -> None:
    for row, _ in _lines(manifest, "projections.jsonl", fields.PROJECTION):
        _check_npz(_path(manifest, f"projections/{row - 1}.npz"))


def _check_npz(path: Path) -> None:
    """Check that a file has the form of one with arrays; they are read, without pickle, by whoever uses them."""
    if not zipfile.is_zipfile(path):
        raise ExportError(f"{path} holds no arrays - export again")
