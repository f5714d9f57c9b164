"""Projections: maps from the encoder's vectors to those that a collection compares.

In every encoder's space the nearest neighbours are the same speaker and the same words. A projection keeps what
separates emotions and sheds the rest. The catalog holds the encoder's vectors; a projection is applied when an index
reads them (`view.ProjectedVectors`) and to the vectors of a query, so changing it is an index build and never a new
ingest.

`RAW` is the identity. All others map a vector to an emotion part and a nuance part, each of length one, side by side.
`NetworkProjection` ships with an encoder, as `light`'s does, and is centred on the collection. `LinearProjection` is
made of a classifier's head and a collection's own scatter, without labels (`head`), or of labelled segments
(`discriminant`). `adapt.default` is the one that a collection adopts by itself.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Projection(Protocol):
    """A map from an encoder's vectors to those that are compared, by cosine.

    It takes the encoder's vectors, of any length: to `NetworkProjection` that matters. One of zeros stays zeros.
    """

    @property
    def kind(self) -> str:
        """How it was made: ``raw``, ``shipped``, ``head`` or ``fitted``."""

    @property
    def name(self) -> str:
        """Its name, unique in a collection."""

    @property
    def revision(self) -> str:
        """A hash of all its parameters: vectors of two revisions are never compared."""

    @property
    def dim_in(self) -> int | None:
        """Length of the vectors that it takes; None for any."""

    @property
    def dim_emotion(self) -> int:
        """How many of the output's first numbers are the emotion part; 0 if there is none."""

    def dim_out(self, dim: int) -> int:
        """Return the length of projected vectors, for vectors of that length."""

    def apply(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Map ``(n, dim_in)`` to ``(n, dim_out)`` float32, each row independently of the others.

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
        """Return the same length."""
        return dim

    def apply(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return the same vectors."""
        return np.asarray(vectors, np.float32)


RAW: Projection = Raw()
"""The encoder's own vectors: always there, and in use until another projection is chosen."""


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows ``(n, k)`` of logits as probabilities, in float64."""
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
