"""Columns of numbers packed for a page: a header in JSON, then the bytes of each."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.maps.columns import ABSENT, PointColumns, ValueColumn

_AXIS = 32767  # of 16-bit coordinates: 1.0


def pack_points(points: PointColumns) -> bytes:
    """Return a map's points: 26 bytes each, and a header with the words that they index."""
    score = np.where(points.emotion_score < 0, ABSENT, np.round(points.emotion_score * 100))
    columns: dict[str, tuple[NDArray[Any], float]] = {
        "id": (_number(points.ids), 1),
        "recording": (_number(points.recordings), 1),
        "x": (np.round(np.clip(points.x, -1, 1) * _AXIS).astype("<i2"), 1 / _AXIS),
        "y": (np.round(np.clip(points.y, -1, 1) * _AXIS).astype("<i2"), 1 / _AXIS),
        "cluster": (points.cluster.astype("<i2"), 1),
        "start_s": (points.start_s.astype("<f4"), 1),
        "end_s": (points.end_s.astype("<f4"), 1),
        "channel": (points.channel, 1),
        "emotion": (points.emotion.codes, 1),
        "emotion_score": (score.astype(np.uint8), 0.01),
        "label": (points.label.codes, 1),
    }
    header = {
        "name": points.name,
        "by": points.by,
        "absent": ABSENT,
        "emotions": points.emotion.words,
        "labels": points.label.words,
        "colours": {str(number): colour for number, colour in points.colours.items()},
    }
    return _pack(header, columns)


def pack_values(column: ValueColumn) -> bytes:
    """Return a value of metadata for each point: an index into the header's `values`, -1 for none."""
    return _pack({"key": column.key, "values": column.values}, {"value": (column.codes.astype("<i4"), 1)})


def _number(numbers: NDArray[np.int64]) -> NDArray[Any]:
    """Return ids in 32 bits; in 64-bit floats, exact to 2^53, where one is larger."""
    return numbers.astype("<u4" if int(numbers.max(initial=0)) < 2**32 else "<f8")


def _pack(header: dict[str, Any], columns: dict[str, tuple[NDArray[Any], float]]) -> bytes:
    header["points"] = len(next(iter(columns.values()))[0])
    header["columns"] = [
        {"name": name, "type": array.dtype.newbyteorder("<").str.lstrip("<|"), "scale": scale}
        for name, (array, scale) in columns.items()
    ]
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 4) % 8)  # so that columns of 64 bits lie on multiples of eight
    parts = [len(text).to_bytes(4, "little"), text]
    for array, _ in columns.values():
        data = np.ascontiguousarray(array).tobytes()
        parts += [data, bytes(-len(data) % 8)]
    return b"".join(parts)
