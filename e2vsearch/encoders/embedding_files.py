"""Embeddings that exist already are read from ``.npy`` files and result folders.

Two things are read: any ``.npy`` file of one utterance ``(dim,)``, ``(1, dim)`` or of 50 frames a second ``(frames,
dim)``, as FunASR's ``output_dir`` and the emotion2vec web pages write them; and such a page's result folder,
``outputs_YYYYMMDD_HHMMSS/`` with ``embedding.npy``, ``result.json`` and ``processed_audio.wav``. The dimension is
whatever the file holds. Which model made it no file says, so `space_of` cannot tell two models of one dimension apart.

Nothing is ever unpickled (numpy's CVE-2019-6446), and files are mapped, not read, so that neither their number nor
their length matters to memory.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from e2vsearch import audio
from e2vsearch.errors import AudioNotAFile, VectorFileError
from e2vsearch.files import file_uri, open_regular
from e2vsearch.types import Space

if TYPE_CHECKING:
    pass


LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "surprised", "unknown")
"""The nine classes of the emotion2vec+ models, in their order; a result folder's scores are put into it."""

WINDOW_S = 15.0
"""Frame files are averaged over equal windows at most this long: one segment that a listener can judge."""

FRAME_RATE_HZ = 50.0
"""Rows a second of emotion2vec: its convolutions step 320 samples at 16 kHz."""

_REVISION = "npy-1"  # files do not say which weights made them
_MAGIC = b"\x93NUMPY"
_EMBEDDING, _RESULT, _AUDIO = "embedding.npy", "result.json", "processed_audio.wav"


@dataclass(frozen=True, slots=True)
class SavedRecording:
    """The embeddings of one recording."""

    path: Path  # the .npy file
    audio: Path | None  # processed_audio.wav beside it, where there is one
    vectors: NDArray[np.float32]  # (n, dim): one for an utterance, one a window for frames
    spans_s: tuple[tuple[float, float], ...]  # n times (start, end); (0.0, 0.0): no audio tells how long it is
    labels: tuple[str, ...]  # LABELS with a result.json, else ()
    scores: NDArray[np.float32] | None  # (n, labels): the recording's own, the same in each row
    granularity: Literal["utterance", "frame"]


def is_saved(path: Path) -> bool:
    """Whether `path` is named like saved embeddings: an ``.npy`` file, or a folder with an ``embedding.npy``."""
    if path.is_dir():
        return path.name.startswith("outputs_") and (path / _EMBEDDING).is_file()
    return path.suffix.lower() == ".npy" and path.is_file()


def find(root: Path) -> Iterator[Path]:
    """Every ``.npy`` file and every result folder at or below `root`, each once, in the order of their names."""
    if is_saved(root):
        yield root
        return
    for folder, folders, files in os.walk(root):
        folders.sort()
        here = Path(folder)
        yield from (here / name for name in folders if is_saved(here / name))
        known = is_saved(here)  # its embedding.npy went by the folder; anything else in there goes by its own name
        for name in sorted(files):
            if name.lower().endswith(".npy") and not (known and name == _EMBEDDING):
                yield here / name


def read(path: Path) -> SavedRecording:
    """Return the embeddings at `path`, an ``.npy`` file or a result folder.

    Raises:
        VectorFileError: not a usable embedding, or a result.json beside it that cannot be read.
        AudioError: a processed_audio.wav beside it that cannot be read.
    """
    path = path / _EMBEDDING if path.is_dir() else path
    frames = _mapped(path)
    vectors, bounds = _pooled(frames, path)
    beside = path.parent if path.name == _EMBEDDING else None
    result = _result(beside / _RESULT) if beside else {}
    sound = beside / _AUDIO if beside and (beside / _AUDIO).is_file() else None
    by_frame = len(frames) > 1 or result.get("granularity") == "frame"
    if by_frame:
        spans = tuple((low / FRAME_RATE_HZ, high / FRAME_RATE_HZ) for low, high in bounds)
    else:
        spans = ((0.0, (audio.probe(sound).duration_s or 0.0) if sound else 0.0),)
    scores = _scores(result, path.with_name(_RESULT))
    return SavedRecording(
        path=path,
        audio=sound,
        vectors=vectors,
        spans_s=spans,
        labels=() if scores is None else LABELS,
        scores=None if scores is None else np.tile(scores, (len(vectors), 1)),
        granularity="frame" if by_frame else "utterance",
    )


def read_vectors(path: Path, dim: int | None = None) -> NDArray[np.float32]:
    """Just the vectors, ``(n, dim)``, as `read` gives them; what lies beside the file does not matter.

    Raises:
        VectorFileError: not a usable embedding, or not of dimension `dim`.
    """
    path = path / _EMBEDDING if path.is_dir() else path
    vectors, _ = _pooled(_mapped(path), path)
    if dim is not None and vectors.shape[1] != dim:
        raise VectorFileError(
            f"{path} holds {vectors.shape[1]}-d vectors where {dim}-d are needed: take one of the same encoder"
        )
    return vectors


def space_of(recording: SavedRecording) -> Space:
    """Return the space of saved embeddings: the same for all of one dimension, with or without scores."""
    return Space("saved", _REVISION, recording.vectors.shape[1], LABELS)


def _mapped(path: Path) -> NDArray[Any]:
    """Return the file's array as ``(rows, dim)`` of its own dtype, mapped from disk."""
    try:
        with io.BufferedReader(open_regular(path)) as file:
            size = os.fstat(file.fileno()).st_size
            shape, dtype = _header(file, path)
            held = size - file.tell()
    except FileNotFoundError as error:
        raise VectorFileError(f"there is no {path}; have the embedding extracted and saved first") from error
    except AudioNotAFile as error:
        raise VectorFileError(str(error)) from error
    except OSError as error:
        raise VectorFileError(f"{path} cannot be read: {error.strerror or error}") from error
    if dtype.hasobject:
        raise VectorFileError(f"{path} holds pickled Python objects, which may run code and are never loaded")
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise VectorFileError(f"{path} holds {dtype}, not float16, float32 or float64; save the embedding itself")
    if len(shape) not in (1, 2) or min(shape) < 1:
        raise VectorFileError(f"{path} has the shape {shape} where (dim,), (1, dim) or (frames, dim) was due")
    due = math.prod(shape) * dtype.itemsize
    if held < due:
        raise VectorFileError(f"{path} is truncated: it holds {held} of {due} bytes; copy it again")
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise VectorFileError(f"{path} cannot be mapped into memory: {error}") from error
    return np.atleast_2d(array)


def _header(file: BinaryIO, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of an ``.npy`` file, which is left at its first value."""
    start = file.read(len(_MAGIC))
    if start != _MAGIC:
        raise VectorFileError(f"{path} is not an .npy file but {_kind(start)}; save one array with numpy.save")
    file.seek(0)
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
    except Exception as error:  # besides its ValueError, numpy lets through what tokenizing a damaged header raises
        raise VectorFileError(f"{path} has a damaged .npy header; save it again with numpy.save") from error
    return shape, dtype


def _kind(start: bytes) -> str:
    if not start:
        return "empty"
    return "a zip archive, perhaps an .npz" if start.startswith(b"PK") else "something else with its name"


def _pooled(frames: NDArray[Any], path: Path) -> tuple[NDArray[np.float32], list[tuple[int, int]]]:
    """Means over equal windows of at most `WINDOW_S`, and each window's first row and the row after its last."""
    count = math.ceil(len(frames) / (WINDOW_S * FRAME_RATE_HZ))
    edges = [len(frames) * i // count for i in range(count + 1)]
    bounds = list(pairwise(edges))
    # float64 sums: a float16 file would overflow its own type after a few hundred rows
    with np.errstate(over="ignore", invalid="ignore"):
        means = np.stack([np.mean(frames[low:high], axis=0, dtype=np.float64) for low, high in bounds])
        vectors = means.astype(np.float32)
        norms = np.sqrt(np.sum(vectors * vectors, axis=1))
    if not np.isfinite(norms).all():
        raise VectorFileError(f"{path} holds NaN, infinite or huge values; make the embedding again")
    if not norms.all():
        raise VectorFileError(f"{path} holds a vector of zeros, which is similar to nothing; make the embedding again")
    return vectors, bounds


def _result(path: Path) -> Mapping[str, Any]:
    """Return what a web page wrote of a recording, {} if nothing."""
    if not path.is_file():
        return {}
    try:
        result = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise VectorFileError(f"{path} is not valid JSON ({str(error)[:80]}); mend or remove it") from error
    if not isinstance(result, dict):
        raise VectorFileError(f"{path} holds no JSON object with emotion and scores; mend or remove it")
    return result


def _scores(result: Mapping[str, Any], path: Path) -> NDArray[np.float32] | None:
    """Probabilities in the order of `LABELS`, ``(labels,)``; classes that are not there have 0, None if none is."""
    named = result.get("scores")
    if named is None:
        return None
    scores = np.zeros(len(LABELS), np.float32)
    try:
        for name, score in dict(named).items():
            english = str(name).rsplit("/", 1)[-1].strip().lower()
            english = "unknown" if english == "<unk>" else english
            scores[LABELS.index(english)] = float(score)
    except (TypeError, ValueError, OverflowError) as error:
        raise VectorFileError(
            f"{path}: scores must give a number to each of {', '.join(LABELS)} ({error}); mend or remove it"
        ) from error
    if not np.isfinite(scores).all() or scores.min() < 0:
        raise VectorFileError(f"{path}: scores must be probabilities, not {named}; mend or remove it")
    return scores


def content_of(path: Path) -> Path:
    """Return the file whose content identifies a recording: itself, or a saved folder's vectors."""
    return path / "embedding.npy" if path.is_dir() and is_saved(path) else path


def uri_of(path: Path) -> str:
    """Where the audio is: the file itself, or the one beside a saved folder's vectors."""
    if path.is_dir() and (beside := path / "processed_audio.wav").is_file():
        return file_uri(beside)
    return file_uri(path)
