"""Rankings by cosine, average precision and precision, a block of queries at a time.

Ties are broken by an order drawn from the seed: in the order of the labels file, which is often sorted by emotion,
equal vectors would look like a good ranking.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

DEPTHS = (1, 5, 10)
"""Of precision; the leak is read at the last."""

_CELLS = 2_000_000  # query-item pairs at a time: about 100 MB with all intermediate arrays
Codes = NDArray[np.int32]
"""``(n,)``: items with equal numbers are of one group."""


@dataclass(frozen=True, slots=True)
class Block:
    """The rankings of some queries."""

    queries: NDArray[np.int64]  # (b,)
    order: NDArray[np.int64]  # (b, n) all items, nearest first


@dataclass(frozen=True, slots=True)
class Ranked:
    """One row a query with relevant items."""

    queries: NDArray[np.int64]  # (q,)
    average_precision: NDArray[np.float64]  # (q,)
    precision: NDArray[np.float64]  # (q, len(DEPTHS))
    chance: NDArray[np.float64]  # (q,) expected average precision of a random order
    share: NDArray[np.float64]  # (q,) of relevant items among all: expected precision at any depth


@dataclass(frozen=True, slots=True)
class Neighbours:
    """One row a query: shares of its own group."""

    queries: NDArray[np.int64]  # (q,)
    near: NDArray[np.float64]  # (q,) among the ten nearest
    all: NDArray[np.float64]  # (q,) among all
    alike: NDArray[np.float64]  # (q,) among all of the query's emotion; NaN where it is alone in it


def blocks(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], seed: int, chosen: NDArray[np.int64] | None = None
) -> Iterator[Block]:
    """Yield every query's ranking of the gallery.

    Args:
        queries: ``(n, dim)``, of length one.
        gallery: ``(n, dim)``, of length one, of the same items.
        seed: of the order that breaks ties.
        chosen: the items that are queries; by default all.
    """
    n = len(gallery)
    shuffled = np.random.default_rng(seed).permutation(n)
    found = np.ascontiguousarray(gallery[shuffled].T)
    items = np.arange(n) if chosen is None else chosen
    rows = max(1, _CELLS // max(n, 1))
    for first in range(0, items.size, rows):
        block = items[first : first + rows]
        yield Block(block, shuffled[np.argsort(-(queries[block] @ found), axis=1, kind="stable")])


def ordered(scores: NDArray[np.floating], seed: int) -> Block:
    """Return the rankings of a matrix of scores, for items that are not compared by one cosine.

    Args:
        scores: ``(n, n)``, of each query and each item; the greater, the nearer.
        seed: of the order that breaks ties.
    """
    shuffled = np.random.default_rng(seed).permutation(len(scores))
    return Block(np.arange(len(scores)), shuffled[np.argsort(-scores[:, shuffled], axis=1, kind="stable")])


def kept_in(block: Block, known: NDArray[np.bool_], left_out: Sequence[Codes]) -> NDArray[np.bool_]:
    """Return which items of the rankings count, ``(b, n)`` in their order.

    Args:
        block: the rankings.
        known: ``(n,)``, items that may be queries or in the gallery.
        left_out: groupings; items that share any of the query's groups do not count.
    """
    kept = known[block.order] & known[block.queries, None]
    for codes in left_out:
        kept &= codes[block.order] != codes[block.queries, None]
    return kept


def scored(block: Block, kept: NDArray[np.bool_], emotions: Codes) -> Ranked:
    """Return average precision and precision of each query with relevant items among what is kept."""
    hit = kept & (emotions[block.order] == emotions[block.queries, None])
    place = np.cumsum(kept, axis=1, dtype=np.int32)
    relevant, candidates = hit.sum(axis=1), place[:, -1].astype(np.int64)
    rows, columns = np.nonzero(hit)  # row by row, so that counting within a row numbers its hits
    before = np.cumsum(relevant) - relevant
    number = np.arange(1, rows.size + 1) - before[rows]
    total = np.bincount(rows, number / place[rows, columns], minlength=len(hit))
    kept_queries = relevant > 0
    found = [
        np.bincount(rows[place[rows, columns] <= depth], minlength=len(hit))
        / np.minimum(depth, np.maximum(candidates, 1))
        for depth in DEPTHS
    ]
    return Ranked(
        queries=block.queries[kept_queries],
        average_precision=total[kept_queries] / relevant[kept_queries],
        precision=np.stack(found, axis=1)[kept_queries],
        chance=expected_average_precision(relevant[kept_queries], candidates[kept_queries]),
        share=relevant[kept_queries] / candidates[kept_queries],
    )


def neighbours(block: Block, kept: NDArray[np.bool_], groups: Codes, emotions: Codes) -> Neighbours:
    """Return shares of each query's group among its ten nearest, among all that is kept, and among its emotion."""
    own = kept & (groups[block.order] == groups[block.queries, None])
    near = np.cumsum(kept, axis=1, dtype=np.int32) <= DEPTHS[-1]
    alike = emotions[block.order] == emotions[block.queries, None]
    candidates = kept.sum(axis=1)
    kept_queries = candidates > 0
    of_emotion = (kept & alike).sum(axis=1)[kept_queries].astype(np.float64)
    return Neighbours(
        queries=block.queries[kept_queries],
        near=(own & near).sum(axis=1)[kept_queries] / np.minimum(candidates[kept_queries], DEPTHS[-1]),
        all=own.sum(axis=1)[kept_queries] / candidates[kept_queries],
        alike=(own & alike).sum(axis=1)[kept_queries] / np.where(of_emotion > 0, of_emotion, np.nan),
    )


def expected_average_precision(relevant: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the expected average precision of a random order.

    Rank k of N holds one of the R relevant items with probability R / N, and then (k - 1)(R - 1) / (N - 1) of the items
    before it are relevant too. Summed over k this is (H + (R - 1) / (N - 1) (N - H)) / N, with H the N-th harmonic
    number.

    Args:
        relevant: R of each query, at least 1.
        candidates: N of each query.
    """
    harmonic = np.cumsum(1.0 / np.arange(1, max(int(candidates.max(initial=0)), 1) + 1))[candidates - 1]
    rest = (relevant - 1) / np.maximum(candidates - 1, 1)
    expected: NDArray[np.float64] = (harmonic + rest * (candidates - harmonic)) / candidates
    return expected


def joined(parts: Sequence[Ranked]) -> Ranked:
    """Return several blocks' rows as one."""
    return Ranked(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Ranked)))
