"""The linear projection behind `head` and `discriminant`: an emotion part and a nuance part of a vector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.errors import AnalysisError
from e2vsearch.projections.npz import digest, pack, read
from e2vsearch.vectors.exact import check_dim, unit

NUANCE_DIMS = 128
"""Most numbers that nuance is kept in: 128 principal directions of a standardised space hold all but a few per cent of
it, and an index of 1024-d vectors shrinks to an eighth."""

_FORMAT = "parts-1"
_MEMBERS = ("centre", "emotion", "nuance", "share")


@dataclass(frozen=True, slots=True, eq=False)
class LinearProjection:
    """Two linear views of a unit vector, each of length one, side by side.

    With E and R the views and s the share, a vector x becomes ::

        u = x / |x|,   (√(1-s) · unit((u - centre) E),  √s · unit((u - centre) R))

    so that the cosine of two projected vectors is (1-s) times that of their emotion parts plus s times that of their
    nuance parts.
    """

    kind: str
    name: str
    centre: NDArray[np.float32]  # (dim,)
    emotion: NDArray[np.float32]  # (dim, e)
    nuance: NDArray[np.float32]  # (dim, r); r may be 0
    share: float  # of nuance, 0 to 1

    @property
    def revision(self) -> str:
        """A hash of what is computed."""
        return digest(_FORMAT, (self.centre, self.emotion, self.nuance, np.float32(self.share)))

    @property
    def dim_in(self) -> int:
        """Length of the vectors that it takes."""
        return int(self.centre.size)

    @property
    def dim_emotion(self) -> int:
        """How many of the output's first numbers are the emotion part."""
        return int(self.emotion.shape[1])

    def dim_out(self, dim: int) -> int:  # noqa: ARG002
        """Return the length of projected vectors."""
        return int(self.emotion.shape[1] + self.nuance.shape[1])

    def apply(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Map ``(n, dim)`` to ``(n, e + r)``.

        In float64 within: BLAS rounds a row by how many there are beside it, and an index compares its vectors with
        those read again to 1e-6.

        Raises:
            SpaceMismatch: vectors of another length.
        """
        check_dim(vectors, self.dim_in, f"projection {self.name!r}")
        known = np.any(vectors, axis=1, keepdims=True)
        away = (unit(vectors) - self.centre) * known
        emotion = math.sqrt(1.0 - self.share) * unit(away @ self.emotion.astype(np.float64))
        nuance = math.sqrt(self.share) * unit(away @ self.nuance.astype(np.float64))
        return np.concatenate([emotion, nuance], axis=1).astype(np.float32)

    def pack(self) -> bytes:
        """Return the projection as ``.npz`` bytes: the same parameters give the same bytes."""
        return pack(self.members)

    @property
    def members(self) -> dict[str, NDArray[np.floating[Any]]]:
        """The parameters by their names in the bytes."""
        arrays: tuple[NDArray[np.floating[Any]], ...] = (
            self.centre, self.emotion, self.nuance, np.array([self.share])
        )  # fmt: skip
        return dict(zip(_MEMBERS, arrays, strict=True))


def unpack(data: bytes, kind: str, name: str, dim: int) -> LinearProjection:
    """Return the projection in ``.npz`` bytes.

    Args:
        data: of `LinearProjection.pack`; nothing in them is ever unpickled.
        kind: of the projection.
        name: of the projection.
        dim: length of the vectors it must take.

    Raises:
        AnalysisError: they are something else, or of another shape.
    """
    damaged = AnalysisError(f"projection {name!r} is damaged - fit it again: e2vsearch projection fit --force")
    try:
        centre, emotion, nuance, share = read(data, _MEMBERS)
    except ValueError as error:
        raise damaged from error
    shapes = [each.shape for each in (centre, emotion, nuance, share)]
    fits = shapes == [(dim,), (dim, *emotion.shape[1:]), (dim, *nuance.shape[1:]), (1,)]
    if (
        not fits
        or emotion.ndim != 2
        or nuance.ndim != 2
        or not 0.0 <= share[0] <= 1.0
        or not emotion.shape[1] + nuance.shape[1]
    ):
        raise damaged
    return LinearProjection(kind, name, centre, emotion, nuance, float(share[0]))


def nuance_map(away: NDArray[np.float64], removed: NDArray[np.float64] | None = None) -> NDArray[np.float32]:
    """Return a standardised, shortened map for nuance: ``(dim, r)``.

    Each number is divided by its deviation here, the one transform without labels that helps every encoder (+.02 to
    +.17 mAP on EMO-DB), then rotated to the principal directions.

    Args:
        away: ``(n, dim)`` unit vectors less their centre.
        removed: ``(dim, m)`` orthonormal directions of the standardised space to leave out.
    """
    scale = deviations(away)
    standard = away / scale
    if removed is not None:
        standard = standard - (standard @ removed) @ removed.T
    values, directions = np.linalg.eigh(standard.T @ standard / max(len(away), 1))
    kept = np.argsort(values)[::-1][:NUANCE_DIMS]
    kept = kept[values[kept] > 1e-9 * max(values.max(), 1e-30)]
    # what is removed is orthogonal to every direction that is kept, and need not be removed again
    view: NDArray[np.float32] = (directions[:, kept] / scale[:, None]).astype(np.float32)
    return view


def deviations(away: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard deviation of each number ``(dim,)``, at least a thousandth of the largest."""
    found = np.sqrt((away**2).mean(axis=0))
    floor = 1e-3 * float(found.max(initial=0.0))
    return np.maximum(found, floor) if floor > 0 else np.ones_like(found)
