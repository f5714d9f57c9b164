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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import ExportError
from e2vsearch.transfer import annotations as findings
from e2vsearch.transfer.annotations import Annotations, line

FORMAT = 2

_READ = (1, 2)

_BATCH = 4096

_GOLDEN = "golden.npy"


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What went over."""

    recordings: int
    segments: int
    already: int = 0  # recordings that the collection held before
    found: Annotations = field(default_factory=Annotations)  # labels, classifiers, sets of side vectors, projections


def export(catalog: Catalog, folder: Path) -> TransferReport:
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
        vector = catalog.reference_embedding()
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
                path.relative_to(aside).as_posix(): sha256_hex(path)
                for path in sorted(aside.rglob("*"))
                if path.is_file()
            },
        }
        (aside / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        aside.rename(folder)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return TransferReport(recordings, len(ids), found=found)


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


def sha256_hex(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
