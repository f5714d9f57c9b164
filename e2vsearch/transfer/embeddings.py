"""``embed``: audio files to ``.npy`` and JSON, without a collection."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from e2vsearch import audio
from e2vsearch.encoders import embedding_files
from e2vsearch.encoders.base import Encoder
from e2vsearch.errors import E2vsearchError
from e2vsearch.files import atomic_write, clear_abandoned, file_uri, legible, private_folder, unwritable
from e2vsearch.pipeline import embed_audio, emotion_of, mean_of
from e2vsearch.policy import Policy, Role
from e2vsearch.projections import adapt
from e2vsearch.types import EmbeddedAudio, segment_durations
from e2vsearch.vectors.exact import unit

Granularity = Literal["utterance", "frame"]
_WINDOW_S = 20.0  # of audio whose frames are computed at once


@dataclass(frozen=True, slots=True)
class Embedded:
    """The result for one channel of one file, or for a file that failed."""

    filepath: str
    status: Literal["success", "failed"]
    error: str | None = None
    channel: int = 0
    embedding: str | None = None  # path of the .npy: (dim,), or (frames, dim)
    encoder: str | None = None
    dim: int | None = None
    granularity: Granularity = "utterance"
    frame_rate_hz: float | None = None
    windows: tuple[tuple[float, int], ...] = ()  # of frames: where each window starts, s, and how many rows it has
    emotion: str | None = None  # a class of the encoder's, "unsure" or "too short"
    confidence: float | None = None  # its probability, 0 to 1; None where no class is named
    arousal: float | None = None  # 0 calm to 1 excited, by the class probabilities
    valence: float | None = None  # 0 unpleasant to 1 pleasant
    scores: Mapping[str, float] | None = None
    similarity_to_sample: float | None = None  # cosine, through what ships with the encoder, else its head
    speech_s: float | None = None


class _Similarity:
    """Cosine with a sample, through the projection that ships with the encoder, or else of its head."""

    def __init__(self, encoder: Encoder, sample: NDArray[np.float32]) -> None:
        speakers = np.zeros(1, np.int64)
        self._projection = adapt.default(encoder.projection(), encoder.head(), sample[None], speakers)
        self._sample = unit(self._projection.apply(sample[None]))[0]

    def __call__(self, vector: NDArray[np.float32]) -> float:
        cosine = unit(self._projection.apply(vector[None]))[0] @ self._sample
        return float(np.clip(cosine, -1.0, 1.0))


def embed(
    files: Iterable[Path],
    out: Path,
    encoder: Encoder,
    *,
    granularity: Granularity = "utterance",
    similar_to: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
    longest_s: float = math.inf,
    channel_roles: Mapping[int, Role] | None = None,
) -> Iterator[Embedded]:
    """Embed files into a folder: ``NAME.npy`` and ``NAME.json`` each, ``NAME.ch1.npy`` for a further channel.

    An utterance's vector is the mean of its segments' vectors, weighted by their length: silence does not count.
    Frames cover the whole file. A file that fails is reported and skipped.

    Args:
        files: absolute paths; where they are below one folder, `out` mirrors it, so that no two names clash.
        out: made if it is not there.
        encoder: what makes the vectors.
        granularity: one vector a channel, or one a frame.
        similar_to: a sample, audio or ``.npy``, that every utterance is compared with, through the projection that
            ships with the encoder, or else of its head.
        stop: checked between blocks.
        longest_s: how long a file may be, seconds.
        channel_roles: whose voice a channel has, ``{0: "agent", 1: "customer"}``: an agent's is not embedded.

    Raises:
        SettingsError: a channel or role that there is not.
        E2vsearchError: the sample cannot be used, or `out` cannot be written.
    """
    analysed = Policy(channel_roles=channel_roles or {}).analysed
    similarity = None if similar_to is None else _Similarity(encoder, _sample(similar_to, encoder))
    files = list(files)
    base = Path(os.path.commonpath([path.parent for path in files])) if files else Path()
    stems: dict[Path, int] = {}
    folders: set[Path] = set()
    for path in files:
        stem = path.relative_to(base).with_suffix("")
        stems[stem] = stems.get(stem, 0) + 1
    for path in files:
        relative = path.relative_to(base)
        # a.wav and a.mp3 in one folder must not write one a.npy
        target = out / (relative.with_suffix("") if stems[relative.with_suffix("")] == 1 else relative)
        try:
            made = list(_embedded(path, encoder, granularity, similarity, stop, longest_s, analysed))
        except E2vsearchError as error:
            yield Embedded(file_uri(path), "failed", legible(str(error)), granularity=granularity)
            continue
        if target.parent not in folders and target.parent.is_dir():
            clear_abandoned(target.parent, inside=True)
        folders.add(target.parent)
        for result, vectors in made:
            suffix = f".ch{result.channel}" if result.channel else ""
            yield _write(target.with_name(target.name + suffix), result, vectors)


def _embedded(
    path: Path,
    encoder: Encoder,
    granularity: Granularity,
    similarity: _Similarity | None,
    stop: Callable[[], bool],
    longest_s: float,
    analysed: Callable[[int], list[int]],
) -> Iterator[tuple[Embedded, NDArray[np.float32]]]:
    embedded = embed_audio(path, encoder, None, stop, longest_s, analysed)
    if not analysed(embedded.channels):
        raise E2vsearchError(f"{path}: its only voice is an agent's, which is not embedded - leave the file out")
    for channel in range(embedded.channels):
        segments = [segment for segment in embedded.segments if segment.channel == channel]
        blank = Embedded(file_uri(path), "success", None, channel, encoder=encoder.space.encoder, dim=encoder.space.dim)
        if not segments and embedded.segments:
            continue  # the other channel speaks
        if not segments:
            raise E2vsearchError(f"{path}: no speech found - there is nothing to embed")
        vector = mean_of([segment.vector for segment in segments], segments)
        result = replace(blank, speech_s=float(segment_durations(segments).sum()))
        emotion = emotion_of(encoder.space, segments)
        if emotion is not None:
            scores = mean_of([segment.scores for segment in segments if segment.scores is not None], segments)
            by_label = dict(zip(encoder.space.labels, scores.tolist(), strict=True))
            result = replace(result, emotion=emotion.name, confidence=by_label.get(emotion.name), scores=by_label)
            result = replace(result, arousal=emotion.arousal, valence=emotion.valence)
        if similarity is not None:
            result = replace(result, similarity_to_sample=similarity(vector))
        if granularity == "frame":
            vector, windows = _frames(path, channel, encoder)
            rate = encoder.frame_rate_hz
            result = replace(result, granularity="frame", frame_rate_hz=rate, windows=windows)
        yield result, vector


def _frames(path: Path, channel: int, encoder: Encoder) -> tuple[NDArray[np.float32], tuple[tuple[float, int], ...]]:
    rows, windows, at = [], [], 0
    for block in audio.stream(path, block_s=_WINDOW_S):
        if block.shape[1] >= encoder.min_samples and block[channel].any():  # digital silence has no frames
            rows.append(encoder.frames(np.ascontiguousarray(block[channel])))
            windows.append((at / audio.SAMPLING_RATE_HZ, len(rows[-1])))
        at += block.shape[1]
    return np.concatenate(rows), tuple(windows)


def _write(target: Path, result: Embedded, vectors: NDArray[np.float32]) -> Embedded:
    npy = target.with_name(target.name + ".npy")
    result = replace(result, embedding=file_uri(npy))
    try:
        private_folder(target.parent)
        made = io.BytesIO()
        np.save(made, vectors, allow_pickle=False)
        atomic_write(npy, made.getvalue())
        text = json.dumps(asdict(result), ensure_ascii=False, indent=1)
        atomic_write(target.with_name(target.name + ".json"), text.encode())
    except OSError as error:
        raise E2vsearchError(unwritable(npy, error)) from error
    return result


def _sample(path: Path, encoder: Encoder) -> NDArray[np.float32]:
    if path.suffix.lower() == ".npy":
        vectors = embedding_files.read_vectors(path, encoder.space.dim)
        mean: NDArray[np.float32] = vectors.mean(axis=0)
        return mean
    embedded: EmbeddedAudio = embed_audio(path, encoder)
    if not embedded.segments:
        raise E2vsearchError(f"no speech found in the sample {path}")
    return mean_of([segment.vector for segment in embedded.segments], embedded.segments)
