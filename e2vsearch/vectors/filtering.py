"""Which rows a filter leaves, as masks that are kept from query to query. Knows ids and rows, nothing of SQL or lists.

People ask many questions of one filter (this month's calls, this agent's). Looking up which of 1,000,000 rows 500,000
ids are takes 15 ms, counting and packing them another one; all of it is the same until the collection changes.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from e2vsearch.vectors.exact import Ints, Mask

_MOST = 4  # filters whose masks are kept: 1.1 MB each for a million rows, and up to 8 MB of rows and ids each


class Kept:
    """Some of n rows.

    Attributes:
        mask: ``(n,)``, which.
        count: how many.
        by_list: about how many are in each list of an index, once somebody has counted.
        even: whether that is about the same share of each.
    """

    def __init__(self, mask: Mask) -> None:
        self.mask = mask
        self.count = int(np.count_nonzero(mask))
        self.by_list: Ints | None = None
        self.even = False

    @cached_property
    def bits(self) -> NDArray[np.uint8]:
        """The mask as FAISS takes it, the first row in the lowest bit."""
        return np.packbits(self.mask, bitorder="little")


Left = tuple[Kept | None, Kept | None]
"""What is left of a base's rows and of the tail's; None for all."""


class Filters:
    """What filters leave of one base and one tail, neither of which ever changes."""

    def __init__(self, ids: Ints, alive: Mask | None, tail: Ints) -> None:
        """Looks nothing up yet.

        Args:
            ids: ``(n,)`` of the base, ascending.
            alive: ``(n,)`` its rows that are still there; all when None.
            tail: ``(m,)`` ids that came since, ascending.
        """
        self._ids, self._tail = ids, tail
        self._alive = None if alive is None else Kept(alive)
        self._known: dict[int, tuple[Ints, Left]] = {}  # by the array's identity, which lasts as long as the array

    def left(self, allowed: Ints | None, excluded: Ints | None) -> Left:
        """Rows that may be answered.

        Args:
            allowed: ids that may be; all when None. What one that cannot be written to leaves is remembered.
            excluded: ids that may not, where there are any.
        """
        left: Left = (self._alive, None)
        if allowed is not None:
            left = self._of(allowed)
        if excluded is None or not excluded.size:
            return left
        base, tail = left
        return _without(self._ids, base, excluded), _without(self._tail, tail, excluded)

    def _of(self, allowed: Ints) -> Left:
        _, left = self._known.get(id(allowed), (None, None))
        if left is None:
            mask = _are_in(self._ids, allowed)
            if self._alive is not None:
                mask &= self._alive.mask
            left = Kept(mask), Kept(_are_in(self._tail, allowed))
            if not allowed.flags.writeable:
                while len(self._known) >= _MOST:
                    self._known.pop(next(iter(self._known)), None)  # another thread may have been there first
                self._known[id(allowed)] = (allowed, left)
        return left


def rows_of(ids: Ints, wanted: Ints) -> tuple[Ints, Mask]:
    """Where each wanted id is among ascending ids, and whether it is there at all (else its row means nothing)."""
    if not ids.size:
        return np.zeros(wanted.shape, np.int64), np.zeros(wanted.shape, np.bool_)
    rows = np.minimum(np.searchsorted(ids, wanted), ids.size - 1)
    return rows, ids[rows] == wanted


def ascending(ids: Ints) -> Ints:
    """Ids in order, each once; the same array where it is so already."""
    return ids if (ids[1:] > ids[:-1]).all() else np.unique(ids)


def _are_in(ids: Ints, allowed: Ints) -> Mask:
    """Which of ascending ids are among others."""
    allowed = ascending(allowed)
    if len(ids) < len(allowed):
        return rows_of(allowed, ids)[1]
    rows, there = rows_of(ids, allowed)
    mask = np.zeros(len(ids), np.bool_)
    mask[rows[there]] = True
    return mask


def _without(ids: Ints, kept: Kept | None, excluded: Ints) -> Kept | None:
    rows, there = rows_of(ids, excluded)
    if not there.any():
        return kept
    mask = np.ones(len(ids), np.bool_) if kept is None else kept.mask.copy()
    mask[rows[there]] = False
    return Kept(mask)
