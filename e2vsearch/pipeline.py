"""Audio is decoded, cut into segments of speech, and embedded in batches.

Memory stays bounded however long a recording is: blocks are decoded one at a time, and a segment's samples are
dropped as soon as it has its vector.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from e2vsearch import audio, speech, telemetry
from e2vsearch.catalog import recordings
from e2vsearch.catalog.database import locate
from e2vsearch.catalog.writer import Catalog
from e2vsearch.emotions import Emotion, named_as_one
from e2vsearch.encoders import base as encoders
from e2vsearch.encoders.base import Encoder
from e2vsearch.encoders.registry import SAVED, open_encoder
from e2vsearch.errors import AudioTooLong, Cancelled, CatalogError, EncoderError, QueryError, SettingsError
from e2vsearch.playback import Playback
from e2vsearch.settings import AUTO, Settings
from e2vsearch.types import EmbeddedAudio, EmbeddedSegment, Space, number_of, segment_durations

TIME_RANGE = re.compile(
    r"(?P<head>.+)@(?P<start>\d+(?:\.\d*)?)-(?P<end>\d+(?:\.\d*)?)(?:#(?P<channel>\d+))?", re.DOTALL
)
"""A part of a recording, seconds: ``call:3@12.0-15.5``; on channel 1 alone ``call:3@12.0-15.5#1``."""

_BATCH_S = 60.0  # speech encoded in one call; at 30 s a signal at most, memory for a handful of them


def embed_audio(
    source: audio.AudioSource | audio.OpenAudio,
    encoder: Encoder,
    options: speech.SpeechOptions | None = None,
    stop: Callable[[], bool] = lambda: False,
    longest_s: float = math.inf,
    analysed: Callable[[int], Sequence[int]] = range,
    heard: Callable[[float, float | None], None] = lambda _heard_s, _duration_s: None,
) -> EmbeddedAudio:
    """Return every segment of a recording, with its vector.

    Args:
        source: a file, its bytes, or 16 kHz samples; or one of these, opened.
        encoder: what makes the vectors.
        options: how speech is found and cut.
        stop: whether the result is wanted no more, called between blocks, and while one is decoded.
        longest_s: how long a recording may be. Its header is read first, and its samples are counted all the same.
        analysed: the channels, of so many, that are encoded; all by default. Of the others it is only told when they
            speak, for the dynamics.
        heard: called for each block of audio with the seconds decoded so far, and the duration that the header has.

    Raises:
        AudioTooLong: it is longer than that.
        AudioError: it cannot be decoded.
        EncoderError: it cannot be encoded.
        Cancelled: `stop` returned true.
    """
    given = encoder, options, stop, longest_s, analysed, heard
    with telemetry.span("embed") as span:
        if isinstance(source, audio.OpenAudio):
            embedded = _embedded(source, *given)
        else:
            with audio.open(source, stop=stop) as opened:
                embedded = _embedded(opened, *given)
        span.note(audio_s=embedded.duration_s, channels=embedded.channels, segments=len(embedded.segments))
    return embedded


def _embedded(
    source: audio.OpenAudio,
    encoder: Encoder,
    options: speech.SpeechOptions | None,
    stop: Callable[[], bool],
    longest_s: float,
    analysed: Callable[[int], Sequence[int]],
    heard: Callable[[float, float | None], None],
) -> EmbeddedAudio:
    """Return every segment of an open recording."""
    info = source.info
    if info.duration_s is not None and info.duration_s > longest_s:
        raise AudioTooLong(
            f"{source.name}: {info.duration_s:.0f} s of audio are more than the {longest_s:.0f} s allowed - cut it, or "
            "raise --max-audio-s"
        )
    length = 0
    channels = info.channels

    def blocks() -> Iterator[audio.Signal]:
        nonlocal length, channels
        for block in source.blocks():
            if stop():
                raise Cancelled
            channels = block.shape[0]
            length += block.shape[1]
            if length > longest_s * audio.SAMPLING_RATE_HZ:
                raise AudioTooLong(
                    f"{source.name}: the audio goes on after the {longest_s:.0f} s allowed - cut it, or raise "
                    "--max-audio-s"
                )
            heard(length / audio.SAMPLING_RATE_HZ, info.duration_s)
            yield block

    embedded: list[EmbeddedSegment] = []
    waiting: list[speech.SpokenSegment] = []
    detector = speech.SpeechDetector(options)
    for segment in detector.segments(blocks()):
        if segment.channel in analysed(channels):
            waiting.append(segment)
        if sum(each.end_s - each.start_s for each in waiting) >= _BATCH_S:
            embedded.extend(_encoded(waiting, encoder))
            waiting.clear()
            if stop():
                raise Cancelled
    embedded.extend(_encoded(waiting, encoder))
    embedded.sort(key=lambda segment: (segment.start_s, segment.channel))
    about = length / audio.SAMPLING_RATE_HZ, channels, info.sampling_rate_hz, info.format
    return EmbeddedAudio(tuple(embedded), *about, detector.dynamics())


def _encoded(segments: list[speech.SpokenSegment], encoder: Encoder) -> Iterator[EmbeddedSegment]:
    # speech found in a recording shorter than what the network can take gives no segment
    usable = [segment for segment in segments if segment.signal.size >= encoder.min_samples]
    embeddings = encoder.encode([segment.signal for segment in usable])
    for row, segment in enumerate(usable):
        scores = None if embeddings.scores is None else embeddings.scores[row]
        vector = embeddings.vectors[row]
        yield EmbeddedSegment(segment.channel, segment.start_s, segment.end_s, vector, scores, segment.level_db)


Embed = Callable[[audio.AudioSource, Callable[[], Encoder], speech.SpeechOptions], EmbeddedAudio]
"""Embeds audio: the source, what opens the collection's encoder, how speech is found."""


def stored_clip(catalog: Catalog, playback: Playback, name: str, context_s: float) -> audio.Signal:
    """Return the sound of ``seg:123``, with so many seconds before and after it: ``(1, samples)`` at 16 kHz.

    Of ``call:45``, or of a part of it such as ``call:45@12.3-15``, it is ``(channels, samples)``;
    ``call:45@12.3-15#1`` is channel 1 alone.

    Raises:
        NotStored: there is no such segment or recording.
        QueryError: a part that ends before it begins, or after the recording, or of a channel that it has not.
        AudioError: its file is gone or damaged, or its store does not give it.
    """
    if not name.startswith("call:"):
        segment = recordings.segment(catalog, name)
        channel, start_s, end_s = segment.channel, segment.start_s, segment.end_s
        recording = recordings.recording(catalog, segment.recording)
        source = playback.source(recording)
        return audio.cut(source, max(0.0, start_s - context_s), end_s + context_s, channel=channel)
    part = TIME_RANGE.fullmatch(name)
    recording = recordings.recording(catalog, part["head"] if part else name)
    start_s, end_s = (float(part["start"]), float(part["end"])) if part else (0.0, recording.duration_s)
    only = int(part["channel"]) if part and part["channel"] else None
    if not start_s < min(end_s, recording.duration_s) or (only or 0) >= recording.channels:
        has = f"{recording.id} lasts {recording.duration_s:.1f} s and has {recording.channels} channels"
        raise QueryError(f"{name} is no part of it: {has} - write e.g. {recording.id}@0-{recording.duration_s:.1f}#0")
    source = playback.source(recording)
    return audio.cut(source, max(0.0, start_s - context_s), end_s + context_s, channel=only)


def stored_audio(catalog: Catalog, identifier: str) -> EmbeddedAudio:
    """Return the segments of ``seg:123`` or ``call:45``, with their vectors and scores, in order of time.

    Raises:
        NotStored: it is not there.
    """
    if identifier.startswith("seg:"):
        segments = [recordings.segment(catalog, identifier)]
        recording = recordings.recording(catalog, segments[0].recording)
    else:
        recording = recordings.recording(catalog, identifier)
        segments = recordings.segments(catalog, identifier)
    numbers = [number_of(segment.id, "seg") for segment in segments]
    batch = catalog.feed().fetch(np.array(numbers, np.int64))
    vectors = dict(zip(batch.ids.tolist(), batch.vectors, strict=True))
    embedded = []
    for number, segment in zip(numbers, segments, strict=True):
        if number in vectors:  # else another process has removed it meanwhile
            scores = np.array(list(segment.scores.values()), np.float32) if segment.scores else None
            at = segment.channel, segment.start_s, segment.end_s
            embedded.append(EmbeddedSegment(*at, vectors[number], scores, segment.level_db))
    info = recording.duration_s, recording.channels, recording.sampling_rate_hz, recording.format
    return EmbeddedAudio(tuple(embedded), *info)


def encoder_for(options: Settings) -> Encoder:
    """Return the encoder that the settings name, else the collection's own where there is one, else `AUTO`.

    Raises:
        EncoderError: it cannot be opened.
        MissingExtra: its packages are not installed.
    """
    name, precision = options.named_encoder, options.precision
    if not name:
        try:
            with closing(Catalog.open(locate(options.index).url)) as catalog:
                name, precision = catalog.encoder_source, precision or encoders.precision_of(catalog.space)
        except (CatalogError, SettingsError):
            name = ""
    if name == SAVED:
        raise EncoderError("saved vectors have no encoder - name one with --encoder light")
    return open_encoder(name or AUTO, options.device, precision or "fp32")


def emotion_of(space: Space, segments: Sequence[EmbeddedSegment]) -> Emotion | None:
    """Return the emotion of segments as a whole, None where the encoder has no classes."""
    scores = [each.scores for each in segments if each.scores is not None]
    if len(scores) < len(segments):
        return None
    levels_db = [each.level_db for each in segments]
    return named_as_one(np.stack(scores), space.labels, segment_durations(segments).tolist(), levels_db)


def mean_of(rows: Sequence[NDArray[np.float32]], segments: Iterable[EmbeddedSegment]) -> NDArray[np.float32]:
    """Return the mean of a row for each segment, weighted by their length; of one row, that row bit for bit."""
    if len(rows) == 1:
        return rows[0]
    return np.average(np.stack(rows).astype(np.float64), axis=0, weights=segment_durations(segments)).astype(np.float32)


def clip_vector(clip: EmbeddedAudio, name: str) -> NDArray[np.float32]:
    """Return the one vector ``(dim,)`` of a clip of one voice, the mean of its segments' weighted by their length.

    Raises:
        QueryError: nobody speaks in it, or on several channels somebody does.
    """
    channels = {segment.channel for segment in clip.segments}
    if not channels:
        raise QueryError(f"no speech found in {name} - there is nothing to embed")
    if len(channels) > 1:
        raise QueryError(f"{name} has {len(channels)} channels with a voice and no one vector - send each by itself")
    return mean_of([segment.vector for segment in clip.segments], clip.segments)
