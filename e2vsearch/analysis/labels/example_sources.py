"""The segments that an example stands for: an id, a part of a recording, a file, bytes or samples.

A file that was ingested stands for its stored segments, whatever its name is now, so that the labelled segments are
those that are searched. Any other file is embedded with the collection's encoder, and its segments are identified by
file and time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch import audio
from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.audio.paths import expand
from e2vsearch.catalog import recordings
from e2vsearch.catalog.labels import NewExample
from e2vsearch.catalog.segments import segment_columns
from e2vsearch.encoders import embedding_files
from e2vsearch.encoders.embedding_files import content_of, uri_of
from e2vsearch.errors import NotStored, QueryError
from e2vsearch.files import local_path, readable, sha256, stat_of
from e2vsearch.pipeline import TIME_RANGE
from e2vsearch.types import number_of, segment_id

Example = str | os.PathLike[str] | bytes | NDArray[Any]
"""``seg:12``, ``call:3``, ``call:3@12.0-15.5`` (on channel 1 alone: ``call:3@12.0-15.5#1``), a file or folder, a part
of a file (``clip.wav@1.5-4``), the bytes of an audio file, or 16 kHz samples."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A part of a recording."""

    start_s: float
    end_s: float
    channel: int | None = None  # None: every one

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < self.end_s:
            raise QueryError(
                f"a time range from {self.start_s:g} to {self.end_s:g} s makes no sense - "
                "the start comes first, in seconds, as in call:3@12.0-15.5"
            )

    def __str__(self) -> str:
        return f"@{self.start_s:.2f}-{self.end_s:.2f}" + ("" if self.channel is None else f"#{self.channel}")


def name_of(example: Example) -> str:
    """Return the name of an example in reports."""
    if isinstance(example, str | os.PathLike):
        return os.fspath(example)
    return f"audio {_digest(example)}"


def expand_folder(example: Example) -> Iterator[Example]:
    """Yield the example itself, or every audio file of a folder."""
    if isinstance(example, str | os.PathLike) and not _is_id(os.fspath(example)):
        path = local_path(example)
        if path.is_dir() and not embedding_files.is_saved(path):
            yield from expand([path])
            return
    yield example


def segments_of(
    context: AnalysisContext, example: Example, time_range: TimeRange | None = None, speaker: str | None = None
) -> list[NewExample]:
    """Return the segments that an example stands for.

    Args:
        context: whose segments they are, and whose encoder embeds other audio.
        example: see `Example`; folders go through `expand_folder` first.
        time_range: a part of it, where the example names none itself.
        speaker: who speaks, if known.

    Raises:
        NotStored: an id that is not there.
        QueryError: no speech in that time range, or the range makes no sense.
        AudioError, VectorFileError, EncoderError: a file that cannot be read or encoded.
    """
    if not isinstance(example, str | os.PathLike):
        return _embedded(context, f"audio {_digest(example)}", example, time_range, speaker)
    text = os.fspath(example)
    if not _is_id(text) and local_path(text).exists():
        return _of_file(context, local_path(text), time_range, speaker)
    if time_range is None and (parts := TIME_RANGE.fullmatch(text)):
        text = parts["head"]
        channel = None if parts["channel"] is None else int(parts["channel"])
        time_range = TimeRange(float(parts["start"]), float(parts["end"]), channel)
    if text.startswith("seg:"):
        number = number_of(text, "seg")
        recordings.segment(context.catalog, text)
        return [NewExample(segment_id(number), number, speaker=speaker)]
    if text.startswith("call:"):
        return _stored(context, number_of(text, "call"), time_range, speaker)
    return _of_file(context, local_path(text), time_range, speaker)


def _is_id(text: str) -> bool:
    return text.startswith(("seg:", "call:"))


def _of_file(
    context: AnalysisContext, path: Path, time_range: TimeRange | None, speaker: str | None
) -> list[NewExample]:
    path = Path(os.path.abspath(path))  # noqa: PTH100 - as `expand` does, so that URIs are the same
    catalog = context.catalog
    known = recordings.recording_at(catalog, uri_of(path))
    if known is not None and path.exists() and not known.matches(stat_of(content_of(path))):
        known = None  # changed since it was ingested
    if known is None:
        content = content_of(path)
        with readable(content):
            known = catalog.file_of_content(sha256(content))
    if known is not None:
        return _stored(context, known.id, time_range, speaker)
    if embedding_files.is_saved(path):
        vectors = embedding_files.read_vectors(path, context.catalog.require_space().dim)
        return [NewExample(f"{path}@{at}", None, vector, speaker) for at, vector in enumerate(vectors)]
    return _embedded(context, str(path), path, time_range, speaker)


def _stored(
    context: AnalysisContext, recording: int, time_range: TimeRange | None, speaker: str | None
) -> list[NewExample]:
    found = segment_columns(context.catalog, recordings=[recording])
    if not found.ids.size:
        recordings.recording(context.catalog, f"call:{recording}")
        raise QueryError(f"call:{recording} has no speech to label")
    columns = (column.tolist() for column in (found.ids, found.channels, found.start_s, found.end_s))
    # half of the shorter of the two: a time range picks the segments within it, or the one that it is within
    inside = [
        number
        for number, channel, start_s, end_s in sorted(zip(*columns, strict=True))
        if time_range is None
        or (
            time_range.channel in (None, channel)
            and 2 * (min(end_s, time_range.end_s) - max(start_s, time_range.start_s))
            >= min(end_s - start_s, time_range.end_s - time_range.start_s)
        )
    ]
    if not inside:
        raise NotStored(
            f"call:{recording}{time_range} holds no segment - widen the time range; e2vsearch query shows times"
        )
    return [NewExample(segment_id(number), number, speaker=speaker) for number in inside]


def _embedded(
    context: AnalysisContext, name: str, source: audio.AudioSource, time_range: TimeRange | None, speaker: str | None
) -> list[NewExample]:
    offset_s, channels = 0.0, None
    if time_range is not None:
        source = audio.cut(source, time_range.start_s, time_range.end_s, channel=time_range.channel)
        offset_s, channels = time_range.start_s, time_range.channel
    embedded = context.embed(source)
    if not embedded.segments:
        raise QueryError(f"no speech found in {name}{time_range or ''} - give an example in which somebody speaks")
    made = []
    for segment in embedded.segments:
        channel = segment.channel if channels is None else channels
        where = TimeRange(offset_s + segment.start_s, offset_s + segment.end_s, channel)
        made.append(NewExample(f"{name}{where}", None, segment.vector, speaker))
    return made


def _digest(source: bytes | NDArray[Any]) -> str:
    content = source if isinstance(source, bytes) else np.ascontiguousarray(source).tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def recording_of(source: str) -> str:
    """Return the file of a stored example's source."""
    return source.rpartition("@")[0] or source
