"""The projection that a collection would adopt by itself, for evaluations.

An `Adapt` maps the vectors of a collection to the projection that it would adopt for them, without labels: `default`
makes one of an encoder, `of` one of a stored projection.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from e2vsearch.encoders.base import Encoder
from e2vsearch.projections import adapt, network
from e2vsearch.projections.base import RAW, Projection

Adapt = Callable[[NDArray[np.float32]], Projection]
"""``(n, dim)``, the encoder's → the projection adapted to them, to be applied to these or others."""


def raw(vectors: NDArray[np.float32]) -> Projection:  # noqa: ARG001
    """Return the identity, whatever the vectors are."""
    return RAW


def default(encoder: Encoder) -> Adapt:
    """Return the `Adapt` of a collection of an encoder's vectors, each of them a recording of its own.

    Raises:
        AnalysisError: the projection that ships with the encoder is damaged.
    """
    packed, head = encoder.projection(), encoder.head()
    if packed is not None:
        return of(network.unpack(packed))
    if head is None:
        return raw
    return lambda vectors: adapt.adapt_head(head, vectors, np.arange(len(vectors)))


def of(projection: Projection) -> Adapt:
    """Return the `Adapt` of a projection: centred anew where it is a shipped one, otherwise constant."""
    if isinstance(projection, network.NetworkProjection):
        return projection.centred
    return lambda _: projection
