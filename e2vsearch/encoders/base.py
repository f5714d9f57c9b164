"""The encoder protocol: 16 kHz signals to vectors of one space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from e2vsearch.audio import SAMPLING_RATE_HZ
from e2vsearch.errors import BadSignal, EncoderError
from e2vsearch.types import REDUCED_PRECISIONS, Head, Space

Precision = Literal["fp32", "bf16", "int8", "bf16-as-fp32"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
LIGHT_CARD = "light.json"
"""What a folder of light's weights is known by: the card that lies beside them."""

MAX_SIGNAL_S = 30.0
"""No signal longer than this reaches a network: attention memory grows with the square of the length."""

EMOTION2VEC_NAMES = (
    "emotion2vec_plus_large",
    "emotion2vec_plus_base",
    "emotion2vec_plus_seed",
    "emotion2vec_base",
)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What an encoder makes of n signals."""

    vectors: NDArray[np.float32]  # (n, dim), as the encoder made them, not normalised
    scores: NDArray[np.float32] | None = None  # (n, labels) class probabilities, None without a head


class Encoder(ABC):
    """Turns spoken audio into vectors.

    Attributes:
        space: name, revision, dimension and labels; pinned to a collection.
        min_samples: the shortest signal the network can take, in samples at 16 kHz.
        frame_rate_hz: rows a second that `frames` gives.
        blocks: rows that `layers` gives, one a transformer block; 0: it gives none.
        opened_by: what `open` takes to make it again, where that is not the space's encoder: a model folder's path.
        calls_at_once: how many calls of `encode` at a time suit one that joins their signals; 0: one a core.
    """

    space: Space
    min_samples: int = 400
    frame_rate_hz: float = 50.0
    blocks: int = 0
    opened_by: str = ""
    calls_at_once: int = 0

    def encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        """Return one vector a signal, each independent of the others in the call.

        Args:
            signals: each ``(samples,)`` float32 at 16 kHz, finite, `min_samples` to `MAX_SIGNAL_S` long.

        Returns:
            Vectors ``(n, dim)`` float32 and, with a classifier head, scores ``(n, labels)``.

        Raises:
            BadSignal: wrong shape, dtype or length, or NaN or infinite samples.
            EncoderError: the network gave something else than finite vectors of its own dimension.
        """
        for signal in signals:
            self._check(signal)
        if not signals:
            scores = np.empty((0, len(self.space.labels)), np.float32) if self.space.labels else None
            return Embeddings(np.empty((0, self.space.dim), np.float32), scores)
        embeddings = self._encode(signals)
        if embeddings.vectors.shape != (len(signals), self.space.dim) or embeddings.vectors.dtype != np.float32:
            raise EncoderError(
                f"encoder {self.space.encoder} gave {embeddings.vectors.dtype} vectors of shape "
                f"{embeddings.vectors.shape} where float32 {(len(signals), self.space.dim)} was due"
            )
        if not np.isfinite(embeddings.vectors).all():
            raise EncoderError(f"encoder {self.space.encoder} gave vectors that are not finite: check its weights")
        return embeddings

    def frames(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the vectors of one signal over time, ``(frames, dim)`` float32, `frame_rate_hz` rows a second.

        Raises:
            BadSignal: as for `encode`.
            EncoderError: it makes one vector a signal, and none a frame.
        """
        self._check(signal)
        return self._frames(signal)

    def layers(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean over time of one signal after each transformer block, ``(blocks, dim)`` float32, in order.

        The last row is the vector that `encode` gives.

        Raises:
            BadSignal: as for `encode`.
            EncoderError: it gives its vector alone (`blocks` is 0).
        """
        self._check(signal)
        return self._layers(signal)

    def head(self) -> Head | None:
        """Return the classifier that makes its scores; None where it has none, or one that is not linear.

        Where no projection ships with the encoder, a collection of its vectors is searched through that, adapted to
        itself (`e2vsearch.projections.adapt`).
        """
        return None

    def projection(self) -> bytes | None:
        """Return the projection that ships with it, for `e2vsearch.projections.network.unpack`; None where none does.

        A collection of its vectors is searched through that, centred on itself, unless another is put to use.
        """
        return None

    @abstractmethod
    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        """Encode one or more checked signals."""

    def _frames(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: ARG002 - for those that can
        """Return `frames` of a checked signal."""
        raise EncoderError(f"{self.space.encoder} makes one vector a signal and none a frame - ask for utterances")

    def _layers(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: ARG002 - for those that can
        """Return `layers` of a checked signal."""
        raise EncoderError(
            f"{self.space.encoder} gives one vector a signal and none a block - take emotion2vec_plus_large, or the "
            "path of an emotion2vec folder"
        )

    def _check(self, signal: NDArray[np.float32]) -> None:
        if signal.ndim != 1 or signal.dtype != np.float32:
            raise BadSignal(
                f"an encoder takes one channel of float32 samples, got {signal.dtype} of shape {signal.shape}; "
                "read audio with e2vsearch.audio.read and pass one row of it"
            )
        if signal.size < self.min_samples:
            raise BadSignal(
                f"{signal.size} samples are too short for {self.space.encoder}, which needs {self.min_samples} "
                f"({self.min_samples / SAMPLING_RATE_HZ:.3f} s)"
            )
        if signal.size > MAX_SIGNAL_S * SAMPLING_RATE_HZ:
            raise BadSignal(
                f"{signal.size / SAMPLING_RATE_HZ:.1f} s is too long for one vector, at most {MAX_SIGNAL_S:.0f} s; "
                "cut it with e2vsearch.speech.segments"
            )
        if not np.isfinite(signal).all():
            raise BadSignal("the signal has NaN or infinite samples; read it with e2vsearch.audio.read")


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """How an encoder is opened. Threads and device do not change what its vectors are; precision does.

    With bf16, emotion2vec multiplies in bfloat16, about twice as fast. That changes the third digit, and so makes
    another space, with a revision of its own: a collection of fp32 refuses such vectors like any other encoder's. With
    bf16-as-fp32 they are given the space of fp32: on request, the two may be mixed. With int8, products are of 8 bits,
    on CPUs alone; that changes the second digit, and makes a third space.
    """

    threads: int = 0  # for one signal; 0: what suits the encoder (emotion2vec all cores, light one)
    device: str = "cpu"
    precision: Precision = "fp32"  # other encoders than emotion2vec know no other


def precision_of(space: Space | None) -> Precision:
    """Return the precision that makes more vectors of a space."""
    return "fp32" if space is None else cast(Precision, space.precision)


def in_precision(revision: str, precision: Precision) -> str:
    """Return the revision of the weights that have this one in fp32, in another precision."""
    return f"{precision}-{revision}"[: len(revision)] if precision in REDUCED_PRECISIONS else revision
