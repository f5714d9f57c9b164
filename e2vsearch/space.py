"""The space that vectors live in. Knows names and sizes, nothing of how a vector is made or kept."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Space:
    """Where vectors live: two vectors may be compared only if their spaces are equal."""

    encoder: str  # the name it is opened by, e.g. "emotion2vec_plus_large"
    revision: str  # a hash of the weights and of the settings that change vectors
    dim: int
    labels: tuple[str, ...] = ()  # emotion classes, in the order of the scores
    projection: str = "raw"  # "raw": the encoder's own vectors, compared by cosine

    def __str__(self) -> str:
        return f"{self.encoder}@{self.revision[:12]} ({self.dim}-d, {self.projection})"
