"""Exports a whole collection, lossless, as plain files.

An export is a folder::

    manifest.json            format, version, collection, space, policy, counts, SHA-256 of each file
    recordings.jsonl         one recording a line: id, uri, name, content_sha256, …, metadata, roles where known
    segments.jsonl           one segment a line: recording (its id), channel, start_s, end_s, level_db where that is
                             known, text where there is a transcript; row i belongs to row i of
    vectors.npy              (segments, dim) little-endian float32, as the encoder made them
    scores.npy               (segments, labels) float32, NaN where a segment has none; absent without labels
    reference_embedding.npy  (dim,) float32, the encoder's vector of the reference clip; absent if that is not known

and the files of labels, classifiers, named vectors and projections that `annotations` describes. Formats 1 and 2 are
read as well: format 2 called the reference embedding ``golden.npy`` and named vectors ``sides``, format 1 had no
annotations and no text, and either may lack levels, roles and policy. Emotion names, arousal and valence follow from
scores, length and level, and are computed anew. Ids are given anew on import; everything else comes back as it was. A
map is not exported: `e2vsearch map` makes it of the vectors again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import ExportError
from e2vsearch.files import atomic_path, private_folder, sha256
from e2vsearch.transfer.annotations import Annotations, line, write_annotations

FORMAT = 3
REFERENCE_EMBEDDING = "reference_embedding.npy"


@dataclass(frozen=True, slots=True)
class TransferReport:
    """How much was exported or imported."""

    recordings: int
    segments: int
    already: int = 0  # recordings that the collection had before
    other_policy: bool = False  # the export's is another one, and was left out
    found: Annotations = field(default_factory=Annotations)


def export(catalog: Catalog, folder: Path) -> TransferReport:
    """Write a collection to a folder, which must not exist yet.

    Raises:
        ExportError: the folder exists, or cannot be written.
        NoCollection: there is nothing to export.
    """
    feed = catalog.feed()
    if folder.exists():
        raise ExportError(f"{folder} exists already - name a new folder")
    try:
        private_folder(folder.parent)
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
            text = json.dumps(manifest, indent=1, ensure_ascii=False)
            (aside / "manifest.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {error.strerror or error}") from error
    return TransferReport(recordings, len(ids), found=done)


def _write(catalog: Catalog, folder: Path, snapshot: Any) -> tuple[int, NDArray[np.int64]]:
    """Write recordings and segments, which fit together only if nothing was stored between the two reads.

    Returns:
        The number of recordings, and the number of the segment in each row.

    Raises:
        ExportError: the collection changed meanwhile.
    """
    assert catalog.space is not None
    changed = ExportError("the collection changed while it was exported - export again")
    labels = catalog.space.labels
    known: set[str] = set()
    unseen: set[str] = set()
    with (folder / "recordings.jsonl").open("w", encoding="utf-8") as file:
        for _, recording in catalog.recordings():
            known.add(recording.id)
            if not recording.note:
                unseen.add(recording.id)
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
                unseen.discard(segment.recording)
                optional = [name for name in ("level_db", "text") if getattr(segment, name) not in (None, "")]
                columns = ("recording", "channel", "start_s", "end_s", *optional)
                file.write(line({name: getattr(segment, name) for name in columns}))
                vectors[row] = vector
                if scores is not None:
                    scores[row] = [segment.scores.get(label, np.nan) for label in labels]
                row += 1
    if unseen:
        raise changed
    for array in (vectors, scores):
        if isinstance(array, np.memmap):
            array.flush()
    return len(known), np.concatenate(ids)
