"""Labelled clips → pooled Whisper features, of each clip and of degraded copies of it. Knows files and labels.

Features do not change between runs, so they are kept in a cache folder, under a name that holds what they depend on.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnxruntime
from light_augment import Augmentation, degraded
from light_voice import Rows
from numpy.typing import NDArray

from e2vsearch.analysis.evaluation import TelephoneOptions, telephone
from e2vsearch.audio import read
from e2vsearch.encoders import mel
from e2vsearch.encoders.light import CEILING_HZ, FORMAT, SPEECH_LEVEL, feed, levelled, session

LABELS = {
    "anger": "angry",
    "disgust": "disgusted",
    "fear": "fearful",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
}
"""The corpora's word → the word that emotion2vec uses; scores come in the order of the latter, alphabetical."""

UNSCORED = ("boredom",)
"""Emotions that shape the embedding but have no score, since emotion2vec has no word for them."""

_DEGRADED, _LINES = 2, 3

COPIES = ("clean", *("degraded",) * _DEGRADED, *("telephone",) * _LINES)
"""What a head is trained on, of each clip. Six degraded copies gave the same as two; telephone copies of the waveform
itself, as the yardstick makes them, took the loss over a telephone from 17 % of mAP to 10 %; three of them in place of
one, each with a noise of its own, took it to 9 %, and have .05 more of six classes named at rest, both on EMO-DB."""

_LINE_SEED = 50_000  # beyond the numbers that seed the features' copies
_VERSION = "4"  # of the features below: raise it with any change, so that an old cache is not taken


@dataclass(frozen=True, slots=True)
class Clips:
    """The labelled clips of one corpus or of several."""

    paths: tuple[Path, ...]
    rows: Rows  # emotions are indices into LABELS, then UNSCORED


def clips(*folders: Path) -> Clips:
    """The clips of each ``folder/labels.csv``: path, speaker, emotion, text; rows of other emotions are passed over."""
    order = [*LABELS, *UNSCORED]
    found = []
    for folder in folders:
        with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
            found += [(folder, row) for row in csv.DictReader(file) if row["emotion"] in order]

    def index(column: str) -> NDArray[np.int64]:
        names = [f"{folder} {row[column]}" for folder, row in found]  # a speaker's number means another in each corpus
        return np.asarray(np.unique(names, return_inverse=True)[1], np.int64)

    emotions = np.array([order.index(row["emotion"]) for _, row in found], np.int64)
    return Clips(tuple(folder / row["path"] for folder, row in found), Rows(emotions, index("speaker"), index("text")))


def features(paths: tuple[Path, ...], network: bytes, cache: Path | None, workers: int) -> NDArray[np.float32]:
    """Frames averaged over time, ``(n, len(COPIES), width)``, of every clip and of its copies.

    Args:
        paths: what to read.
        network: the ONNX graph that pools, `light_onnx.build` without a head.
        cache: a folder to keep the features in, or None.
        workers: processes; their number does not change the features.
    """
    content = hashlib.sha256(network)
    settings = (_VERSION, FORMAT, CEILING_HZ, SPEECH_LEVEL, COPIES, Augmentation(), TelephoneOptions())
    content.update(repr((settings, [path.name for path in paths])).encode())
    kept = cache / f"light-{content.hexdigest()[:16]}.npy" if cache else None
    if kept is not None and kept.is_file():
        return np.asarray(np.load(kept), np.float32)
    # spawned, not forked: threads of native libraries do not survive a fork
    with get_context("spawn").Pool(workers, _load, (network,)) as pool:
        made = np.stack(pool.map(_clip_features, enumerate(paths), chunksize=64))
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, made)
    return made


def pictures(
    paths: tuple[Path, ...], cache: Path | None, workers: int, *, line: bool = False
) -> list[NDArray[np.float16]]:
    """Log10 powers ``(80, frames)`` of every clip, its level as recorded.

    Args:
        paths: what to read.
        cache: a folder to keep the pictures in, or None.
        workers: processes; their number does not change the pictures.
        line: of telephone copies, each made with the clip's place in `paths` as its seed.
    """
    settings = (_VERSION, FORMAT, CEILING_HZ, *((TelephoneOptions(),) if line else ()), [path.name for path in paths])
    content = hashlib.sha256(repr(settings).encode())
    kept = cache / f"light-pictures-{content.hexdigest()[:16]}.npz" if cache else None
    if kept is not None and kept.is_file():
        with np.load(kept) as archive:
            joined, lengths = archive["joined"], archive["lengths"]
    else:
        with get_context("spawn").Pool(workers) as pool:
            made = pool.starmap(_clip_picture, [(at, path, line) for at, path in enumerate(paths)], chunksize=64)
        joined, lengths = np.concatenate(made, axis=1), np.array([each.shape[1] for each in made])
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.savez(kept, joined=joined, lengths=lengths)
    ends = np.cumsum(lengths)
    return [joined[:, end - length : end] for end, length in zip(ends, lengths, strict=True)]


def _clip_picture(number: int, path: Path, line: bool) -> NDArray[np.float16]:
    signal = read(path)[0]
    if line:  # another copy than the one that heads are trained on and measured with
        signal = telephone(signal, np.random.default_rng(_LINE_SEED + number))
    return mel.decades(signal, CEILING_HZ).astype(np.float16)


_network: onnxruntime.InferenceSession | None = None  # of a worker process


def _load(network: bytes) -> None:
    global _network
    _network = session(network, 1)


def _clip_features(numbered: tuple[int, Path]) -> NDArray[np.float32]:
    number, path = numbered
    signal = read(path)[0]
    rng = np.random.default_rng(number)
    decades = mel.decades(signal, CEILING_HZ)
    line = mel.decades(telephone(signal, rng), CEILING_HZ)
    worn = [degraded(decades, Augmentation(), rng) for _ in range(_DEGRADED)]
    lines = [line, *(mel.decades(telephone(signal, rng), CEILING_HZ) for _ in range(_LINES - 1))]
    return np.stack([_pooled(levelled(copy)) for copy in (decades, *worn, *lines)])


def _pooled(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    assert _network is not None
    return np.asarray(_network.run(["pooled"], feed(picture))[0][0], np.float32)
