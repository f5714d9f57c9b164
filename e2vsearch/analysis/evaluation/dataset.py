"""The set that is evaluated: vectors, class scores and labels, embedded from files or read from a collection.

An item of a labelled file is one channel of it, embedded as one signal without speech detection: labels are of a clip
as a whole, and pauses found in the clean clip would not be those found in its telephone copy. Channels are never mixed.
A file over 30 s is embedded in parts, and their mean taken. An item of a collection is a stored segment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from e2vsearch import audio, settings
from e2vsearch.analysis.evaluation import adaptation
from e2vsearch.analysis.evaluation.adaptation import Adapt
from e2vsearch.analysis.evaluation.labels_table import Labelled, LabelTable, read
from e2vsearch.analysis.evaluation.telephone import telephone
from e2vsearch.analysis.evaluation.types import LabelFailure, Progress
from e2vsearch.encoders.base import MAX_SIGNAL_S, Embeddings, Encoder
from e2vsearch.errors import AudioEmpty, AudioNotFound, E2vsearchError
from e2vsearch.types import Space

if TYPE_CHECKING:
    from e2vsearch.analysis.context import AnalysisContext


_SHORTEST_PART_S = 1.0  # after the last 30 s of a file; a shorter rest is left out
ProgressCallback = Callable[[Progress], None]
"""Called after every file."""


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """n items with their labels; `vectors` and `scores` by condition."""

    space: Space
    rows: tuple[Labelled, ...]  # of each item; several items may be of one row
    files: tuple[str, ...]  # of each item
    channels: tuple[int, ...]  # of each item
    lengths_s: NDArray[np.float64]  # (n,)
    vectors: Mapping[str, NDArray[np.float32]]  # (n, dim)
    scores: Mapping[str, NDArray[np.float32] | None]  # (n, classes); rows of NaN have none
    failures: tuple[LabelFailure, ...]
    adapt: Adapt = adaptation.raw  # makes the projection that a collection of the vectors would adopt


@dataclass(frozen=True, slots=True)
class _Channel:
    channel: int
    length_s: float
    vectors: dict[str, NDArray[np.float32]]  # (dim,)
    scores: dict[str, NDArray[np.float32]]  # (classes,)


_Result = list[_Channel] | E2vsearchError


def embed_table(
    labels: str | os.PathLike[str] | LabelTable,
    encoder: Encoder,
    conditions: Sequence[str] = ("clean",),
    seed: int = 0,
    progress: ProgressCallback | None = None,
    workers: int | None = None,
) -> EvaluationSet:
    """Embed every labelled file, decoded once for all conditions.

    Args:
        labels: the table or its path.
        encoder: an open one.
        conditions: ``clean``, ``telephone`` or both.
        seed: of the telephone copies; a copy depends on the seed, the path and the channel alone.
        progress: called after every file.
        workers: files at a time, by default as many as there are cores.

    Raises:
        SettingsError: the table cannot be read.
    """
    table = labels if isinstance(labels, LabelTable) else read(labels)
    wanted: dict[str, list[Labelled]] = {}
    for row in table.rows:
        wanted.setdefault(row.path, []).append(row)
    failures = list(table.failures)
    rows: list[Labelled] = []
    channels: list[_Channel] = []
    audio_s = 0.0

    def work(path: str) -> _Result:
        try:
            return _embed(path, table.file(wanted[path][0]), encoder, conditions, seed)
        except E2vsearchError as error:
            return error
        except Exception as error:  # of a decoder or network: one bad file never stops the rest
            return E2vsearchError(f"{path}: unexpected {type(error).__name__}: {' '.join(str(error).split())}")

    with (
        ThreadPoolExecutor(workers or settings.cores(), thread_name_prefix="e2vsearch-embed") as pool,
        # closing cancels what has not begun, so that Ctrl-C does not wait for it
        closing(cast("Generator[_Result]", pool.map(work, wanted))) as results,
    ):
        for done, (path, result) in enumerate(zip(wanted, results, strict=True), 1):
            for row in wanted[path]:
                if isinstance(result, E2vsearchError):
                    failures.append(_failure(row, result))
                    continue
                found = [each for each in result if row.channel in (None, each.channel)]
                if not found:
                    failures.append(_failure(row, AudioEmpty(f"{path}: channel {row.channel} is silent, or not there")))
                rows += [row] * len(found)
                channels += found
                audio_s += sum(each.length_s for each in found)
            if progress is not None:
                progress(Progress(done, len(wanted), len(failures), audio_s))
    dim, classes = encoder.space.dim, len(encoder.space.labels)
    return EvaluationSet(
        space=encoder.space,
        rows=tuple(rows),
        files=tuple(row.path for row in rows),
        channels=tuple(each.channel for each in channels),
        lengths_s=np.array([each.length_s for each in channels]),
        vectors={name: _stacked([each.vectors[name] for each in channels], dim) for name in conditions},
        scores={
            name: _stacked([each.scores[name] for each in channels], classes)
            if channels and all(name in each.scores for each in channels)
            else None
            for name in conditions
        },
        failures=tuple(sorted(failures, key=lambda each: each.line)),
        adapt=adaptation.default(encoder),
    )


def load_stored(labels: str | os.PathLike[str] | LabelTable, context: AnalysisContext) -> EvaluationSet:
    """Return the stored segments of every labelled file, with the encoder's vectors.

    A file is found by its path or, where that is stored nowhere, by its name if only one recording has it.

    Args:
        labels: the table or its path.
        context: the collection's.

    Raises:
        NoCollection: it holds nothing yet.
        SettingsError: the table cannot be read.
    """
    table = labels if isinstance(labels, LabelTable) else read(labels)
    space = context.catalog.require_space()
    by_path, by_name = _stored_names(context)
    found: dict[int, list[Labelled]] = {}
    failures = list(table.failures)
    for row in table.rows:
        exact = [by_path[str(file)] for file in table.files(row) if str(file) in by_path]
        named = exact or by_name.get(Path(row.path).name, [])
        if len(named) == 0:
            failures.append(_failure(row, AudioNotFound(f"{row.path} is not in {context.catalog.name}")))
        elif len(named) > 1 and not exact:
            message = f"{row.path}: {len(named)} recordings have that name - write the whole path"
            failures.append(_failure(row, AudioNotFound(message)))
        else:
            found.setdefault(named[0], []).append(row)
    ids, of = context.catalog.segments_of(sorted(found))
    batch = context.catalog.feed().fetch(ids)
    recording = dict(zip(ids.tolist(), of.tolist(), strict=True))
    vectors = dict(zip(batch.ids.tolist(), batch.vectors, strict=True))
    items = [
        (row, segment, vectors[number])
        for number, segment in context.catalog.segments(ids.tolist())
        for row in found[recording[number]]
        if number in vectors and row.channel in (None, segment.channel)
    ]
    used = {row for row, _, _ in items}
    failures += [
        _failure(row, AudioEmpty(f"{row.path}: no speech of it is stored"))
        for group in found.values()
        for row in group
        if row not in used
    ]
    missing = np.full(len(space.labels), np.nan, np.float32)
    scores = [
        np.array([segment.scores[name] for name in space.labels], np.float32) if segment.scores else missing
        for _, segment, _ in items
    ]
    return EvaluationSet(
        space=space,
        rows=tuple(row for row, _, _ in items),
        files=tuple(segment.recording for _, segment, _ in items),
        channels=tuple(segment.channel for _, segment, _ in items),
        lengths_s=np.array([segment.end_s - segment.start_s for _, segment, _ in items]),
        vectors={"clean": _stacked([vector for _, _, vector in items], batch.vectors.shape[1])},
        scores={"clean": _stacked(scores, len(space.labels)) if space.labels else None},
        failures=tuple(sorted(failures, key=lambda each: each.line)),
    )


def _embed(path: str, file: Path, encoder: Encoder, conditions: Sequence[str], seed: int) -> list[_Channel]:
    """Return every channel of a file that is not digital silence."""
    parts: dict[int, dict[str, list[tuple[float, Embeddings]]]] = {}
    for at, block in enumerate(audio.stream(file, block_s=MAX_SIGNAL_S)):
        for channel, signal in enumerate(block):
            length_s = signal.size / audio.SAMPLING_RATE_HZ
            if not signal.any() or (at and length_s < _SHORTEST_PART_S):
                continue
            rng = np.random.default_rng((seed, crc32(path.encode()), channel, at))
            for name in conditions:
                copy = np.ascontiguousarray(signal) if name == "clean" else telephone(signal, rng)
                made = parts.setdefault(channel, {}).setdefault(name, [])
                made.append((length_s, encoder.encode([copy])))
    if not parts:
        raise AudioEmpty(f"{path}: nothing but digital silence - take it off the list")
    return [_mean(channel, made) for channel, made in sorted(parts.items())]


def _mean(channel: int, made: Mapping[str, list[tuple[float, Embeddings]]]) -> _Channel:
    """Return one channel as the mean of its parts, weighted by length."""
    vectors, scores = {}, {}
    weights: list[float] = []
    for name, parts in made.items():
        weights = [length_s for length_s, _ in parts]
        rows = np.concatenate([each.vectors for _, each in parts])
        vectors[name] = np.average(rows, axis=0, weights=weights).astype(np.float32)
        classes = [each.scores for _, each in parts if each.scores is not None]
        if classes:
            scores[name] = np.average(np.concatenate(classes), axis=0, weights=weights).astype(np.float32)
    return _Channel(channel, sum(weights), vectors, scores)


def _stored_names(context: AnalysisContext) -> tuple[dict[str, int], dict[str, list[int]]]:
    """Return recordings by path, and by the file's name."""
    by_path = {uri: known.id for uri, known in context.catalog.stored_files().items()}
    by_name: dict[str, list[int]] = {}
    for uri, number in by_path.items():
        by_name.setdefault(Path(uri).name, []).append(number)
    return by_path, by_name


def _failure(row: Labelled, error: E2vsearchError) -> LabelFailure:
    return LabelFailure(row.line, row.path, error.reason, f"line {row.line}: {error}")


def _stacked(rows: Sequence[NDArray[np.float32]], width: int) -> NDArray[np.float32]:
    return np.stack(rows) if rows else np.empty((0, width), np.float32)
