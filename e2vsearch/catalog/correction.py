"""Corrects a damaged vector: its CRC-32 says when one is found that is what was stored.

Two sources of candidates: the row itself with one bit turned back, since a single changed bit is what failing memory
and disks leave, and the unit vector that a generation of the index holds. A CRC-32 tells any two changed bits of up to
11 kB from one (Koopman, 2002), so two are never taken for another one; a random block passes for a single changed bit
once in 100,000 times at 1024-d.
"""

from __future__ import annotations

import itertools
import zlib

import numpy as np
from numpy.typing import NDArray

_SAME = 1e-6  # relative: a unit vector of float32 is rounded by up to 6e-8
_COMBINATIONS = 1 << 16  # of roundings that are tried: 0.2 s


def corrected(content: bytes, crc32: int, unit: NDArray[np.float32] | None) -> tuple[bytes, int] | None:
    """Return a vector and its checksum as they were stored, None where that cannot be told.

    Args:
        content: the damaged vector, little-endian float32.
        crc32: the checksum stored beside it.
        unit: ``(dim,)`` the same vector scaled to length one, as an index holds it; None where there is none.
    """
    if (zlib.crc32(content) ^ crc32).bit_count() == 1:  # the bit is the checksum's
        return content, zlib.crc32(content)
    found = _one_bit(content, crc32)
    if found is None and unit is not None:
        found = _scaled(content, crc32, unit)
    return None if found is None else (found, crc32)


def _one_bit(content: bytes, crc32: int) -> bytes | None:
    candidate = bytearray(content)
    for at in range(len(candidate)):  # 32,768 bits of 1024-d take 0.1 s
        right = candidate[at]
        for bit in range(8):
            candidate[at] = right ^ 1 << bit
            if zlib.crc32(candidate) == crc32:
                return bytes(candidate)
        candidate[at] = right
    return None


def _scaled(content: bytes, crc32: int, unit: NDArray[np.float32]) -> bytes | None:
    """Replace what differs from the unit vector, scaled to the length of what does not, in each way it may round."""
    if zlib.crc32(unit.astype("<f4").tobytes()) == crc32:
        return unit.astype("<f4").tobytes()
    if len(content) != 4 * len(unit):
        return None
    row = np.frombuffer(content, "<f4").copy()
    wide, there = unit.astype(np.float64), np.isfinite(row) & (unit != 0)
    if not there.any():
        return None
    expected = wide * np.median(row[there].astype(np.float64) / wide[there])
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero(~(np.abs(row - expected) <= _SAME * np.abs(expected)))
    close = ~np.isin(np.arange(len(row)), wrong) & there
    if not wrong.size or not close.any():
        return None
    # of the components that are right, the length more exactly than from any one of them
    length = float(row[close].astype(np.float64) @ wide[close] / (wide[close] @ wide[close]))
    choices = [_roundings(float(wide[at]), length, unit[at]) for at in wrong.tolist()]
    if np.prod([len(each) for each in choices], dtype=np.float64) > _COMBINATIONS:
        return None
    for values in itertools.product(*choices):
        row[wrong] = values
        candidate = row.tobytes()
        if zlib.crc32(candidate) == crc32:
            return candidate
    return None


def _roundings(component: float, length: float, unit: np.float32) -> list[np.float32]:
    """Return the float32 numbers that, divided by the length, are rounded to a component of the unit vector."""
    near = np.float32(component * length)
    around = (np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf)))
    return [each for each in around if abs(float(each) / length - component) <= float(np.spacing(np.abs(unit)))]
