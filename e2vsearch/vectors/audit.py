"""A generation held against the whole of its source. Knows what can be wrong, nothing of what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from e2vsearch.feed import Batch, VectorSource
from e2vsearch.vectors import exact
from e2vsearch.vectors.exact import Ints
from e2vsearch.vectors.filtering import rows_of
from e2vsearch.vectors.generation import Generation
from e2vsearch.vectors.truth import SAME
from e2vsearch.vectors.tuning import recall_now
from e2vsearch.vectors.view import Difference

_WHOLE_BYTES = 512 << 20  # vectors that are compared to the last row; of more, a sample
_SAMPLE_ROWS = 8192
_SLACK = 0.01  # the same queries give the same recall, but for scores that tie
_TRIES = 5


def problems(base: Generation, source: VectorSource, seed: int) -> list[str]:
    """What is wrong with an open generation, one line each.

    Args:
        base: its files were hashed when it was opened.
        source: what it must agree with.
        seed: of the sample where not all is compared.
    """
    return [line for line in (_ids(base, source), _vectors(base, source, seed), _recall(base)) if line]


def _ids(base: Generation, source: VectorSource) -> str | None:
    """Whether the generation, less what went and with what came, is the set of the source's segments."""
    for _ in range(_TRIES):
        token = source.changes_token(base.watermark)
        difference = Difference.since(base.ids, source.changes_since(base.watermark))
        theirs = source.fingerprint()
        if source.changes_token(base.watermark) != token:
            continue  # something was written in between
        ours = fingerprint(np.union1d(np.delete(base.ids, difference.dead), difference.added))
        if ours == theirs:
            return None
        return f"{base.name} and what changed since hold {ours[0]} segments, the catalog {theirs[0]}, not all the same"
    return None  # written to without a pause; every search checks what it returns


def _vectors(base: Generation, source: VectorSource, seed: int) -> str | None:
    compared, wrong = 0, 0
    for batch in _batches(base, source, seed):
        at, there = rows_of(base.ids, batch.ids)
        at = at[there]
        off = np.abs(base.vectors[at] - exact.unit(batch.vectors[there])).max(axis=1, initial=0.0)
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
    recall, _ = recall_now(base.ivf, base.vectors, base.ids, tuning, base.manifest.seed, None)
    if recall < tuning.recall_stored - _SLACK:
        return f"{base.name} finds {recall:.3f} of the exact top {tuning.k}, {tuning.recall_stored:.3f} when measured"
    return None


def fingerprint(ids: Ints) -> tuple[int, int, int, int]:
    """Count, least, greatest and exclusive-or of ascending ids; zeros when there are none."""
    if not ids.size:
        return 0, 0, 0, 0
    return ids.size, int(ids[0]), int(ids[-1]), int(np.bitwise_xor.reduce(ids))
