"""Labelled clips → pooled Whisper features, of each clip and of degraded copies of it.

Features do not change between runs, so they are kept in a cache folder, under a name that holds what they depend on.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnxruntime
from light_augment import Augmentation, degraded
from numpy.typing import NDArray

from e2vsearch.analysis.evaluation.telephone import TelephoneOptions, telephone
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

COPIES = ("clean", "telephone", "degraded", "degraded", "degraded telephone")
"""What a head is trained on, of each clip. Telephone copies are made of the waveform, as the yardstick makes them, and
degraded copies of the picture."""

_LINE_SEED = 50_000
_VERSION = "4"  # of the features below: raise it with any change, so that an old cache is not taken

VOTES = "voice_votes.csv"
"""Beside a ``labels.csv``: how many raters heard each of `LABELS` in the voice alone (CREMA-D's own ratings)."""

HEARD_SHARE = 1 / 3
"""Of the raters, from which on a clip's heard label is what was acted; below it, what most of them heard."""

LEAST_WEIGHT = 0.02
"""Of a clip whose label no rater heard: nothing is thrown away, and little learned from it."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What is known of each clip, as numbers from 0; all ``(n,)``."""

    acted: NDArray[np.int64]
    heard: NDArray[np.int64]  # as acted if a third of the raters heard that, else what most heard
    most: NDArray[np.int64]  # what most raters heard; -1 where that is a tie
    acted_weight: NDArray[np.float32]  # (share of raters that heard the label)² + .02; its mean over a corpus is 1
    heard_weight: NDArray[np.float32]
    speakers: NDArray[np.int64]
    texts: NDArray[np.int64]  # which sentence is spoken
    corpora: NDArray[np.int64]

    def __getitem__(self, chosen: NDArray[np.generic]) -> Rows:
        """Return some of the clips; emotions, speakers and texts keep their numbers."""
        return Rows(*(getattr(self, each.name)[chosen] for each in fields(self)))

    def labels(self, as_heard: bool) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Labels and weights to train by."""
        return (self.heard, self.heard_weight) if as_heard else (self.acted, self.acted_weight)


@dataclass(frozen=True, slots=True)
class Clips:
    """The labelled clips of one corpus or of several."""

    paths: tuple[Path, ...]
    rows: Rows  # emotions are indices into LABELS, then UNSCORED

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Clips:
        """Return some of them."""
        return Clips(tuple(self.paths[index] for index in np.flatnonzero(chosen)), self.rows[chosen])


def clips(*folders: Path) -> Clips:
    """Return the clips of each ``folder/labels.csv``: path, speaker, emotion, text; other emotions are left out.

    Where ``voice_votes.csv`` lies beside it, labels and weights come from what raters heard; elsewhere each clip
    was heard as it was acted.
    """
    order = [*LABELS, *UNSCORED]
    found = []
    for folder in folders:
        with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
            found += [(folder, row) for row in csv.DictReader(file) if row["emotion"] in order]

    def index(column: str) -> NDArray[np.int64]:
        names = [f"{folder} {row[column]}" for folder, row in found]  # a speaker's number means another in each corpus
        return np.asarray(np.unique(names, return_inverse=True)[1], np.int64)

    acted = np.array([order.index(row["emotion"]) for _, row in found], np.int64)
    corpora = np.array([folders.index(folder) for folder, _ in found], np.int64)
    votes = np.concatenate([_votes(folder, [row for at, row in found if at == folder]) for folder in folders])
    each = np.arange(len(acted))
    most = votes.argmax(axis=1)
    heard = np.where(votes[each, acted] >= HEARD_SHARE, acted, most)
    most = np.where((votes == votes.max(axis=1, keepdims=True)).sum(axis=1) == 1, most, -1)

    def weight(labels: NDArray[np.int64]) -> NDArray[np.float32]:
        made = votes[each, labels] ** 2 + LEAST_WEIGHT
        means = np.bincount(corpora, made) / np.bincount(corpora)
        return np.asarray(made / means[corpora], np.float32)

    rows = Rows(acted, heard, most, weight(acted), weight(heard), index("speaker"), index("text"), corpora)
    return Clips(tuple(folder / row["path"] for folder, row in found), rows)


def _votes(folder: Path, rows: list[dict[str, str]]) -> NDArray[np.float64]:
    """Shares of the raters that heard each emotion, ``(n, emotions)``."""
    order = [*LABELS, *UNSCORED]
    acted = np.eye(len(order))[[order.index(row["emotion"]) for row in rows]]
    if not (folder / VOTES).is_file():
        return acted
    with (folder / VOTES).open(encoding="utf-8", newline="") as file:
        known = {row["path"]: [float(row.get(name) or 0) for name in order] for row in csv.DictReader(file)}
    counts = np.array([known.get(row["path"], np.zeros(len(order))) for row in rows])
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), acted)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Log10 powers ``(80, frames)`` of clips, their level as recorded, and of a telephone copy of each."""

    clean: list[NDArray[np.float16]]
    telephone: list[NDArray[np.float16]]

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Pictures:
        """Return some of them."""
        return Pictures(*([each[at] for at in np.flatnonzero(chosen)] for each in (self.clean, self.telephone)))


def features(shown: Pictures, network: bytes, cache: Path | None, workers: int) -> NDArray[np.float32]:
    """Frames averaged over time, ``(n, len(COPIES), width)``, of every clip and of its copies.

    Args:
        shown: the clips.
        network: the ONNX graph that pools, `light_onnx.build` without a head.
        cache: a folder to keep the features in, or None.
        workers: processes; their number does not change the features.
    """
    content = hashlib.sha256(network)
    content.update(repr((_VERSION, FORMAT, SPEECH_LEVEL, COPIES, Augmentation())).encode())
    for each in (*shown.clean, *shown.telephone):
        content.update(each.tobytes())
    kept = cache / f"light-{content.hexdigest()[:16]}.npy" if cache else None
    if kept is not None and kept.is_file():
        return np.asarray(np.load(kept), np.float32)
    numbered = zip(range(len(shown.clean)), shown.clean, shown.telephone, strict=True)
    # spawned, not forked: threads of native libraries do not survive a fork
    with get_context("spawn").Pool(workers, _load, (network,)) as pool:
        made = np.stack(pool.starmap(_clip_features, numbered, chunksize=64))
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, made)
    return made


def pictures(corpora: Sequence[Clips], cache: Path | None, workers: int) -> Pictures:
    """Return the pictures of several corpora, one after the other.

    Args:
        corpora: each telephone copy is drawn with its clip's place in its corpus as the seed.
        cache: a folder to keep the pictures in, or None.
        workers: processes; their number does not change the pictures.
    """
    clean, lines = (
        [picture for each in corpora for picture in _pictures(each.paths, cache, workers, line)]
        for line in (False, True)
    )
    return Pictures(clean, lines)


def _pictures(paths: tuple[Path, ...], cache: Path | None, workers: int, line: bool) -> list[NDArray[np.float16]]:
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
    if line:
        signal = telephone(signal, np.random.default_rng(_LINE_SEED + number))
    return mel.decades(signal, CEILING_HZ).astype(np.float16)


_network: onnxruntime.InferenceSession | None = None  # of a worker process


def _load(network: bytes) -> None:
    global _network
    _network = session(network, 1)


def _clip_features(number: int, clean: NDArray[np.float16], line: NDArray[np.float16]) -> NDArray[np.float32]:
    rng = np.random.default_rng(number)
    plain, far = clean.astype(np.float32), line.astype(np.float32)
    worn = [degraded(each, Augmentation(), rng) for each in (plain, plain, far)]
    return np.stack([_pooled(levelled(copy)) for copy in (plain, far, *worn)])


def _pooled(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    assert _network is not None
    return np.asarray(_network.run(["pooled"], feed(picture))[0][0], np.float32)
