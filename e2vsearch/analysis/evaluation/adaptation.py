"""What a collection is searched through when nobody chooses: the one place where that is made for an evaluation.

`default` makes it of an encoder, `of` of a projection that a collection stores. Both give an `Adapt`: vectors that a
collection would hold in, the projection that it would have adopted for them out, without labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from e2vsearch.encoders.base import Encoder
from e2vsearch.projections import adapt, network
from e2vsearch.projections.base import RAW, Projection

Adapt = Callable[[NDArray[np.float32]], Projection]
"""``(n, dim)`` as the encoder made them → the projection adapted to them; it is applied to these or to others."""


def raw(vectors: NDArray[np.float32]) -> Projection:  # noqa: ARG001 - an Adapt
    """Return the encoder's own vectors, whatever the collection holds."""
    return RAW


def default(encoder: Encoder) -> Adapt:
    """What a collection of this encoder's vectors adopts by itself, each of them being a recording of its own.

    Raises:
        AnalysisError: the projection that ships with the encoder is damaged.
    """
    packed, head = encoder.projection(), encoder.head()
    if packed is not None:
        return of(network.unpack(packed))
    if head is None:
        return raw
    return lambda vectors: adapt.of_collection(head, vectors, np.arange(len(vectors)))


def of(projection: Projection) -> Adapt:
    """A projection adapted anew to the vectors at hand, where it is one that adapts; otherwise as it is."""
    if isinstance(projection, network.NetworkProjection):
        return projection.centred
    return lambda _: projection
