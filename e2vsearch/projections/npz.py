"""Parameters as ``.npz`` bytes: the same arrays give the same bytes."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_DATE = (1980, 1, 1, 0, 0, 0)  # of every member, so that the same arrays are the same bytes
_MOST_BYTES = 64 << 20


def pack(arrays: Mapping[str, ArrayLike], text: Mapping[str, bytes] | None = None) -> bytes:
    """Return arrays as ``.npz`` bytes of float32, by name, after the members of `text`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (text or {}).items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), content)
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array, "<f4"), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _DATE), member.getvalue())
    return buffer.getvalue()


def read(data: bytes, names: Sequence[str]) -> list[NDArray[np.float32]]:
    """Return the arrays of those names, finite float32; nothing in the bytes is ever unpickled.

    Raises:
        ValueError: the bytes are something else, or damaged.
    """
    if len(data) > _MOST_BYTES:
        raise ValueError(f"{len(data)} bytes are more than a projection has")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            sizes = sum(archive.getinfo(f"{name}.npy").file_size for name in names)
            members = [io.BytesIO(archive.read(f"{name}.npy")) for name in names] if sizes <= _MOST_BYTES else []
        arrays: list[NDArray[Any]] = [np.lib.format.read_array(each, allow_pickle=False) for each in members]
    except Exception as error:  # of zipfile, zlib or numpy: a damaged archive raises anything
        raise ValueError(str(error)) from error
    if not arrays or not all(each.dtype == np.float32 and np.isfinite(each).all() for each in arrays):
        raise ValueError("not finite float32 arrays")
    return arrays


def digest(name: str, arrays: Sequence[ArrayLike]) -> str:
    """Return a hash of a format's name and arrays, their shapes included."""
    found = hashlib.sha256(name.encode())
    for each in arrays:
        found.update(repr(np.shape(each)).encode() + np.asarray(each, "<f4").tobytes())
    return found.hexdigest()
