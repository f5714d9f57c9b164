"""The state of an index: its lag, whether a build is due, its recall, and the audit of a generation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from e2vsearch.errors import DamagedVector
from e2vsearch.feed import Batch, VectorSource
from e2vsearch.types import IndexStatus
from e2vsearch.vectors import exact
from e2vsearch.vectors.exact import Float32s, Ints, UnitVectors, rows_of
from e2vsearch.vectors.faiss.nprobe import measure_recall
from e2vsearch.vectors.faiss.snapshot import Delta, IndexSnapshot
from e2vsearch.vectors.faiss.storage import GROWN, Generation
from e2vsearch.vectors.verify import SAME

if TYPE_CHECKING:
    from e2vsearch.vectors.faiss.builder import BuildTarget

_SMALL = 1000  # SQLite reads 60,000 vectors a second and more: no generation is worth its files
_TAIL_ROWS, _TAIL_SHARE = 5000, 0.05  # a tail longer than both is due to be built in
_TOMBSTONE_SHARE = 0.1  # of the generation
_DRIFTED = 0.01  # of recall, which the same queries of the same index never lose


@dataclass(frozen=True, slots=True)
class IndexLag:
    """The distance of the collection from its generation, counted without reading a vector."""

    base: Generation | None
    damage: str | None
    live: int
    tail: int
    tombstones: int

    @property
    def due(self) -> str | None:
        """The reason why a build is due; None if none is. Below 1,000 segments only a damaged one is."""
        if self.damage is not None:
            return self.damage
        if self.live < _SMALL:
            return None
        if self.base is None:
            return f"there is no index yet over {self.live} segments"
        n, trained = self.base.manifest.n, self.base.manifest.trained
        if trained is not None and self.live >= GROWN * trained.n:
            return f"the index's lists were made for {trained.n} segments, {self.live} are there now"
        if self.tail > max(_TAIL_ROWS, _TAIL_SHARE * n):
            return f"{self.tail} segments came since the index was built over {n}"
        if self.tombstones > _TOMBSTONE_SHARE * n:
            return f"{self.tombstones} of the index's {n} segments are gone"
        return None

    def status(self, goal: BuildTarget, drift: str | None) -> IndexStatus:
        """Return all that is known of the index.

        Args:
            goal: of the next build.
            drift: as `drift` returned it; None where it was not measured.
        """
        base = self.base
        if base is None:
            return IndexStatus(
                "none", 0, self.tail, 0, goal.recall, damage=self.damage, due=self.due, requested_kind=goal.kind
            )
        manifest, tuned = base.manifest, base.tuned
        first = tuned.tunings[0] if tuned.tunings else None
        return IndexStatus(
            kind=manifest.kind,
            n=manifest.n,
            tail=self.tail,
            tombstones=self.tombstones,
            target=tuned.target,
            recall=tuned.recall,
            nlist=manifest.nlist,
            nprobe=tuned.nprobe,
            k_factor=tuned.k_factor,
            built_at=manifest.built_at,
            size=base.size,
            faiss=manifest.faiss,
            watermark=manifest.watermark,
            generation=base.name,
            note="; ".join(note for note in (manifest.note, tuned.note) if note),
            due=self.due,
            recall_stored=first.recall_stored if first else 1.0,
            sample_stored=first.sample_stored if first else 0,
            recall_queries=first.recall_queries if first else None,
            sample_queries=first.sample_queries if first else 0,
            measured_at=tuned.measured_at,
            requested_kind=goal.kind,
            trained_n=manifest.trained.n if manifest.trained else None,
            trained_at=manifest.trained.at if manifest.trained else None,
            drift=drift,
        )


def drift(base: Generation | None, queries: Float32s) -> str | None:
    """Return how far recall is from what was promised, and the cure; None where it is as promised.

    Measures recall at the setting in use, on stored vectors and on the last `queries`: reads every vector of the
    generation once.
    """
    if base is None or base.ivf is None:
        return None
    tuning = base.tuned.tunings[0]
    stored, real = measure_recall(base.ivf, base.vectors, base.ids, tuning, base.manifest.seed, queries)
    for recall, whose in ((stored, "stored vectors"), (real, "the last queries")):
        if recall is not None and recall < min(base.tuned.target, tuning.recall) - _DRIFTED:
            return (
                f"{recall:.3f} of the exact top {tuning.k} of {whose} is found where {tuning.recall:.3f} was measured "
                "before: e2vsearch index tune"
            )
    return None


_WHOLE_BYTES = 512 << 20  # vectors that are compared to the last row; of more, a sample
_SAMPLE_ROWS = 8192
_SLACK = 0.01  # the same queries give the same recall, but for scores that tie
_TRIES = 5


def problems(base: Generation, source: VectorSource, seed: int) -> list[str]:
    """Return everything that is wrong with an open generation, one line each.

    Args:
        base: its files were hashed when it was opened.
        source: what it must agree with.
        seed: of the sample where not all is compared.
    """
    return [line for line in (_ids(base, source), _vectors(base, source, seed), _recall(base)) if line]


def _ids(base: Generation, source: VectorSource) -> str | None:
    """Compare the generation, less what went and with what came, with the set of the source's segments."""
    for _ in range(_TRIES):
        token = source.changes_token(base.watermark)
        delta = Delta.since(base.ids, source.changes_since(base.watermark))
        theirs = source.fingerprint()
        if source.changes_token(base.watermark) != token:
            continue  # something was written in between
        ours = fingerprint(np.union1d(np.delete(base.ids, delta.tombstones), delta.added))
        if ours == theirs:
            return None
        return f"{base.name} and what changed since hold {ours[0]} segments, the catalog {theirs[0]}, not all the same"
    return None  # written to without a pause; every search checks what it returns


def _vectors(base: Generation, source: VectorSource, seed: int) -> str | None:
    compared, wrong = 0, 0
    for batch in _batches(base, source, seed):
        at, there = rows_of(base.ids, batch.ids)
        at = at[there]
        off = np.abs(base.vectors[at] - exact.unit32(batch.vectors[there])).max(axis=1, initial=0.0)
        wrong += int(((off > SAME) | (base.recordings[at] != batch.recordings[there])).sum())
        compared += at.size
    return f"{base.name} has {wrong} of {compared} vectors other than the catalog's" if wrong else None


def _batches(base: Generation, source: VectorSource, seed: int) -> Iterator[Batch]:
    if base.vectors.nbytes > _WHOLE_BYTES:
        yield source.fetch(np.random.default_rng(seed).choice(base.ids, _SAMPLE_ROWS, replace=False))
        return
    with source.snapshot() as snapshot:
        yield from snapshot.batches()


def _recall(base: Generation) -> str | None:
    if base.ivf is None:
        return None
    tuning = base.tuned.tunings[0]
    recall, _ = measure_recall(base.ivf, base.vectors, base.ids, tuning, base.manifest.seed, None)
    if recall < tuning.recall_stored - _SLACK:
        return f"{base.name} finds {recall:.3f} of the exact top {tuning.k}, {tuning.recall_stored:.3f} when measured"
    return None


def fingerprint(ids: Ints) -> tuple[int, int, int, int]:
    """Return count, least, greatest and exclusive-or of ascending ids; zeros when there are none."""
    if not ids.size:
        return 0, 0, 0, 0
    return ids.size, int(ids[0]), int(ids[-1]), int(np.bitwise_xor.reduce(ids))


_SPOT_ROWS = 256
_END_ROWS = 64


def differs(source: VectorSource, now: IndexSnapshot, ids: Ints) -> bool:
    """Tell whether any of up to 256 of the ids, evenly spread, has another vector here than in the source."""
    spots = ids[np.linspace(0, len(ids) - 1, min(len(ids), _SPOT_ROWS)).astype(np.int64)]
    stored = UnitVectors.of(_fetch_sound(source, spots))
    mapped, present = now.vectors_of(stored.ids)
    return bool((np.abs(mapped - stored.vectors)[present] > SAME).any())


def same_end(source: VectorSource, base: Generation) -> bool:
    """Tell whether the last segments of a generation have the source's vectors, as far as they are still there.

    A catalog restored from a backup gives the ids that it had lost to new segments: the watermark soon looks right
    again, and what the generation has under those ids would hide what is there now.
    """
    rows = UnitVectors.of(_fetch_sound(source, base.ids[-_END_ROWS:]))
    at, there = rows_of(base.ids, rows.ids)
    return bool(there.all() and (np.abs(base.gather(at) - rows.vectors) <= SAME).all())


def _fetch_sound(source: VectorSource, ids: Ints) -> Batch:
    """Fetch the segments whose stored vectors are sound: of a damaged row nothing can be said against a generation."""
    try:
        return source.fetch(ids)
    except DamagedVector as error:
        return source.fetch(np.setdiff1d(ids, np.array(sorted(error.segments), np.int64)))
