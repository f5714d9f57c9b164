"""Imports an exported collection, of this format or a former one: all of it, or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch import encoder_check
from e2vsearch.catalog import named_vectors, text_search
from e2vsearch.catalog.dynamics import from_plain
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import SpaceMismatch
from e2vsearch.policy import Policy
from e2vsearch.transfer.annotations import NOT_STORED, load_annotations
from e2vsearch.transfer.contents import Contents, TransferReport, read_contents


def load(
    catalog: Catalog, export: str | os.PathLike[str] | Contents, then: Callable[[], object] = lambda: None
) -> TransferReport:
    """Add everything from an export; what the collection has already stays as it is, its policy too.

    All of the export is checked, and held against the collection, before anything is stored.

    Args:
        catalog: of the collection.
        export: its folder, or what `read_contents` returned.
        then: called once all of it is stored.

    Raises:
        ExportError: it is no export, or is damaged.
        SpaceMismatch: the collection is pinned to another space, or its encoder made another reference embedding.
    """
    contents = export
    if not isinstance(contents, Contents):
        contents = read_contents(Path(contents).expanduser().absolute())
    manifest = contents.manifest
    _check_fit(catalog, contents)
    catalog.pin(manifest.space, manifest.encoder_source)
    if contents.reference_embedding is not None:
        catalog.store_reference_embedding(np.array(contents.reference_embedding))  # unless there is one
    other_policy = manifest.policy not in (catalog.policy, Policy())
    if other_policy and catalog.policy == Policy():
        catalog.set_policy(manifest.policy.plain(), "import")
        other_policy = False
    fresh = not catalog.segment_count()
    ids = np.full(len(contents.vectors), NOT_STORED, np.int64)  # of the segment in each row
    stored = already = segments = 0
    for fields, own in contents.recordings():
        made = tuple(_segment(at, row, contents) for at, row in own)
        for name in ("recorded_at", "added_at"):
            fields[name] = datetime.fromisoformat(fields[name])
        if fields.get("dynamics") is not None:
            fields["dynamics"] = from_plain(fields["dynamics"])
        done = catalog.store(NewRecording(**fields, segments=made))
        if done.outcome == "already":
            already += 1
        else:
            stored += 1
            segments += len(made)
        _match_segments(catalog, done.id, own, ids)
    added = load_annotations(catalog, manifest.path, ids, contents.stem, fresh=fresh)
    then()
    return TransferReport(stored, segments, already, other_policy, added)


def _check_fit(catalog: Catalog, contents: Contents) -> None:
    """Hold an export against the collection; no encoder is opened.

    Raises:
        SpaceMismatch: it does not fit.
    """
    space, exported = contents.manifest.space, contents.reference_embedding
    catalog.check_space(space)
    stored = catalog.reference_embedding()
    if stored is not None and exported is not None:
        encoder_check.compare_embeddings(space, stored, exported, "in the export what it does in this collection")
    here = {each.name: each.dim for each in named_vectors.listed(catalog)}
    for name, dim in contents.named_vectors.items():
        if here.get(name, dim) != dim:
            raise SpaceMismatch(
                f"the named vectors {name!r} have {here[name]} dimensions here, {dim} in the export - "
                f"drop them first: e2vsearch vectors detach {name}"
            )


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


def _segment(at: int, row: dict[str, Any], contents: Contents) -> NewSegment:
    scores = None
    if contents.scores is not None and not np.isnan(contents.scores[at]).any():
        scores = np.array(contents.scores[at], np.float32)
    vector = np.array(contents.vectors[at], np.float32)
    return NewSegment(row["channel"], row["start_s"], row["end_s"], vector, scores, row.get("level_db"))
