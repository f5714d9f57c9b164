"""Projections: what a collection compares instead of the encoder's own vectors. Knows arrays, no storage, no audio.

In every encoder's space the nearest neighbours are the same voice and the same words. A projection keeps what tells
emotions apart and sheds the rest. Vectors are stored as the encoder made them; a projection is applied when an index
reads them (`source.Projected`) and when a query is made, so changing it is an index build and never a new ingest.

`RAW` compares the encoder's own vectors. All others make two views of a vector, what it says of emotion and what is
left of nuance, each of length one, side by side. `Shipped` comes with the encoder, as `light`'s does, and is centred on
the collection. `Parts` are linear: `head` makes them of a classifier's weights and a collection's own scatter, without
labels; `fitted` of labelled moments. Which one a collection adopts by itself, `adapt.default` says.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from e2vsearch.errors import SpaceMismatch


class Projection(Protocol):
    """A map from an encoder's vectors to those that are compared, by cosine.

    Vectors go in as the encoder made them, of whatever length: to `Shipped` it matters. One of zeros stays zeros.
    """

    @property
    def kind(self) -> str:
        """How it was made: ``raw``, ``shipped``, ``head`` or ``fitted``."""

    @property
    def name(self) -> str:
        """What people call it; unique in a collection."""

    @property
    def revision(self) -> str:
        """A hash of all its parameters: what was indexed under one is never compared with what another one made."""

    @property
    def dim_in(self) -> int | None:
        """Length of the vectors that it takes; None for any."""

    @property
    def dim_emotion(self) -> int:
        """How many of the numbers that come out, the first ones, are the emotion's part; 0 if that cannot be told."""

    def dim_out(self, dim: int) -> int:
        """Length of what it makes of vectors of that length."""

    def apply(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """``(n, dim_in)`` to ``(n, dim_out)`` float32, row by row the same whatever the other rows are.

        Raises:
            SpaceMismatch: vectors of another length.
        """


class Raw:
    """The encoder's own vectors."""

    kind = "raw"
    name = "raw"
    revision = "raw"
    dim_in = None
    dim_emotion = 0

    def dim_out(self, dim: int) -> int:
        """As they are."""
        return dim

    def apply(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """As they are."""
        return np.asarray(vectors, np.float32)


RAW: Projection = Raw()
"""Always there, for comparison, and in use until another one is chosen."""


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows ``(n, k)`` as probabilities, in float64."""
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def check(vectors: NDArray[np.floating[Any]], dim: int, name: str) -> None:
    """See that vectors fit a projection.

    Raises:
        SpaceMismatch: they do not.
    """
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise SpaceMismatch(
            f"projection {name!r} takes vectors of {dim} numbers, not {vectors.shape} - "
            "use the encoder whose space it was made in"
        )
