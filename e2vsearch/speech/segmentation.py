"""Speech probabilities of one channel become the spans of its segments, frame by frame.

One frame at a time goes in, so how a recording was cut into blocks cannot change what comes out. The steps:

1. Runs by hysteresis, as Silero documents it: speech begins at `threshold` and ends where the probability has been
   below ``threshold - 0.15`` and not back at `threshold` for 0.1 s. Runs shorter than `min_speech` are clicks.
2. Runs with pauses shorter than `min_pause` between them make one group. A group that would outgrow `longest` is cut at
   its deepest pause, each piece at least `shortest` long.
3. Each piece is padded, sharing a narrow gap with its neighbour. One that is still shorter than `shortest` takes more
   of the real audio around it; where neighbours leave too little, it joins the next piece, or, at the end of a
   recording, the last one, or takes the tail of that if both together are too long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

HYSTERESIS = 0.15
"""How far below the threshold speech ends, and for how many frames (96 ms of 100 ms): Silero VAD's defaults."""

MIN_SILENCE = 3
LEVEL_WEIGHT = 0.01
"""What a decibel adds to the cost of a cut: in fluent speech all probabilities are near 1, and loudness decides."""


@dataclass(frozen=True, slots=True)
class SegmentationRules:
    """Lengths in frames."""

    threshold: float
    min_speech: int  # a run of fewer is no speech
    min_pause: int  # from here on a pause separates
    pad: int
    shortest: int
    longest: int  # at least 2 * shortest + 2 * pad

    @property
    def unpadded(self) -> int:
        """The longest piece before padding."""
        return self.longest - 2 * self.pad


class Segmenter:
    """Finds the spans of one channel. Feed `push`, then `finish`."""

    def __init__(self, rules: SegmentationRules) -> None:
        self._rules = rules
        self._now = 0  # frames seen
        self._run: int | None = None  # start of the run that is going on
        self._dip: int | None = None  # where that run's probability fell
        self._group: list[tuple[int, int]] = []  # confirmed runs, not yet placed
        self._held: tuple[int, int] | None = None  # placed, but a short piece after it may still need it
        self._taken = 0  # end of the last span placed
        self._costs: list[float] = []  # of a cut at each frame since _costs_from
        self._costs_from = 0
        self.runs: list[tuple[int, int]] = []  # speech itself, without padding: step 1 above

    @property
    def needed_from(self) -> int:
        """No span that is still to come begins before this frame."""
        if self._held is not None:
            return self._held[0]
        return max(self._taken, self._earliest() - self._rules.shortest - self._rules.pad)

    def push(self, probability: float, level_db: float) -> Iterator[tuple[int, int]]:
        """Take the next frame, and yield the spans ``(start, end)`` that it completes."""
        rules, now = self._rules, self._now
        self._now += 1
        self._costs.append(probability + LEVEL_WEIGHT * level_db)
        if probability >= rules.threshold:
            self._run = now if self._run is None else self._run
            self._dip = None
        elif self._run is not None and self._dip is None and probability < rules.threshold - HYSTERESIS:
            self._dip = now
        if self._run is not None:
            end = self._now if self._dip is None else self._dip
            if end - self._run >= rules.min_speech:
                yield from self._extend(self._run, end)
            if self._dip is not None and self._now - self._dip >= MIN_SILENCE:
                self._run = self._dip = None
        yield from self._settle()

    def finish(self) -> Iterator[tuple[int, int]]:
        """Yield the spans that were waiting for more; nothing may be pushed after this."""
        if self._group:
            start, end = self._group[0][0], self._group[-1][1]
            left, right = self._widened(start, end, self._now)
            if right - left >= self._rules.shortest or self._held is None:
                yield from self._place(left, right)
            elif right - self._held[0] <= self._rules.longest:
                self._held = (self._held[0], right)
            else:
                border = right - self._rules.shortest
                yield (self._held[0], border)
                self._held = (border, right)
        if self._held is not None:
            yield self._held

    def _earliest(self) -> int:
        if self._group:
            return self._group[0][0]
        return self._now if self._run is None else self._run

    def _extend(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Extend the group by a confirmed run that reaches from `start` to `end` so far."""
        if self.runs and self.runs[-1][0] == start:
            self.runs[-1] = (start, end)
        else:
            self.runs.append((start, end))
        group, rules = self._group, self._rules
        if group and group[-1][1] >= start:
            group[-1] = (group[-1][0], max(end, group[-1][1]))
        else:
            if group and start - group[-1][1] >= rules.min_pause:
                left, right = self._widened(group[0][0], group[-1][1], self._border(group[-1][1], start))
                if right - left >= rules.shortest:
                    yield from self._place(left, right)
                    group.clear()
            group.append((start, end))
        while group[-1][1] - group[0][0] > rules.unpadded:
            yield from self._cut()

    def _cut(self) -> Iterator[tuple[int, int]]:
        """Parts the group at its deepest pause and places the first part."""
        group, rules = self._group, self._rules
        begin, end = group[0][0], group[-1][1]
        first, last = begin + rules.shortest, min(begin + rules.unpadded, end - rules.shortest)
        costs = np.array(self._costs[first - 1 - self._costs_from : last + 2 - self._costs_from])
        # 96 ms around each candidate, so that one low frame is no pause; the later of equals makes fewer pieces
        smooth = np.convolve(costs, np.ones(3), "same")[1 : last + 2 - first]
        at = last - int(np.argmin(smooth[::-1]))
        before = [run for run in group if run[0] < at]
        after = [run for run in group if run[0] >= at]
        if before[-1][1] > at:
            after.insert(0, (at, before[-1][1]))
        stop = min(max(before[-1][1], first), at)
        left, right = self._widened(begin, stop, self._border(stop, after[0][0]))
        yield from self._place(left, right)
        self._group[:] = after

    def _settle(self) -> Iterator[tuple[int, int]]:
        """Places a group that nothing can join any more, and lets go of what nothing can change any more."""
        group, rules = self._group, self._rules
        if group and self._run != group[-1][0]:
            start, end = group[0][0], group[-1][1]
            silent_to = self._now if self._run is None else self._run
            if silent_to - end >= max(rules.min_pause, rules.pad, rules.shortest):
                yield from self._place(*self._widened(start, end, silent_to))
                group.clear()
        if self._held is not None and self._earliest() - self._taken >= rules.shortest + rules.pad:
            yield self._held
            self._held = None
        if (unused := self._earliest() - 1 - self._costs_from) > 256:
            del self._costs[:unused]
            self._costs_from += unused

    def _border(self, end: int, start: int) -> int:
        """How far right a piece that ends at `end` may reach when the next begins at `start`."""
        return start - min(self._rules.pad, (start - end) // 2)

    def _widened(self, start: int, end: int, limit: int) -> tuple[int, int]:
        """Return the piece with its padding and, if it is short, with what it can get from both sides."""
        rules = self._rules
        left, right = max(self._taken, start - rules.pad), min(limit, end + rules.pad)
        missing = rules.shortest - (right - left)
        if missing > 0:
            left = max(self._taken, left - (missing + 1) // 2)
            right = min(limit, max(right, left + rules.shortest))
            left = max(self._taken, min(left, right - rules.shortest))
        return left, right

    def _place(self, left: int, right: int) -> Iterator[tuple[int, int]]:
        if self._held is not None:
            yield self._held
        self._held = (left, right)
        self._taken = right
