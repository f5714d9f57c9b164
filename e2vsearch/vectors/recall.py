"""Recall against exact search, with its standard error, on vectors that are held out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from e2vsearch.vectors.exact import Ints

# results that a recall is proven for, more are compared exactly; on how many queries: long answers vary less
PROVEN = ((20, 512), (256, 128), (1000, 64))

HELD_OUT = PROVEN[0][1]  # vectors that choose nprobe, and as many others that have to agree

STANDARD_ERRORS = 1.0  # standard errors that a measured recall must be above its target


class Measured(NamedTuple):
    """A mean recall and its standard error."""

    recall: float
    error: float

    @property
    def sure(self) -> float:
        """What is still so when the sample was lucky.

        A mean that only just reaches a target is, of fresh queries, below it every other time; measured on 512
        queries, one standard error (0.002-0.004) keeps fresh recall within 0.01 of any target.
        """
        return self.recall - STANDARD_ERRORS * self.error


def held_out(ids: Ints, seed: int) -> tuple[Ints, Ints]:
    """Rows that lists are not trained on: those that choose a setting, and those that report its recall.

    A list's centre leans towards the vectors it was trained on, so they find each other a little more easily than a new
    query does. Which segments are held out depends on a hash of their ids, lowest first: of a collection that has grown
    they are old ones that were held out before and new ones, so lists that are used again have not seen them either.
    """
    start = (seed + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF  # splitmix64 (Steele, Lea and Flood, 2014)
    mixed = ids.astype(np.uint64) + np.uint64(start)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    count = min(HELD_OUT, len(ids) // 8)
    halves = (np.flatnonzero((mixed & np.uint64(1)) == half) for half in (0, 1))
    choosing, reporting = (rows[np.argsort(mixed[rows], kind="stable")[:count]] for rows in halves)
    return choosing, reporting
