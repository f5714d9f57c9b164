"""Audio to vectors: decode, find the speech, encode it in batches. Knows nothing of where the vectors go.

Memory stays bounded however long a recording is: blocks are decoded one at a time, and a segment's samples are let
go as soon as it has its vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from e2vsearch import audio, speech
from e2vsearch.collection.results import Heard, Moment
from e2vsearch.encoders import Encoder
from e2vsearch.errors import AudioTooLong

_BATCH_S = 60.0  # speech encoded in one call; at 30 s a signal at most, memory for a handful of them


class Stopped(Exception):
    """Listening was given up because `stop` said so."""


def hear(
    source: audio.AudioSource,
    encoder: Encoder,
    options: speech.SpeechOptions | None = None,
    stop: Callable[[], bool] = lambda: False,
    longest_s: float = math.inf,
) -> Heard:
    """Every spoken span of a recording, with its vector.

    Args:
        source: a file, its bytes, or 16 kHz samples.
        encoder: what makes the vectors.
        options: how speech is found and cut.
        stop: asked between blocks.
        longest_s: how long a recording may be. Its header is asked first, and its samples are counted all the same.

    Raises:
        AudioTooLong: it is longer than that.
        AudioError: it cannot be heard.
        EncoderError: it cannot be encoded.
        Stopped: `stop` said so.
    """
    info = audio.probe(source)
    if info.duration_s is not None and info.duration_s > longest_s:
        raise AudioTooLong(
            f"{info.duration_s:.0f} s of audio are more than the {longest_s:.0f} s allowed: cut it first"
        )
    length = 0
    channels = info.channels

    def blocks() -> Iterator[audio.Signal]:
        nonlocal length, channels
        for block in audio.stream(source):
            if stop():
                raise Stopped
            channels = block.shape[0]
            length += block.shape[1]
            if length > longest_s * audio.SAMPLING_RATE_HZ:
                raise AudioTooLong(f"the audio goes on after the {longest_s:.0f} s allowed: cut it first")
            yield block

    moments: list[Moment] = []
    waiting: list[speech.SpokenSegment] = []
    for segment in speech.segments(blocks(), options or speech.SpeechOptions()):
        waiting.append(segment)
        if sum(each.end_s - each.start_s for each in waiting) >= _BATCH_S:
            moments.extend(_encoded(waiting, encoder))
            waiting.clear()
            if stop():
                raise Stopped
    moments.extend(_encoded(waiting, encoder))
    moments.sort(key=lambda moment: (moment.start_s, moment.channel))
    return Heard(tuple(moments), length / audio.SAMPLING_RATE_HZ, channels, info.sampling_rate_hz, info.format)


def _encoded(segments: list[speech.SpokenSegment], encoder: Encoder) -> Iterator[Moment]:
    # speech found in a recording shorter than what the network can take gives no moment
    usable = [segment for segment in segments if segment.signal.size >= encoder.min_samples]
    embeddings = encoder.encode([segment.signal for segment in usable])
    for row, segment in enumerate(usable):
        scores = None if embeddings.scores is None else embeddings.scores[row]
        vector = embeddings.vectors[row]
        yield Moment(segment.channel, segment.start_s, segment.end_s, vector, scores, segment.level_db)
