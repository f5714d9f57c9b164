"""The space that vectors live in, and a head that names its classes. Knows nothing of how a vector is made or kept."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

BF16 = "bf16-"
"""What the revisions of spaces begin with whose vectors were made in bfloat16; the rest is that of fp32, cut short."""


@dataclass(frozen=True, slots=True)
class Space:
    """Where vectors live: two vectors may be compared only if their spaces are equal."""

    encoder: str  # the name it is opened by, e.g. "emotion2vec_plus_large"
    revision: str  # a hash of the weights and of the settings that change vectors
    dim: int
    labels: tuple[str, ...] = ()  # emotion classes, in the order of the scores
    projection: str = "raw"  # "raw": the encoder's own vectors, compared by cosine

    def differs_in_precision(self, other: Space) -> bool:
        """Whether one is of bfloat16 and the other is not, of the same weights."""
        half, whole = sorted((self, other), key=lambda each: not each.revision.startswith(BF16))
        return half != whole and half == replace(whole, revision=bf16(whole.revision))

    def __str__(self) -> str:
        return f"{self.encoder}@{self.revision[:12]} ({self.dim}-d, {self.projection})"


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A linear classifier over an encoder's vectors: softmax(weights · vector + biases) gives its scores."""

    weights: NDArray[np.float32]  # (labels, dim)
    biases: NDArray[np.float32]  # (labels,)


def bf16(revision: str) -> str:
    """The revision of the same weights in bfloat16."""
    return f"{BF16}{revision}"[: len(revision)]
