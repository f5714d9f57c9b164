"""The audio of stored segments is read again and embedded, by the times that are stored.

A segment's times are whole samples at 16 kHz of what `e2vsearch.audio` decodes, so the same file gives the same signal:
its vector is the one that an ingest with the new encoder would store, as long as speech is cut as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e2vsearch import audio
from e2vsearch.audio import SAMPLING_RATE_HZ, AudioSource
from e2vsearch.encoders.base import Embeddings, Encoder
from e2vsearch.errors import AudioNotFound, AudioTruncated, Cancelled
from e2vsearch.files import local_path, readable, sha256, stat_of, uri_scheme
from e2vsearch.remote.stores import Stores
from e2vsearch.remote.uris import remote
from e2vsearch.types import Recording

_BATCH_S = 60.0  # of speech, encoded in one call, as an ingest does


@dataclass(frozen=True, slots=True)
class Span:
    """The times of one segment."""

    channel: int
    start_s: float
    end_s: float

    @property
    def samples(self) -> tuple[int, int]:
        """Its first sample at 16 kHz, and the one after its last."""
        return round(self.start_s * SAMPLING_RATE_HZ), round(self.end_s * SAMPLING_RATE_HZ)


@contextmanager
def opened_source(recording: Recording, stores: Stores, stop: Callable[[], bool]) -> Iterator[Path]:
    """Yield the file that a recording was ingested from, fetched if it lies in a store, once its content is compared.

    Raises:
        AudioNotFound: it is gone, or holds something else now.
        AudioForbidden, AudioUnreachable: it cannot be read.
        e2vsearch.errors.Cancelled: `stop` returned true.
    """
    if uri_scheme(recording.uri) not in (None, "file"):
        with stores.fetched(remote(recording.uri)) as fetched:
            _check_content(recording, fetched.content_sha256)
            yield fetched.path
        return
    path = local_path(recording.uri)
    stat = stat_of(path)
    if (stat.st_size, stat.st_mtime_ns) != (recording.size_bytes, recording.mtime_ns):
        with readable(path):
            digest = sha256(path, stop)
        _check_content(recording, digest)
    yield path


def _check_content(recording: Recording, content_sha256: str) -> None:
    if content_sha256 != recording.content_sha256:
        raise AudioNotFound(
            f"{recording.uri} holds something else than when it was ingested - ingest it again first, and the new "
            "content replaces the old"
        )


def embed_spans(
    source: AudioSource, spans: Sequence[Span], encoder: Encoder, stop: Callable[[], bool] = lambda: False
) -> Embeddings:
    """Return the vectors of parts of a recording, in the order of the parts; memory stays bounded.

    Args:
        source: as for `e2vsearch.audio.stream`.
        spans: n parts.
        encoder: makes the vectors.
        stop: whether they are wanted no more.

    Raises:
        AudioError: the recording cannot be decoded.
        AudioTruncated: it ends before one of them begins.
        EncoderError: a part cannot be encoded, being shorter than the encoder takes, say.
        e2vsearch.errors.Cancelled: `stop` returned true.
    """
    vectors = np.zeros((len(spans), encoder.space.dim), np.float32)
    scores = np.zeros((len(spans), len(encoder.space.labels)), np.float32) if encoder.space.labels else None
    held: list[tuple[int, NDArray[np.float32]]] = []

    def encode() -> None:
        nonlocal scores
        made = encoder.encode([signal for _, signal in held])
        rows = [at for at, _ in held]
        vectors[rows] = made.vectors
        if made.scores is None:
            scores = None
        elif scores is not None:
            scores[rows] = made.scores
        held.clear()

    for at, signal in _signals(source, spans, stop):
        held.append((at, signal))
        if sum(each.size for _, each in held) >= _BATCH_S * SAMPLING_RATE_HZ:
            encode()
        if stop():
            raise Cancelled
    encode()
    return Embeddings(vectors, scores)


def _signals(
    source: AudioSource, spans: Sequence[Span], stop: Callable[[], bool]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the position of each span and its signal ``(samples,)``, once it is decoded."""
    waiting = sorted(range(len(spans)), key=lambda at: spans[at].samples, reverse=True)
    begun: dict[int, list[NDArray[np.float32]]] = {}
    first = 0
    for block in audio.stream(source, stop=stop):
        end = first + block.shape[1]
        while waiting and spans[waiting[-1]].samples[0] < end:
            begun[waiting.pop()] = []
        for at in list(begun):
            start, stop_at = spans[at].samples
            channel = spans[at].channel
            if channel >= len(block):
                raise AudioTruncated(f"{source!s} has no channel {channel}, which a segment was stored of")
            begun[at].append(block[channel, max(0, start - first) : stop_at - first])
            if stop_at <= end:
                yield at, np.concatenate(begun.pop(at))
        first = end
        if not waiting and not begun:
            return
    if waiting:
        raise AudioTruncated(f"{source!s} ends at {first / SAMPLING_RATE_HZ:.2f} s, before a stored segment begins")
    for at, pieces in begun.items():
        yield at, np.concatenate(pieces)
