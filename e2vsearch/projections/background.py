"""The background distribution of cosines: what percentage of a collection's random pairs are less alike.

Cosines of one space lie close together (in emotion2vec's most pairs of segments have 0.7 and more), those of another do
not, so a number alone says little.

A draw takes 70 to 130 ms, more than a query. It is therefore kept beside the index, as cosines alone, and every process
that opens the collection there gives the same percentiles. It is drawn again once the collection has changed in size.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.catalog.segments import count_of
from e2vsearch.feed import VectorSource
from e2vsearch.files import atomic_write, private_folder
from e2vsearch.vectors.exact import unit

SAMPLE = 2000
"""Segments that are drawn, at most."""

BACKGROUND = "background.bin"
"""The file's name: a line of JSON, then the cosines as little-endian float32."""

_NEIGHBOURS = 20  # segments that each is compared with: 2,000 make 39,790 pairs, so that 0.1 % is 40 of them
_ALL_PAIRS = 100  # segments of which every pair is compared: 4,950 at most
_GROWN = 1.1  # times as many segments, or as few: draw again
_MOST_BYTES = 1 << 20  # of a file that may be read


@dataclass(frozen=True, slots=True)
class BackgroundScores:
    """Cosines of random pairs of a collection's segments."""

    segments: int  # in the collection, when they were drawn
    cosines: NDArray[np.float32]  # of pairs of different recordings, ascending

    def percentiles(self, cosines: Sequence[float | None]) -> list[float | None]:
        """Return what percentage of the pairs are less alike than each cosine; None where there is nothing to compare.

        All at once: each call compares in float64, to which all of the pairs' cosines are converted, 12 us of 40,000.
        """
        pairs = self.cosines.size
        if not pairs:
            return [None] * len(cosines)
        known = [each for each in cosines if each is not None]
        less = iter(np.searchsorted(self.cosines, known).tolist() if known else ())
        return [None if each is None else 100.0 * next(less) / pairs for each in cosines]

    def is_of(self, segments: int) -> bool:
        """Tell whether a collection of so many segments is about as large as when they were drawn."""
        return max(self.segments, segments) <= _GROWN * min(self.segments, segments)


class Background:
    """The background scores of one projection of a collection, drawn when first asked for. Safe to use from threads."""

    def __init__(self, catalog: CatalogReader, source: VectorSource, folder: Path) -> None:
        """Read and write nothing yet.

        Args:
            catalog: knows which segments there are.
            source: their vectors, projected.
            folder: of the index over these vectors, where the scores are kept; they are drawn by each process anew
                where it cannot be written to.
        """
        self._catalog = catalog
        self._source = source
        self._path = folder / BACKGROUND
        self._lock = threading.Lock()
        self._kept: BackgroundScores | None = None
        self._seen: tuple[int, int, int] | None = None  # the file, when `_kept` was read

    def scores(self, segments: int) -> BackgroundScores:
        """Return the scores of the collection, which has so many segments now."""
        with self._lock:
            state = self._state()
            if state != self._seen:  # another process drew again, or what was erased is in no sample any more
                self._kept, self._seen = self._read(), state
            if self._kept is None or not self._kept.is_of(segments):
                self._kept = self._drawn()
                with contextlib.suppress(OSError):  # a full disk, or one that may not be written to
                    self._write(self._kept)
                self._seen = self._state()
            return self._kept

    def refresh(self) -> None:
        """Draw again if that is due, so that no query has to."""
        self.scores(count_of(self._catalog)[0])

    def _drawn(self) -> BackgroundScores:
        count, least, greatest = count_of(self._catalog)
        rng = np.random.default_rng(0)
        # ids of what was removed are drawn in vain, so more are drawn where many are gone
        room = greatest - least + 1
        size = min(room, SAMPLE * max(1, round(room / max(count, 1))))
        drawn = np.sort(least + rng.choice(room, size, replace=False)) if count else np.empty(0, np.int64)
        batch = self._source.fetch(drawn)
        order = rng.permutation(batch.ids.size)[:SAMPLE]
        units = unit(batch.vectors[order]).astype(np.float32)
        return BackgroundScores(count, _pairs(units, batch.recordings[order]))

    def _state(self) -> tuple[int, int, int] | None:
        try:
            stat = os.stat(self._path)  # noqa: PTH116 - every query asks: 1 us by a string, 5 by a path
        except OSError:
            return None
        return stat.st_size, stat.st_mtime_ns, stat.st_ino

    def _of(self) -> str:
        return f"{self._source.collection_id} {self._source.space_id}"

    def _read(self) -> BackgroundScores | None:
        """Return what the file holds; None where it is not there, not whole, or of another collection or space."""
        try:
            with self._path.open("rb") as file:
                head, _, body = file.read(_MOST_BYTES).partition(b"\n")
            said = json.loads(head)
            if said["of"] != self._of() or said["crc32"] != zlib.crc32(body):
                return None
            return BackgroundScores(int(said["segments"]), np.frombuffer(body, "<f4"))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self, scores: BackgroundScores) -> None:
        body = scores.cosines.astype("<f4").tobytes()
        head = {"of": self._of(), "segments": scores.segments, "crc32": zlib.crc32(body)}
        private_folder(self._path.parent)
        atomic_write(self._path, json.dumps(head).encode() + b"\n" + body)


def _pairs(units: NDArray[np.float32], recordings: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return cosines of each segment with the next few in the drawn order, which is random; ascending."""
    steps = min(len(units) - 1, _NEIGHBOURS if len(units) > _ALL_PAIRS else _ALL_PAIRS)
    found = [np.empty(0, np.float32)]
    for step in range(1, steps + 1):
        apart = recordings[step:] != recordings[:-step]
        # no matrix product: BLAS gives even a small one to all its threads, which on a busy machine wait for one
        # another, 0.4 to 1 s in all for what takes 2 ms (384-d) here
        found.append(np.einsum("ij,ij->i", units[step:], units[:-step])[apart])
    return np.sort(np.clip(np.concatenate(found), -1.0, 1.0))
