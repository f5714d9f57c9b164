"""Files of named vectors: ``.npy`` with a list of ids, or Parquet."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.errors import VectorFileError, first_line, missing_extra

_IDS, _VECTORS = "segment", "vector"  # columns of Parquet


def read(path: Path, ids: Path | None = None) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Read segments' numbers ``(n,)`` and their vectors ``(n, dim)``.

    Args:
        path: ``.npy``, or ``.parquet`` with columns ``segment`` (``seg:12`` or 12) and ``vector`` (a list of numbers).
        ids: of ``.npy``, the segment of each row: a text with one a line, or an ``.npy`` of whole numbers.

    Raises:
        VectorFileError: a file that cannot be read, or holds something else.
        MissingExtra: Parquet without pyarrow.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet(path)
    if suffix != ".npy":
        raise VectorFileError(f"{path}: named vectors come as .npy or .parquet - save them as one of these")
    if ids is None:
        raise VectorFileError(f"{path}: has rows without segments - name these with --ids FILE")
    return _ids(ids), _array(path)


def vector(path: Path) -> NDArray[Any]:
    """Read one vector ``(dim,)`` from an ``.npy`` file, to be a reference.

    Raises:
        VectorFileError: it cannot be read, or holds something else.
    """
    array = _array(path)
    if array.ndim not in (1, 2) or array.size != array.shape[-1]:
        raise VectorFileError(f"{path}: holds an array of shape {array.shape} - a reference is one vector (dim,)")
    return array.ravel()


def _array(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise VectorFileError(f"{path}: cannot be read: {first_line(error)} - save it again") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise VectorFileError(f"{path}: holds no numbers - save a plain array with numpy.save")
    return array


def _ids(path: Path) -> NDArray[np.int64]:
    if path.suffix.lower() == ".npy":
        array = _array(path)
        if array.ndim != 1 or array.dtype.kind == "f":
            raise VectorFileError(f"{path}: holds {array.dtype} of shape {array.shape}, not one whole number a row")
        return array.astype(np.int64)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VectorFileError(f"{path}: cannot be read: {error} - give a text with one id a line") from error
    return _numbers(path, (line.strip() for line in lines if line.strip()))


def _numbers(path: Path, ids: Iterable[Any]) -> NDArray[np.int64]:
    numbers = []
    for each in ids:
        digits = str(each).removeprefix("seg:")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
            raise VectorFileError(f"{path}: {each!r} is no id of a segment - write seg:12, or 12")
        numbers.append(int(digits))
    return np.array(numbers, np.int64)


def _parquet(path: Path) -> tuple[NDArray[np.int64], NDArray[Any]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise missing_extra("reading Parquet", "map") from error
    try:
        table = parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise VectorFileError(f"{path}: is no Parquet that can be read: {first_line(error)}") from error
    for name in (_IDS, _VECTORS):
        if name not in table.column_names:
            raise VectorFileError(f"{path}: has no column {name} - it takes '{_IDS}' and '{_VECTORS}'")
    column = table.column(_VECTORS).combine_chunks()
    try:
        # one buffer for all: a list a row would take a hundred times as long
        vectors = np.asarray(column.flatten(), np.float32).reshape(len(column), -1)
        whole = column.null_count == 0 and len(set(np.diff(np.asarray(column.offsets)).tolist())) <= 1
    except AttributeError:  # lists of one fixed length have no offsets
        whole = column.null_count == 0
    except (TypeError, ValueError, pyarrow.ArrowException):
        whole = False
    if not whole:
        raise VectorFileError(f"{path}: the column {_VECTORS} holds no lists of numbers of one length - correct it")
    return _numbers(path, table.column(_IDS).to_pylist()), vectors
