"""One file becomes one `NewRecording`: decoded, segmented, encoded. Nothing is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from e2vsearch import audio
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.encoders import embedding_files
from e2vsearch.encoders.embedding_files import content_of, uri_of
from e2vsearch.errors import AudioTruncated, E2vsearchError
from e2vsearch.files import legible, stat_of
from e2vsearch.ingest.metadata import Row
from e2vsearch.policy import Policy
from e2vsearch.types import EmbeddedAudio, Space

if TYPE_CHECKING:
    from e2vsearch.remote.stores import Fetched
    from e2vsearch.remote.uris import Remote, State


Embed = Callable[[Path, Callable[[int], Sequence[int]]], EmbeddedAudio]
"""Embeds a file, of which the function says which channels, of so many, are analysed."""

NO_SPEECH = "no speech found"
AGENT_ALONE = "the agent's channel alone, which is not analysed"


def read_audio(path: Path, content_sha256: str, embed: Embed, row: Row | None, policy: Policy) -> NewRecording:
    """Return all that is stored of one audio file: of a channel that `policy` leaves out, when it is spoken on.

    Raises:
        AudioError, EncoderError: it cannot be decoded or encoded.
        AudioTruncated: it changed while it was read.
        e2vsearch.errors.Cancelled: the run is stopped.
    """
    before = stat_of(path)
    embedded = embed(path, policy.analysed)
    _unchanged(path, before)
    segments = tuple(
        NewSegment(segment.channel, segment.start_s, segment.end_s, segment.vector, segment.scores, segment.level_db)
        for segment in embedded.segments
    )
    return NewRecording(
        uri=uri_of(path),
        name=legible(path.stem),
        content_sha256=content_sha256,
        size_bytes=before.st_size,
        mtime_ns=before.st_mtime_ns,
        recorded_at=_recorded_at(row, before),
        duration_s=embedded.duration_s,
        channels=embedded.channels,
        sampling_rate_hz=embedded.sampling_rate_hz,
        format=embedded.format[:64],
        segments=segments,
        metadata=row.metadata if row else {},
        note="" if segments else NO_SPEECH if policy.analysed(embedded.channels) else AGENT_ALONE,
        roles=policy.roles(embedded.channels),
        dynamics=embedded.dynamics,
    )


def read_remote(
    source: Remote, state: State, fetched: Fetched, embed: Embed, row: Row | None, policy: Policy
) -> NewRecording:
    """Return all that is stored of one recording behind a URL, from its fetched bytes.

    Raises:
        AudioError, EncoderError, e2vsearch.errors.Cancelled: as `read_audio`, by its URI.
    """
    try:
        recording = read_audio(fetched.path, fetched.content_sha256, embed, row, policy)
    except E2vsearchError as error:
        raise type(error)(str(error).replace(str(fetched.path), source.uri)) from error
    recorded_at = row.recorded_at if row is not None else None
    return replace(
        recording,
        uri=source.uri,
        name=source.path.stem,
        mtime_ns=state.mtime_ns or 0,
        recorded_at=recorded_at or state.modified or recording.recorded_at,
    )


def read_saved(path: Path, content_sha256: str, row: Row | None, policy: Policy) -> tuple[NewRecording, Space]:
    """Return all that is stored of one file or folder of saved embeddings, and the space of its vectors.

    Raises:
        VectorFileError: it is not a usable embedding.
    """
    content = content_of(path)
    before = stat_of(content)
    recording = embedding_files.read(path)
    _unchanged(content, before)
    info = _audio_beside(recording)
    segments = tuple(
        NewSegment(0, start, end, recording.vectors[at], None if recording.scores is None else recording.scores[at])
        for at, (start, end) in enumerate(recording.spans_s if policy.analysed(1) else ())
    )
    return (
        NewRecording(
            uri=uri_of(path),
            name=legible(path.stem),
            content_sha256=content_sha256,
            size_bytes=before.st_size,
            mtime_ns=before.st_mtime_ns,
            recorded_at=_recorded_at(row, before),
            duration_s=(info.duration_s if info else None) or max(end for _, end in recording.spans_s),
            channels=1,
            sampling_rate_hz=info.sampling_rate_hz if info else audio.SAMPLING_RATE_HZ,
            format=f"saved {recording.granularity} vectors",
            segments=segments,
            metadata=row.metadata if row else {},
            note="" if segments else AGENT_ALONE,
            roles=policy.roles(1),
        ),
        embedding_files.space_of(recording),
    )


def _audio_beside(recording: embedding_files.SavedRecording) -> audio.AudioInfo | None:
    if recording.audio is None:
        return None
    try:
        return audio.probe(recording.audio)
    except E2vsearchError:  # the vectors are what counts; their audio is only there to be listened to
        return None


def _recorded_at(row: Row | None, stat: os.stat_result) -> datetime:
    if row is not None and row.recorded_at is not None:
        return row.recorded_at
    return datetime.fromtimestamp(stat.st_mtime, UTC)


def _unchanged(path: Path, before: os.stat_result) -> None:
    after = stat_of(path)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise AudioTruncated(f"{path}: changed while it was read - ingest it again when it is complete")
