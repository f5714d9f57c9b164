"""A classifier as plain arrays, stored as ``.npz`` bytes.

Standardisation and temperature are folded into the weights, so that a prediction is a matrix product and a softmax
without scikit-learn. It is read without pickle: a stored classifier runs no code.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.projections.base import softmax
from e2vsearch.projections.npz import pack
from e2vsearch.vectors.exact import unit

_MAX_HEADER = 10_000  # bytes; numpy's own limit
_MAX_TEXT = 1 << 20  # bytes of a member that is no array


@dataclass(frozen=True, slots=True)
class Model:
    """Multinomial logistic regression on unit vectors."""

    weights: NDArray[np.float32]  # (labels, dim)
    bias: NDArray[np.float32]  # (labels,)

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return probabilities ``(n, labels)`` for vectors ``(n, dim)`` of any length."""
        return softmax(unit(vectors) @ self.weights.T.astype(np.float64) + self.bias)

    def pack(self, text: Mapping[str, bytes] | None = None) -> bytes:
        """Return the classifier as ``.npz`` bytes, with the members of `text` beside the arrays."""
        return pack({"weights": self.weights, "bias": self.bias}, text)


def unpack(data: bytes, labels: int, dim: int) -> Model:
    """Return the model in ``.npz`` bytes.

    Args:
        data: of `Model.pack`.
        labels: number of labels it must have.
        dim: length of the vectors it must take.

    Raises:
        ValueError: they are something else, of other shapes, or hold values that are no numbers.
    """
    arrays = []
    for name, shape in (("weights", (labels, dim)), ("bias", (labels,))):
        arrays.append(_array(member(data, f"{name}.npy", 4 * math.prod(shape) + _MAX_HEADER), name, shape))
    return Model(*arrays)


def member(data: bytes, name: str, most: int = _MAX_TEXT) -> bytes:
    """Return one member of a zip archive.

    Raises:
        ValueError: no archive, none of that name, or one of more than `most` bytes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = archive.getinfo(name).file_size
            if size > most:
                raise ValueError(f"its {name} would hold {size:,} bytes, more than the {most:,} that can be right")
            with archive.open(name) as file:
                content = file.read(most + 1)  # the directory's sizes need not be true
    except KeyError as error:
        raise ValueError(f"it has no {name}") from error
    except ValueError:
        raise
    except Exception as error:  # of zipfile or zlib: a damaged archive raises anything
        raise ValueError("it is damaged, or no .npz archive") from error
    if len(content) > most:
        raise ValueError(f"its {name} holds more than it says")
    return content


def _array(content: bytes, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    file = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("another version of .npy")
        found, fortran, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=_MAX_HEADER)
    except Exception as error:  # a damaged header raises what tokenizing it raises
        raise ValueError(f"its {name} are no .npy array") from error
    if found != shape or fortran or dtype != np.dtype("<f4"):
        raise ValueError(f"its {name} are {dtype} of shape {found} where float32 of {shape} was due")
    rest = content[file.tell() :]
    if len(rest) != 4 * math.prod(shape):
        raise ValueError(f"its {name} are cut off")
    array = np.frombuffer(rest, "<f4").reshape(shape).astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"its {name} hold NaN or infinite values")
    return array
