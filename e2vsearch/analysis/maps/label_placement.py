"""Placement of names so that none lies on another."""

from __future__ import annotations

from collections.abc import Sequence

_STEPS = 160  # of a quarter of a box up and as many down: over a whole picture of thirty lines


def place_labels(
    boxes: Sequence[tuple[float, float, float, float]], frame: tuple[float, float, float, float]
) -> list[tuple[float, float]]:
    """Return centres of boxes moved into the frame, then up or down to the nearest free place, if there is one.

    Args:
        boxes: centre x and y, width and height of each, the most important first.
        frame: left, bottom, right and top.
    """
    left, bottom, right, top = frame
    placed: list[tuple[float, float, float, float]] = []
    for x, y, width, height in boxes:
        inside_x = min(max(x, left + width / 2), right - width / 2)
        moves = [sign * nth * height / 4 for nth in range(_STEPS) for sign in (1, -1)]
        free = (
            y + move
            for move in moves
            if bottom <= y + move - height / 2
            and y + move + height / 2 <= top
            and not any(
                abs(inside_x - other[0]) * 2 < width + other[2] and abs(y + move - other[1]) * 2 < height + other[3]
                for other in placed
            )
        )
        placed.append((inside_x, next(free, y), width, height))
    return [(x, y) for x, y, _, _ in placed]
