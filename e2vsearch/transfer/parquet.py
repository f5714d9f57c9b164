"""Writes segments as one Parquet file, a row each with its vector, for whatever reads tables of embeddings.

    uvx embedding-atlas segments.parquet --vector vector --text text

Columns are those of a map's Parquet without the map, and the vector: ``fixed_size_list<float>`` by the Arrow schema in
the file, of which polars makes an array, and pandas numpy rows. Vectors are the projected ones, between which a cosine
is a score; the encoder's own come by name, as everywhere. The file's metadata hold the space and the policy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog import recordings
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import ExportError, SettingsError, missing_extra
from e2vsearch.files import atomic_path, legible, private_folder, unwritable
from e2vsearch.projections.base import RAW
from e2vsearch.projections.view import Views
from e2vsearch.transfer.contents import TransferReport
from e2vsearch.transfer.row_file import collection_changed
from e2vsearch.types import Recording, Segment, number_of

SUFFIX = ".parquet"
METADATA = b"e2vsearch"
"""Key of the JSON in the file's metadata: collection, space, policy."""

Vectors = Literal["projected", "raw"]
_OF_SEGMENTS = (
    "channel", "start_s", "end_s", "emotion", "emotion_score", "arousal", "valence", "label", "label_score", "text",
    "level_db",
)  # fmt: skip


def write(
    catalog: Catalog,
    views: Views,
    target: Path,
    *,
    where: str | None = None,
    vectors: Vectors = "projected",
    audio_url: str | None = None,
) -> TransferReport:
    """Write segments to a file, in place of one that is there; a reader never sees half of it.

    Metadata that name employees are left out, as there is no emotion by employee (`e2vsearch.policy`).

    Args:
        catalog: holds them.
        views: of the collection.
        target: ends in ``.parquet``.
        where: only segments that pass this filter.
        vectors: ``projected``, those that are compared, or ``raw``, the encoder's own.
        audio_url: where ``e2vsearch serve`` answers; adds the column `audio`, which Embedding Atlas plays.

    Raises:
        ExportError: it cannot be written, or the collection changed meanwhile.
        BadFilter: the filter does not parse, or names nothing known.
        MissingExtra: pyarrow is not installed.
        NoCollection: there is nothing to export.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise missing_extra("a Parquet file", "notebook") from error
    if vectors not in ("projected", "raw"):
        raise SettingsError(f"vectors are projected or raw, not {vectors!r}")
    view = views.named(RAW.name) if vectors == "raw" else views.current()
    assert catalog.space is not None  # a view raises NoCollection without one
    wanted = None if where is None else catalog.select(where)
    keys = sorted(catalog.metadata_keys() - set(recordings.left_out(catalog)))
    labels = catalog.space.labels
    about = {"collection": catalog.collection_id, "space": asdict(view.projected(catalog.space))}
    about |= {"policy": catalog.policy.plain()}
    schema = _schema(pyarrow, view.source.dim, labels, keys, audio=audio_url is not None)
    schema = schema.with_metadata({METADATA: json.dumps(about).encode()})
    seen: set[str] = set()
    count = 0
    try:
        private_folder(target.parent)
        with (
            view.source.snapshot() as snapshot,
            atomic_path(target) as aside,
            parquet.ParquetWriter(aside, schema, compression="zstd") as writer,
        ):
            for batch in snapshot.batches():
                kept = slice(None) if wanted is None else np.isin(batch.ids, wanted)
                ids = batch.ids[kept]
                rows = _rows(catalog, ids, labels, keys, audio_url)
                seen.update(row["recording"] for row in rows)
                count += len(rows)
                flat = pyarrow.array(np.ascontiguousarray(batch.vectors[kept], np.float32).ravel())
                columns = {name: [row[name] for row in rows] for name in schema.names if name != "vector"}
                columns["vector"] = pyarrow.FixedSizeListArray.from_arrays(flat, view.source.dim)
                writer.write_table(pyarrow.table(columns, schema))
    except OSError as error:
        raise ExportError(unwritable(target, error)) from error
    return TransferReport(len(seen), count)


def _schema(pyarrow: Any, dim: int, labels: tuple[str, ...], keys: list[str], *, audio: bool) -> Any:
    text, number = pyarrow.string(), pyarrow.float64()
    types = {"id": text, "recording": text, "name": text, "uri": text, "recorded_at": pyarrow.timestamp("us", "UTC")}
    types |= {"role": text, "channel": pyarrow.int32(), "start_s": number, "end_s": number, "emotion": text}
    types |= {"emotion_score": number, "arousal": number, "valence": number, "label": text, "label_score": number}
    types |= {"text": text, "level_db": number}
    types |= {f"score.{label}": pyarrow.float32() for label in labels}
    types |= {f"meta.{key}": text for key in keys}
    types |= {"audio": text} if audio else {}
    return pyarrow.schema([*types.items(), ("vector", pyarrow.list_(pyarrow.float32(), dim))])


def _rows(
    catalog: Catalog, ids: NDArray[np.int64], labels: tuple[str, ...], keys: list[str], audio_url: str | None
) -> list[dict[str, Any]]:
    """Return everything but the vectors of segments, in their order.

    Raises:
        ExportError: one of them is gone.
    """
    segments = dict(catalog.segments(ids.tolist()))
    of = sorted({number_of(each.recording, "call") for each in segments.values()})
    stored = {recording.id: recording for _, recording in catalog.recordings(of)}
    if len(segments) < len(ids) or len(stored) < len(of):
        raise collection_changed()
    found = ((segment, stored[segment.recording]) for segment in map(segments.__getitem__, ids.tolist()))
    return [dict(_cells(*each, labels, keys, audio_url)) for each in found]


def _cells(
    segment: Segment, recording: Recording, labels: tuple[str, ...], keys: list[str], audio_url: str | None
) -> Iterator[tuple[str, Any]]:
    yield "id", segment.id
    yield "recording", recording.id
    yield "name", legible(recording.name)
    yield "uri", legible(recording.uri)
    yield "recorded_at", recording.recorded_at
    yield "role", recording.roles[segment.channel] if recording.roles else None
    for name in _OF_SEGMENTS:
        yield name, getattr(segment, name)
    for label in labels:
        yield f"score.{label}", segment.scores.get(label)
    for key in keys:
        yield f"meta.{key}", recording.metadata.get(key)
    if audio_url is not None:
        yield "audio", f"{audio_url.rstrip('/')}/segments/{segment.id}/audio?sha256={recording.content_sha256[:16]}"
