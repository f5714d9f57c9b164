"""Clips of any lengths are put into batches of about one length each, within a budget of memory."""

from __future__ import annotations

from collections.abc import Sequence

CPU_BUDGET = 1000
"""Weighted frames of one batch on a core, 14 s of sound: by then the weights are read from memory seldom enough. With
2 s clips of the large shape one at a time cost 0.50 CPU s each, two 0.475, four 0.470, eight 0.460."""

GPU_BUDGET = 32_000
"""Weighted frames of one batch on a GPU: 70 clips of 6 s, at most 4 GB of activations and biases of the large shape."""

LEAST_FULL = 0.92
"""Of a batch's frames so many are some clip's own; the rest is padding, well under the 10 % that is allowed."""

_LEAST_SHARE = 250
"""Weighted frames below which work is not shared out any further: two clips of 2 s."""

_ATTENTION_FRAMES = 1000
"""A frame's share of the attention bias grows with the clip: 16 heads x 4 bytes a frame it attends to, so that 1000
frames make it as large as what else a frame of the large shape takes, some 60 kB."""


def weight(frames: int) -> float:
    """Return what a clip of so many frames counts for in a budget: its frames, and its attention's memory."""
    return frames * (1 + frames / _ATTENTION_FRAMES)


def plan_batches(frames: Sequence[int], budget: float, shares: int = 1) -> list[list[int]]:
    """Return batches of clips, as positions in `frames`, the longest clips first.

    Args:
        frames: the length of each clip, at least 1.
        budget: the most that a batch may weigh, by `weight` of its longest clip times its clips; 0 for one clip each.
        shares: how many will take batches at a time: few clips are spread over all of them.

    Returns:
        Every position once. A clip that is too heavy for the budget by itself is a batch of its own.
    """
    order = sorted(range(len(frames)), key=lambda position: -frames[position])  # stable: no accident of ties
    if shares > 1:
        budget = min(budget, max(_LEAST_SHARE, sum(map(weight, frames)) / shares))
    batches: list[list[int]] = []
    longest = held = 0
    for position in order:
        clips = len(batches[-1]) + 1 if batches else 0
        held += frames[position]
        if not clips or clips * weight(longest) > budget or held < LEAST_FULL * clips * longest:
            batches.append([])
            longest = held = frames[position]
        batches[-1].append(position)
    return batches
