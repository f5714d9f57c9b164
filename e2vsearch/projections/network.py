"""The projection that ships with an encoder: a small network, centred on the collection. Arrays alone.

An encoder whose vectors are the first layer of its head, before the nonlinearity, leaves the rest of the head to the
collection. Other microphones, rooms and languages shift all vectors of a collection the same way; taken off before the
head, the shift does not reach it. `light`, which has heard no EMO-DB, there: .599 mAP without, .652 with it.

Which shift it is must not depend on how much anger is in a collection: the mean of calls that are mostly neutral would
make neutral ones of all. So segments are compared class by class with the training data, as far as the head itself is
sure of their class, once at rest and once centred by that, and the shifts of all classes averaged. Fitted on anger
alone it is .636 there, on eight of ten neutral .640.

Vectors may end in a voice part, which no head reads. By it a collection tells its voices apart, and each has a shift
beside the collection's own, as far as it speaks in several moods (`speakers`): on unheard voices of
CREMA-D .588 mAP, not .548, and hits of the same voice are 1.6 times chance, not 2.2.

Its last layer gives class probabilities, which gain by the centre as well. They stand under a prior: at rest an anchor,
in a collection what its own segments make of that (`e2vsearch.projections.prior`). Figures are from training/README.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.errors import AnalysisError
from e2vsearch.projections import speakers
from e2vsearch.projections.base import check, softmax
from e2vsearch.projections.npz import digest, pack, read
from e2vsearch.projections.prior import adapt_prior, with_prior
from e2vsearch.projections.speakers import Speakers
from e2vsearch.vectors.exact import Float64s, unit

KIND = "shipped"

NAME = KIND
"""There is one for an encoder, so that it needs no name of its own."""

PRIOR = 60.0
"""Segments, of a class and in all, that weigh as much as nothing being shifted. EMO-DB's 535 clips gain .037 mAP so,
100 of them .021, 20 of them .007. With 20 instead, `light`'s third weights gained .002, .006 and .007 more, but a small
collection of voices that the encoder mistakes, as made ones are, is carried away by its mistakes."""

_PASSES = 2
"""Times the classes are scored and the shift taken. On EMO-DB, with the third weights of `light`, one: leak 1.58 and
.668 of six classes; two: 1.55 and .672; five: 1.53 and .681. But each pass trusts more in what the head mistakes: with
a prior of 20 instead of 60, a collection that is all anger loses .01 mAP with every one."""

ANCHORED = 300
"""Segments that the anchor of the class prior is worth, or as many as there are: on unheard voices of CREMA-D the
calibration error against what raters heard is .035 so (benchmarks/names.py)."""

_FORMAT = "shipped-4"

_HEAD = (
    *("bias", "centre", "means", "narrow", "narrow_bias", "classes", "classes_bias", "anchor", "prior"),
    *("emotion", "nuance"),
)

_VOICES = ("aside", "places", "shifts")

_MEMBERS = (*_HEAD, *(f"voices.{name}" for name in _VOICES), "share")


@dataclass(frozen=True, slots=True, eq=False)
class NetworkProjection:
    """A head's layers behind the first, their embedding and the first layers' outputs side by side.

    With m members of w inputs each, v the first m w numbers of a vector, and s the share of nuance ::

        c = v - centre - shift                 (m w)
        g = silu(c + bias)                     (m w)
        e_i = unit(g_i N_i + n_i)              i = 1 … m
        (√(1-s) · unit(e E),  √s · unit(c R))  e: all e_i side by side
        softmax(mean of e_i C_i + c_i + log prior)  probabilities of the classes

    Here the length of v counts. What a vector has beyond is its voice part, and the shift that of its voice, by what
    unit(e E) is without it; where a collection's voices are not known there is none. Zeros stay zeros.
    """

    bias: NDArray[np.float32]  # (dim,)
    centre: NDArray[np.float32]  # (dim,) the collection's shift against what the encoder was trained on
    means: NDArray[np.float32]  # (c, dim) of what it was trained on, by what the encoder makes of it
    narrow: NDArray[np.float32]  # (members, dim / members, d)
    narrow_bias: NDArray[np.float32]  # (members, d)
    classes: NDArray[np.float32]  # (members, d, c)
    classes_bias: NDArray[np.float32]  # (members, c), all classes being equally common
    anchor: NDArray[np.float32]  # (c,) how common each class is where nothing is known, summing to one
    prior: NDArray[np.float32]  # (c,) the same in the collection
    emotion: NDArray[np.float32]  # (members d, e)
    nuance: NDArray[np.float32]  # (dim, r)
    voices: Speakers  # of the collection, beside its centre
    share: float  # of nuance, 0 to 1

    @property
    def kind(self) -> str:
        """How it was made."""
        return KIND

    @property
    def name(self) -> str:
        """What it is called."""
        return NAME

    @property
    def revision(self) -> str:
        """A hash of what is computed."""
        return digest(_FORMAT, self._arrays)

    @property
    def dim_in(self) -> int:
        """Length of the vectors that it takes."""
        return int(self.bias.size) + self.voices.dim

    @property
    def dim_emotion(self) -> int:
        """How many of the numbers that come out, the first ones, are the emotion's part."""
        return int(self.emotion.shape[1])

    def dim_out(self, dim: int) -> int:  # noqa: ARG002 - the same, whatever is asked of
        """Length of what it makes."""
        return int(self.emotion.shape[1] + self.nuance.shape[1])

    def apply(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """``(n, dim)`` to ``(n, e + r)``, in float64 within, so that a row comes out the same beside any others.

        Raises:
            SpaceMismatch: vectors of another length.
        """
        known = np.any(vectors, axis=1, keepdims=True)
        shifted = self._shifted(vectors)
        emotion = math.sqrt(1.0 - self.share) * self._embedded(self._parts(shifted))
        nuance = math.sqrt(self.share) * unit(shifted @ self.nuance.astype(np.float64))
        made: NDArray[np.float32] = (np.concatenate([emotion, nuance], axis=1) * known).astype(np.float32)
        return made

    def scores(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Probabilities of the encoder's classes ``(n, c)`` under the collection's prior; at rest, the encoder's own.

        Raises:
            SpaceMismatch: vectors of another length.
        """
        return with_prior(self.posteriors(vectors), self.prior).astype(np.float32)

    def posteriors(self, vectors: NDArray[np.floating[Any]]) -> Float64s:
        """Probabilities of the classes ``(n, c)``, all of them being equally common.

        Raises:
            SpaceMismatch: vectors of another length.
        """
        parts = self._parts(self._shifted(vectors))
        return softmax((parts @ self.classes.astype(np.float64) + self.classes_bias[:, None]).mean(axis=0))

    def centred(self, vectors: NDArray[np.floating[Any]]) -> NetworkProjection:
        """The same, centred on a collection and its voices, its prior adapted, wherever its own centre is.

        Args:
            vectors: ``(n, dim)`` of some of its segments; those of zeros count for nothing.

        Raises:
            SpaceMismatch: vectors of another length.
        """
        check(vectors, self.dim_in, self.name)
        known = np.asarray(vectors, np.float64)[np.any(vectors, axis=1)]
        heard, everyone = known[:, : self.bias.size], np.ones((len(known), 1))
        settled = len(known) / (len(known) + PRIOR)
        nobody = speakers.nobody(self.dim_emotion, self.voices.dim, self.bias.size)
        centred = replace(self, centre=np.zeros_like(self.centre), voices=nobody)
        for _ in range(_PASSES):
            (shift,) = speakers.shifts(everyone, centred.posteriors(known), heard, self.means, PRIOR)
            centred = replace(centred, centre=(shift * settled).astype(np.float32))
        centred = centred._told_apart(known)
        prior = adapt_prior(centred.posteriors(known), self.anchor, max(ANCHORED, len(known)))
        return replace(centred, prior=prior.astype(np.float32))

    def _told_apart(self, known: Float64s) -> NetworkProjection:
        """The same, each voice's shift beside the centre of all, as far as there are any to be told apart."""
        away, voice = self._shifted(known), known[:, self.bias.size :]
        emotion = self._embedded(self._parts(away))
        clusters = speakers.found(emotion, voice)
        if clusters is None:
            return self
        found, tight = clusters
        belonging, told = found.belonging(emotion, voice), self
        for _ in range(_PASSES):
            sure = told.posteriors(known)
            counted = tight * speakers.varied(belonging, sure)
            shift = counted[:, None] * speakers.shifts(belonging, sure, away, self.means, speakers.PRIOR)
            told = replace(self, voices=replace(found, shifts=shift.astype(np.float32)))
        return told

    def _shifted(self, vectors: NDArray[np.floating[Any]]) -> Float64s:
        """First layers' outputs ``(n, dim)`` less the collection's shift and the voices'."""
        check(vectors, self.dim_in, self.name)
        first, voice = np.split(np.asarray(vectors, np.float64), [self.bias.size], axis=1)
        away = first - self.centre.astype(np.float64)
        if len(self.voices):
            away -= self.voices.shift(self._embedded(self._parts(away)), voice)
        return away

    def _parts(self, shifted: Float64s) -> Float64s:
        """Each member's output ``(members, n, d)``, of length one."""
        raised = shifted + self.bias.astype(np.float64)
        bent = raised / (1.0 + np.exp(-np.maximum(raised, -500.0)))
        by_member = bent.reshape(len(bent), *self.narrow.shape[:2]).transpose(1, 0, 2)
        return unit(by_member @ self.narrow.astype(np.float64) + self.narrow_bias[:, None])

    def _embedded(self, parts: Float64s) -> Float64s:
        """The embedding ``(n, e)``, of length one."""
        joined = parts.transpose(1, 0, 2).reshape(parts.shape[1], len(self.emotion))
        return unit(joined @ self.emotion.astype(np.float64))

    def pack(self) -> bytes:
        """As ``.npz`` bytes: the same parameters give the same bytes."""
        return pack(dict(zip(_MEMBERS, self._arrays, strict=True)))

    @property
    def _arrays(self) -> tuple[NDArray[np.floating[Any]], ...]:
        head = (getattr(self, name) for name in _HEAD)
        known = (getattr(self.voices, name) for name in _VOICES)
        return (*head, *known, np.array([self.share], np.float32))


def unpack(data: bytes) -> NetworkProjection:
    """The projection in ``.npz`` bytes.

    Raises:
        AnalysisError: they are something else, or shapes do not fit together.
    """
    damaged = AnalysisError(
        f"projection {NAME!r} is damaged, which ingesting anything with its encoder mends, or an earlier version's - "
        "then search raw vectors: e2vsearch projection use raw, or ingest into a new collection"
    )
    try:
        *head, aside, places, shifts, share = read(data, _MEMBERS)
    except ValueError as error:
        raise damaged from error
    bias, centre, means, narrow, narrow_bias, classes, classes_bias, anchor, prior, emotion, nuance = head
    if bias.ndim != 1 or narrow.ndim != 3 or not all(each.ndim == 2 for each in (means, emotion, nuance, places)):
        raise damaged
    (dim,), (members, width, each), count = bias.shape, narrow.shape, len(means)
    found = (centre.shape, means.shape[1], members * width, narrow_bias.shape, emotion.shape[0], nuance.shape[0])
    fits = found == ((dim,), dim, dim, (members, each), members * each, dim) and emotion.shape[1] > 0
    fits = fits and share.shape == (1,) and 0.0 <= share[0] <= 1.0
    fits = fits and (classes.shape, classes_bias.shape) == ((members, each, count), (members, count))
    fits = fits and all(each.shape == (count,) and each.min() > 0 for each in (anchor, prior))
    known, voice = places.shape
    fits = fits and (aside.shape, shifts.shape) == ((emotion.shape[1] + 1, voice), (known, dim))
    if not fits:
        raise damaged
    named = dict(zip(_HEAD, head, strict=True))
    return NetworkProjection(**named, voices=Speakers(aside, places, shifts), share=float(share[0]))
