"""Vectors on emotion2vec's shapes with planted emotions, voices and words, for tests of projections."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from e2vsearch.projections import discriminant
from e2vsearch.types import Head
from e2vsearch.vectors.exact import unit

DIM, LABELS = 1024, 9  # emotion2vec+'s vectors and the classes of its head
EMOTIONS, VOICES, SENTENCES, TAKES = 5, 8, 6, 2


class Planted:
    """Vectors in which voice and words outweigh emotion, as they do in every encoder's space."""

    def __init__(self, dim: int = DIM, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        directions = np.linalg.qr(rng.standard_normal((dim, EMOTIONS + 8)))[0].T
        self.emotion = directions[:EMOTIONS]
        # of few dimensions, so that voices resemble one another, as sentences do
        self.voice_directions = directions[EMOTIONS : EMOTIONS + 4]
        voice = rng.standard_normal((VOICES, 4)) @ self.voice_directions
        words = rng.standard_normal((SENTENCES, 4)) @ directions[EMOTIONS + 4 :]
        grid = np.indices((EMOTIONS, VOICES, SENTENCES, TAKES)).reshape(4, -1)
        self.emotions, self.voices, self.texts = grid[:3]
        mean = rng.standard_normal(dim) / np.sqrt(dim) * 8  # raw cosines are high, as emotion2vec's are
        noise = rng.standard_normal((self.emotions.size, dim)) / np.sqrt(dim)
        self.vectors = (
            mean + self.emotion[self.emotions] + 3 * voice[self.voices] + 2 * words[self.texts] + noise
        ).astype(np.float32)

    def map(self, vectors: NDArray[np.floating]) -> float:
        found = discriminant.mean_average_precision(unit(vectors), self.emotions, self.voices, 0)
        assert found is not None
        return found[0]

    def leak(self, vectors: NDArray[np.floating]) -> float:
        cosines = unit(vectors) @ unit(vectors).T
        np.fill_diagonal(cosines, -np.inf)
        near = np.argsort(-cosines, axis=1)[:, :10]
        return float((self.voices[near] == self.voices[:, None]).mean())

    def head_beside(self, voice: float) -> Head:
        """The head, of which so much of each class follows a mixture of voices, as if it had met few of them."""
        rng = np.random.default_rng(2)
        mixed = rng.standard_normal((LABELS, 4)) @ self.voice_directions
        mixed[EMOTIONS:] = 0.0
        weights = self.head + 10.0 * voice * mixed
        return Head(weights.astype(np.float32), rng.standard_normal(LABELS).astype(np.float32))

    @property
    def head(self) -> NDArray[np.float64]:
        """Nine classes of which the first five are the planted emotions."""
        rng = np.random.default_rng(1)
        rest = rng.standard_normal((LABELS - EMOTIONS, self.emotion.shape[1])) * 0.01 / np.sqrt(self.emotion.shape[1])
        return np.concatenate([self.emotion, rest]) * 10.0
