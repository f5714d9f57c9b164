"""A pinned reference embedding shows whether an encoder still computes what it did when a collection was made.

A space's revision is a hash of weights and settings. It does not cover the code that computes with them (another
version of torch, onnxruntime or FunASR) nor the processor, and vectors that drift from those that are stored make wrong
answers without an error. So the vector of one made clip of a second is kept with the space, and compared whenever an
encoder is opened for the collection: 20 ms with ``light``, 0.2 s with emotion2vec_plus_large on two cores.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog.space_check import mismatch
from e2vsearch.catalog.writer import Catalog
from e2vsearch.encoders.base import Encoder, precision_of
from e2vsearch.encoders.registry import SAVED, names, open_encoder
from e2vsearch.errors import EncoderError, SpaceMismatch
from e2vsearch.settings import AUTO, Settings
from e2vsearch.types import Space

CLIP_S = 1.0
TOLERANCE = 0.02
"""How far apart two vectors of the clip may be, as a share of their length. Threads and batches move a vector of
emotion2vec by 1e-7 of it, other float32 kernels by 1e-5, bfloat16 by 6e-3 (cosine .99998); one of ``light`` moves by
2e-3 when onnxruntime orders its int8 sums otherwise. Wrong weights or another front end move either by more than 0.1;
at 0.02 the cosine is still .9998."""


def reference_clip() -> NDArray[np.float32]:
    """Return a second that is like a voice, ``(samples,)`` at 16 kHz: gliding harmonics that swell, and some hiss.

    Of sines and a counter alone, rounded to 16 bits: the same bits with any numpy, which promises them of its random
    numbers and of its sines' last digit to nobody.
    """
    from e2vsearch.audio import SAMPLING_RATE_HZ

    at = np.arange(int(CLIP_S * SAMPLING_RATE_HZ), dtype=np.int64)
    seconds = at / SAMPLING_RATE_HZ
    phase = 2 * np.pi * (140.0 * seconds + 30.0 * seconds**2)  # 140 Hz, gliding up to 200
    voice = sum((np.sin(k * phase) / k for k in range(1, 12)), np.zeros(len(at)))
    swell = 0.55 - 0.45 * np.cos(2 * np.pi * 4.0 * seconds)  # four syllables a second
    hiss = (at * 1_103_515_245 + 12_345) % 2_147_483_648 / 1_073_741_824 - 1
    return (np.round((0.15 * voice * swell + 0.01 * hiss) * 32_768) / 32_768).astype(np.float32)


def pin_encoder(catalog: Catalog, encoder: Encoder) -> None:
    """Pin a collection to an encoder's space, with its reference embedding and the projection that ships with it.

    A collection that is pinned already is compared.

    Raises:
        SpaceMismatch: it is pinned to another space.
    """
    before = catalog.space
    catalog.pin(encoder.space, encoder.opened_by or encoder.space.encoder)
    from e2vsearch.projections import refit

    refit.install(catalog, encoder)
    if catalog.reference_embedding() is not None:
        if before is None:  # another process has pinned it since the encoder was opened
            check_encoder(catalog, encoder)
        return
    pin_reference(catalog, encoder)


def pin_reference(catalog: Catalog, encoder: Encoder) -> None:
    """Store the encoder's vector of the reference clip with the catalog's space, unless there is one."""
    vector = _embedding(encoder) if catalog.reference_embedding() is None else None
    if vector is not None:
        catalog.store_reference_embedding(vector)


def check_encoder(catalog: Catalog, encoder: Encoder) -> float | None:
    """Return the distance of the encoder's vector of the clip to the reference embedding; None where there is none.

    Raises:
        SpaceMismatch: farther than `TOLERANCE`.
    """
    expected = catalog.reference_embedding() if catalog.space is not None else None
    found = _embedding(encoder) if expected is not None else None
    if expected is None or found is None:
        return None
    return compare_embeddings(encoder.space, expected, found, "here what it did when this collection was made")


def compare_embeddings(space: Space, expected: NDArray[np.float32], found: NDArray[np.float32], where: str) -> float:
    """Return the distance of two embeddings of the clip, as a share of the first one's length.

    Args:
        space: of both.
        expected: ``(dim,)``.
        found: ``(dim,)``.
        where: who made which, for the message.

    Raises:
        SpaceMismatch: farther than `TOLERANCE`.
    """
    apart = float(np.linalg.norm(found - expected) / (np.linalg.norm(expected) or 1.0))
    if not apart <= TOLERANCE:  # nor if it is NaN
        raise SpaceMismatch(
            f"{space} does not compute {where}: its test clip's vector "
            f"is off by {apart:.1%}, {TOLERANCE:.0%} at most is right - use the versions of torch, funasr and "
            "onnxruntime, or the machine, that it was ingested with, or start another collection with --index ANOTHER"
        )
    return apart


def _embedding(encoder: Encoder) -> NDArray[np.float32] | None:
    """Return the encoder's vector of the clip; None if it takes no such clip."""
    try:
        vector: NDArray[np.float32] = encoder.encode([reference_clip()]).vectors[0]
    except EncoderError:  # whatever is wrong with it, its first recording will tell
        return None
    return vector


class CheckedEncoder:
    """A collection's encoder, opened when it is first needed, and held against the collection once."""

    def __init__(self, catalog: Catalog, options: Settings, encoder: Encoder | None = None) -> None:
        """Open nothing yet.

        Args:
            catalog: of the collection.
            options: its encoder, device and precision are used where they are set, else the collection's own.
            encoder: one that is open already.
        """
        self._catalog = catalog
        self._options = options
        self._encoder = encoder
        self._checked: Encoder | None = None
        self._lock = threading.RLock()

    def open(self) -> Encoder:
        """Return the encoder.

        Raises:
            EncoderError: it cannot be opened.
            MissingExtra: its packages are not installed.
            SpaceMismatch: it makes vectors of another space, or not those that it made before.
        """
        with self._lock:
            if self._moved():  # the collection was re-embedded since: what was right before gives way
                self._encoder = None
            if self._encoder is None:
                named, space = self._options.named_encoder if self._checked is None else "", self._catalog.space
                name = named or self._catalog.encoder_source or AUTO
                self._check_name(name)
                if name == SAVED:
                    raise EncoderError(
                        f"{self._catalog.name} holds saved vectors, which no encoder here makes - "
                        "query it with an .npy file or a stored id such as seg:1"
                    )
                precision = (self._options.precision if self._checked is None else "") or precision_of(space)
                self._encoder = open_encoder(name, self._options.device, precision)
            source = self._encoder.opened_by or self._options.named_encoder
            self._catalog.check_space(self._encoder.space, source)
            if self._checked is not self._encoder:
                check_encoder(self._catalog, self._encoder)
                self._checked = self._encoder
            return self._encoder

    def _check_name(self, name: str) -> None:
        """Refuse another of the encoders that ship here than the collection's, before its weights are fetched."""
        held, space = self._catalog.encoder_source, self._catalog.space
        if space is not None and name != held and {name, held} <= set(names()):
            raise mismatch(space, held, name, name)

    def adopt(self, encoder: Encoder) -> None:
        """Take an open encoder in place of the one before; `open` holds it against the collection."""
        with self._lock:
            self._encoder, self._checked = encoder, None

    def _moved(self) -> bool:
        checked, space = self._checked, self._catalog.space
        return checked is not None and checked is self._encoder and space is not None and checked.space != space
