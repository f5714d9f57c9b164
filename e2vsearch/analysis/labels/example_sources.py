"""An example as a person names it → the moments it stands for. Knows ids, spans and files, stores nothing.

A file that was ingested stands for its stored segments, whatever its name is now, so that what is labelled is what is
searched. Any other file is heard with the collection's encoder, and its moments are known by file and time.
"""

from __future__ import annotations

import hashlib
import os
import re
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
from e2vsearch.types import number_of, segment_id

Example = str | os.PathLike[str] | bytes | NDArray[Any]
"""``seg:12``, ``call:3``, ``call:3@12.0-15.5`` (on channel 1 alone: ``call:3@12.0-15.5#1``), a file or folder, a part
of a file (``clip.wav@1.5-4``), the bytes of an audio file, or 16 kHz samples."""

_SPAN = re.compile(r"(?P<head>.+)@(?P<start>\d+(?:\.\d*)?)-(?P<end>\d+(?:\.\d*)?)(?:#(?P<channel>\d+))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a recording."""

    start_s: float
    end_s: float
    channel: int | None = None  # None: every one

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < self.end_s:
            raise QueryError(
                f"a span from {self.start_s:g} to {self.end_s:g} s makes no sense - "
                "the start comes first, in seconds, as in call:3@12.0-15.5"
            )

    def __str__(self) -> str:
        return f"@{self.start_s:.2f}-{self.end_s:.2f}" + ("" if self.channel is None else f"#{self.channel}")


def named(example: Example) -> str:
    """How reports name an example."""
    if isinstance(example, str | os.PathLike):
        return os.fspath(example)
    return f"audio {_digest(example)}"


def each(example: Example) -> Iterator[Example]:
    """The example itself, or every audio file of a folder."""
    if isinstance(example, str | os.PathLike) and not _is_id(os.fspath(example)):
        path = local_path(example)
        if path.is_dir() and not embedding_files.is_saved(path):
            yield from expand([path])
            return
    yield example


def moments(
    context: AnalysisContext, example: Example, span: Span | None = None, speaker: str | None = None
) -> list[NewExample]:
    """The moments that an example stands for.

    Args:
        context: where stored ones are looked for, and whose encoder hears the others.
        example: see `Example`; folders go through `each` first.
        span: a part of it, where the example names none itself.
        speaker: who speaks, if that is known.

    Raises:
        NotStored: an id that is not there.
        QueryError: nothing is said in that span, or the span makes no sense.
        AudioError, VectorFileError, EncoderError: a file that cannot be read, heard or encoded.
    """
    if not isinstance(example, str | os.PathLike):
        return _outside(context, f"audio {_digest(example)}", example, span, speaker)
    text = os.fspath(example)
    if not _is_id(text) and local_path(text).exists():
        return _of_file(context, local_path(text), span, speaker)
    if span is None and (parts := _SPAN.fullmatch(text)):
        text = parts["head"]
        channel = None if parts["channel"] is None else int(parts["channel"])
        span = Span(float(parts["start"]), float(parts["end"]), channel)
    if text.startswith("seg:"):
        number = number_of(text, "seg")
        recordings.segment(context.catalog, text)
        return [NewExample(segment_id(number), number, speaker=speaker)]
    if text.startswith("call:"):
        return _stored(context, number_of(text, "call"), span, speaker)
    return _of_file(context, local_path(text), span, speaker)


def _is_id(text: str) -> bool:
    return text.startswith(("seg:", "call:"))


def _of_file(context: AnalysisContext, path: Path, span: Span | None, speaker: str | None) -> list[NewExample]:
    path = Path(os.path.abspath(path))  # noqa: PTH100 - as `expand` does, so that URIs are the same
    catalog = context.catalog
    known = recordings.recording_at(catalog, uri_of(path))
    if known is not None and path.exists() and not known.matches(stat_of(content_of(path))):
        known = None  # changed since: what is stored there is not what lies there
    if known is None:
        content = content_of(path)
        with readable(content):
            known = catalog.file_of_content(sha256(content))
    if known is not None:
        return _stored(context, known.id, span, speaker)
    if embedding_files.is_saved(path):
        vectors = embedding_files.read_vectors(path, context.catalog.require_space().dim)
        return [NewExample(f"{path}@{at}", None, vector, speaker) for at, vector in enumerate(vectors)]
    return _outside(context, str(path), path, span, speaker)


def _stored(context: AnalysisContext, recording: int, span: Span | None, speaker: str | None) -> list[NewExample]:
    found = segment_columns(context.catalog, recordings=[recording])
    if not found.ids.size:
        recordings.recording(context.catalog, f"call:{recording}")
        raise QueryError(f"call:{recording} has no speech to label")
    columns = (column.tolist() for column in (found.ids, found.channels, found.start_s, found.end_s))
    # half of the shorter of the two: a span picks the moments that lie in it, or the one that it lies in
    inside = [
        number
        for number, channel, start_s, end_s in sorted(zip(*columns, strict=True))
        if span is None
        or (
            span.channel in (None, channel)
            and 2 * (min(end_s, span.end_s) - max(start_s, span.start_s))
            >= min(end_s - start_s, span.end_s - span.start_s)
        )
    ]
    if not inside:
        raise NotStored(f"call:{recording}{span} holds no spoken moment - widen the span; e2vsearch query shows times")
    return [NewExample(segment_id(number), number, speaker=speaker) for number in inside]


def _outside(
    context: AnalysisContext, name: str, source: audio.AudioSource, span: Span | None, speaker: str | None
) -> list[NewExample]:
    offset_s, channels = 0.0, None
    if span is not None:
        source = audio.cut(source, span.start_s, span.end_s, channel=span.channel)
        offset_s, channels = span.start_s, span.channel
    heard = context.embed(source)
    if not heard.segments:
        raise QueryError(f"no speech found in {name}{span or ''} - give an example in which somebody speaks")
    made = []
    for moment in heard.segments:
        channel = moment.channel if channels is None else channels
        where = Span(offset_s + moment.start_s, offset_s + moment.end_s, channel)
        made.append(NewExample(f"{name}{where}", None, moment.vector, speaker))
    return made


def _digest(source: bytes | NDArray[Any]) -> str:
    content = source if isinstance(source, bytes) else np.ascontiguousarray(source).tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def recording_of(source: str) -> str:
    """The file that a stored example's source is a moment of."""
    return source.rpartition("@")[0] or source
