"""Small heads, as an encoder ships them, an encoder that ships one, and calls for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from made import save, silence, speech
from numpy.typing import NDArray

from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.projections.network import NetworkProjection
from e2vsearch.projections.speakers import no_speakers

DIM, CLASSES = 16, 2


def made(seed: int = 0, classes: int = CLASSES) -> NetworkProjection:
    rng = np.random.default_rng(seed)

    def any_of(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape).astype(np.float32)

    return NetworkProjection(
        bias=any_of(DIM),
        centre=np.zeros(DIM, np.float32),
        means=3 * any_of(classes, DIM),
        narrow=any_of(2, DIM // 2, 6),
        narrow_bias=any_of(2, 6),
        classes=any_of(2, 6, classes),
        classes_bias=any_of(2, classes),
        anchor=np.full(classes, 1 / classes, np.float32),
        prior=np.full(classes, 1 / classes, np.float32),
        emotion=any_of(12, 5),
        nuance=any_of(DIM, 4),
        speakers=no_speakers(5, 0, DIM),
        share=0.3,
    )


def knowing(means: NDArray[np.float32] | None = None, sharpness: float = 30.0) -> NetworkProjection:
    """One whose last layer tells its classes apart, by what the members make of the mean of each, ``(2, 16)``."""
    one = made() if means is None else replace(made(), means=means, bias=-means.mean(axis=0))
    parts = one._parts(one.means.astype(np.float64))
    apart = sharpness * (parts[:, 0] - parts[:, 1])  # (members, d)
    middles = np.einsum("md,mcd->m", apart, parts) / 2
    return replace(
        one,
        classes=np.stack([apart, -apart], axis=2).astype(np.float32),
        classes_bias=np.stack([-middles, middles], axis=1).astype(np.float32),
    )


class Ships(FakeEncoder):
    """The fake encoder, with a projection that rests far from what it makes of anything here."""

    def projection(self) -> bytes:
        return made().pack()


def vectors(n: int, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)


def calls(folder: Path, count: int, start: int = 0) -> Path:
    """Calls of two turns each, with a pause between them that splits them."""
    folder.mkdir(exist_ok=True)
    for number in range(start, start + count):
        turns = [speech(1.5, seed=2 * number + turn, pitch_hz=90.0 + 7 * number) for turn in range(2)]
        save(folder / f"{number}.wav", np.concatenate([turns[0], silence(1.5), turns[1]]))
    return folder
