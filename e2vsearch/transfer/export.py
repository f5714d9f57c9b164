"""Exports a whole collection, lossless, as plain files.

An export is a folder::

    manifest.json            format, version, collection, space, policy, counts, SHA-256 of each file and of itself
    recordings.jsonl         one recording a line: id, uri, name, content_sha256, …, metadata; roles and dynamics where
                             they are known
    segments.jsonl           one segment a line: recording (its id), channel, start_s, end_s, level_db where that is
                             known, text where there is a transcript; row i belongs to row i of
    vectors.npy              (segments, dim) little-endian float32, as the encoder made them
    scores.npy               (segments, labels) float32, NaN where a segment has none; absent without labels
    reference_embedding.npy  (dim,) float32, the encoder's vector of the reference clip; absent if that is not known

and the files of labels, classifiers, named vectors and projections that `annotations` describes. Former formats are
read too: up to 3 the manifest had no checksum of itself, up to 2 the reference embedding was called ``golden.npy`` and
named vectors ``sides``, format 1 had no annotations and no text, and all may lack levels, roles, dynamics and policy.
Emotion names, arousal, valence and the course of a call follow from scores, length and level, and are computed anew.
Ids are given anew on import; everything else comes back as it was. A map is not exported: `e2vsearch map` makes it of
the vectors again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog.database import ROWS_PER_STATEMENT
from e2vsearch.catalog.dynamics import dynamics_of, to_plain
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import ExportError, SettingsError
from e2vsearch.files import atomic_path, clear_abandoned, private_folder, sha256, unwritable
from e2vsearch.projections.view import Views
from e2vsearch.transfer import parquet
from e2vsearch.transfer.annotations import line, write_annotations
from e2vsearch.transfer.contents import TransferReport
from e2vsearch.transfer.manifest import FORMAT, write_manifest
from e2vsearch.transfer.row_file import collection_changed, row_file
from e2vsearch.types import Dynamics, Recording

REFERENCE_EMBEDDING = "reference_embedding.npy"


def export_to(catalog: Catalog, views: Views, target: str | os.PathLike[str], **options: Any) -> TransferReport:
    """Write a collection to a folder, see `export`, or its segments to a ``.parquet``, see `parquet.write`.

    Args:
        catalog: of the collection.
        views: of the collection.
        target: the folder or file.
        **options: of a Parquet file.

    Raises:
        ExportError: the folder exists, or it cannot be written.
        SettingsError: options, and no Parquet file.
        NoCollection: there is nothing to export.
    """
    path = Path(target).expanduser().absolute()
    if path.suffix.lower() == parquet.SUFFIX:
        return parquet.write(catalog, views, path, **options)
    if options:
        raise SettingsError(f"{', '.join(sorted(options))}: of Parquet alone - name a file that ends in .parquet")
    return export(catalog, path)


def export(catalog: Catalog, folder: str | os.PathLike[str]) -> TransferReport:
    """Write a collection to a folder, which must not exist yet.

    Raises:
        ExportError: the folder exists, or cannot be written.
        NoCollection: there is nothing to export.
    """
    folder = Path(folder).expanduser().absolute()
    feed = catalog.feed()
    if folder.exists():
        raise ExportError(f"{folder} exists already - name a new folder")
    try:
        private_folder(folder.parent)
        clear_abandoned(folder)
        with atomic_path(folder) as aside:
            private_folder(aside)
            with feed.snapshot() as snapshot:
                recordings, ids = _write(catalog, aside, snapshot)
            done = write_annotations(catalog, aside, ids)
            vector = catalog.reference_embedding()
            if vector is not None:
                np.save(aside / REFERENCE_EMBEDDING, vector.astype("<f4"), allow_pickle=False)
            assert catalog.space is not None  # feed() raises NoCollection without one
            files = sorted(path for path in aside.rglob("*") if path.is_file())
            manifest = {
                "format": FORMAT,
                "collection": catalog.collection_id,
                "space": asdict(catalog.space),
                "encoder_source": catalog.encoder_source,
                "policy": catalog.policy.plain(),
                "recordings": recordings,
                "segments": len(ids),
                "sha256": {path.relative_to(aside).as_posix(): sha256(path) for path in files},
            }
            write_manifest(aside, manifest)
    except OSError as error:
        raise ExportError(unwritable(folder, error)) from error
    return TransferReport(recordings, len(ids), found=done)


def _with_dynamics(catalog: Catalog) -> Iterator[tuple[int, Recording, Dynamics | None]]:
    recordings = catalog.recordings()
    while some := list(islice(recordings, ROWS_PER_STATEMENT)):
        with catalog.reading() as connection:
            found = dynamics_of(connection, [number for number, _ in some])
        yield from ((number, recording, found.get(number)) for number, recording in some)


def _write(catalog: Catalog, folder: Path, snapshot: Any) -> tuple[int, NDArray[np.int64]]:
    """Write recordings and segments, which fit together only if nothing was stored between the two reads.

    Returns:
        The number of recordings, and the number of the segment in each row.

    Raises:
        ExportError: the collection changed meanwhile.
    """
    assert catalog.space is not None
    labels = catalog.space.labels
    known: set[str] = set()
    unseen: set[str] = set()
    with (folder / "recordings.jsonl").open("w", encoding="utf-8") as file:
        for _, recording, dynamics in _with_dynamics(catalog):
            known.add(recording.id)
            if not recording.note:
                unseen.add(recording.id)
            file.write(line({**asdict(recording), **({"dynamics": to_plain(dynamics)} if dynamics else {})}))
    ids = [np.empty(0, np.int64)]
    with (
        (folder / "segments.jsonl").open("w", encoding="utf-8") as file,
        row_file(folder / "vectors.npy", snapshot.count, catalog.space.dim) as write_vectors,
        row_file(folder / "scores.npy", snapshot.count, len(labels)) if labels else nullcontext() as write_scores,
    ):
        for batch in snapshot.batches():
            ids.append(batch.ids)
            found = dict(catalog.segments(batch.ids.tolist()))
            segments = [segment for segment in found.values() if segment.recording in known]
            if len(segments) < len(batch.ids):
                raise collection_changed()
            write_vectors(batch.vectors)
            if write_scores is not None:
                scores = [[segment.scores.get(label, np.nan) for label in labels] for segment in segments]
                write_scores(np.array(scores, np.float32))
            for segment in segments:
                unseen.discard(segment.recording)
                optional = [name for name in ("level_db", "text") if getattr(segment, name) not in (None, "")]
                columns = ("recording", "channel", "start_s", "end_s", *optional)
                file.write(line({name: getattr(segment, name) for name in columns}))
    if unseen:
        raise collection_changed()
    return len(known), np.concatenate(ids)
